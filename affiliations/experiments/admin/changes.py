"""Say in words what differs between two versions of a campaign."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ..allocation import shares
from ..models import Campaign
from ..targeting import read
from . import wording
from .shares import moved

__all__ = ["changes"]

Told = Mapping[str, Any]


def changes(before: Told, after: Told) -> list[str]:
    """Return what differs between the rules of two versions, a sentence each."""
    found = []
    if before["name"] != after["name"]:
        found.append(_was(_("Name"), before["name"], after["name"]))
    if before["slug"] != after["slug"]:
        text = _was(_("Slug"), before["slug"], after["slug"])
        found.append(_("%(text)s Programs that ask for the old one find nothing.") % {"text": text})
    if before["type"] != after["type"]:
        kinds = dict(Campaign.Type.choices)
        one, other = (str(kinds.get(each["type"], each["type"])) for each in (before, after))
        found.append(_was(_("Type"), one, other))
    found += _exclusion(before["exclusion"], after["exclusion"])
    old = {each["id"]: each for each in before["groups"]}
    new = {each["id"]: each for each in after["groups"]}
    for each in old.values():
        if each["id"] not in new:
            found.append(_("The group “%(name)s” is gone.") % {"name": each["name"]})
    for each in new.values():
        words = {"name": each["name"]}
        if each["id"] not in old:
            words["whom"] = wording.whom(read(each["targeting"]))
            found.append(_("The group “%(name)s” is new, for: %(whom)s.") % words)
        else:
            found += _group(old[each["id"]], each)
    stayed = [each for each in old if each in new]
    if stayed != [each for each in new if each in old]:
        found.append(_("The groups are asked in another order."))
    return found


def _was(what: str, old: str, new: str) -> str:
    words = {"what": what, "old": old, "new": new}
    return _("%(what)s: “%(new)s” in place of “%(old)s”.") % words


def _exclusion(old: Told | None, new: Told | None) -> list[str]:
    if old == new:
        return []
    if new is None:
        return [_("It is in no exclusion group any more.")]
    words = {"n": len(new["buckets"])}
    if old is None or old["id"] != new["id"]:
        return [
            _("It is in another exclusion group, of which %(n)s %% of all visitors are its own.")
            % words
        ]
    words["old"] = len(old["buckets"])
    return [_("Of its exclusion group %(n)s %% are its own, in place of %(old)s %%.") % words]


def _group(old: Told, new: Told) -> list[str]:
    name, found = new["name"], []
    if old["name"] != name:
        found.append(_was(_("Name of a group"), old["name"], name))
    if old["targeting"] != new["targeting"]:
        one, other = (wording.whom(read(each["targeting"])) for each in (old, new))
        text = _("“%(name)s” is for: %(new)s. Before for: %(old)s.")
        found.append(text % {"name": name, "old": one, "new": other})
    found += _variations(old, new)
    found += moves(old, new)
    return found


def _variations(old: Told, new: Told) -> list[str]:
    found = []
    old_shares, new_shares = shares(old["runs"]), shares(new["runs"])
    olds = {each["id"]: each for each in old["variations"]}
    news = {each["id"]: each for each in new["variations"]}
    for uid in [*olds, *(each for each in news if each not in olds)]:
        one, other = olds.get(uid), news.get(uid)
        words: dict[str, Any] = {
            "group": new["name"],
            "name": (other or one or {})["name"],
            "old": old_shares.get(uid, 0),
            "new": new_shares.get(uid, 0),
        }
        if other is None:
            text = _("“%(group)s”: nobody sees “%(name)s” any more, whoever has seen it included.")
            found.append(text % words)
            continue
        if one is None:
            found.append(_("“%(group)s”: “%(name)s” is new, with %(new)s %%.") % words)
            continue
        if words["old"] != words["new"]:
            text = _("“%(group)s”: “%(name)s” has %(new)s %% in place of %(old)s %%.")
            found.append(text % words)
        found += [each % words for each in _variation(one, other)]
    return found


def _variation(one: Told, other: Told) -> list[str]:
    found = []
    if one["name"] != other["name"]:
        was = one["name"].replace("%", "%%")
        found.append(_("“%(group)s”: “{was}” is called “%(name)s” now.").replace("{was}", was))
    if one["reference"] != other["reference"]:
        found.append(
            _("“%(group)s”: “%(name)s” is the reference now.")
            if other["reference"]
            else _("“%(group)s”: “%(name)s” is not the reference any more.")
        )
    # As JSON: 1 and 1.0 differ, and so do 1 and yes.
    olds, news = (
        {name: wording.as_json(value) for name, value in each["value"].items()}
        for each in (one, other)
    )
    for flag in [*olds, *(each for each in news if each not in olds)]:
        if olds.get(flag) == news.get(flag):
            continue
        words = {
            "flag": flag,
            "old": wording.literal(one["value"].get(flag)),
            "new": wording.literal(other["value"].get(flag)),
        }
        if flag not in news:
            text = _("%(flag)s is not set any more; it was %(old)s.") % words
        elif flag not in olds:
            text = _("%(flag)s is %(new)s; it was not set.") % words
        else:
            text = _("%(flag)s is %(new)s in place of %(old)s.") % words
        found.append(f"“%(group)s”, “%(name)s”: {text.replace('%', '%%')}")
    if one["type"] != other["type"]:
        found.append(_("“%(group)s”: “%(name)s” is of another kind."))
    return found


def moves(old: Told | None, new: Told) -> list[str]:
    """Return who of a group would see something else, leaving out what they have seen before."""
    found = moved(old, new)
    said = []
    if found.between:
        text = ngettext(
            "“%(name)s”: %(n)s of a hundred visitors goes from one variation to another.",
            "“%(name)s”: %(n)s of a hundred visitors go from one variation to another.",
            found.between,
        )
        said.append(text % {"name": new["name"], "n": found.between})
    if found.joining and old is not None:
        text = ngettext(
            "“%(name)s”: %(n)s of a hundred visitors, who saw nothing until now, sees a variation.",
            "“%(name)s”: %(n)s of a hundred visitors, who saw nothing until now, see a variation.",
            found.joining,
        )
        said.append(text % {"name": new["name"], "n": found.joining})
    if found.leaving:
        text = ngettext(
            "“%(name)s”: %(n)s of a hundred visitors sees nothing any more.",
            "“%(name)s”: %(n)s of a hundred visitors see nothing any more.",
            found.leaving,
        )
        said.append(text % {"name": new["name"], "n": found.leaving})
    return said
