"""Say in words what a campaign does: to whom, how often, and what they get to see."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext

from ...admin.lists import local, marked
from ..exceptions import InvalidCampaign, InvalidTargeting
from ..models import Campaign
from ..targeting import ALL_USERS, OF_ALL, PRESENCE, USERS, Condition, read

State = Campaign.State

#: As choices say them, and, with a value or several, conditions.
OPERATORS = {
    "EQUALS": gettext_lazy("is"),
    "NOT_EQUALS": gettext_lazy("is not"),
    "CONTAINS": gettext_lazy("contains"),
    "NOT_CONTAINS": gettext_lazy("does not contain"),
    "GREATER_THAN": gettext_lazy("is greater than"),
    "LOWER_THAN": gettext_lazy("is less than"),
    "GREATER_THAN_OR_EQUALS": gettext_lazy("is at least"),
    "LOWER_THAN_OR_EQUALS": gettext_lazy("is at most"),
    "STARTS_WITH": gettext_lazy("begins with"),
    "ENDS_WITH": gettext_lazy("ends with"),
    "SEMVER_EQUALS": gettext_lazy("is version"),
    "SEMVER_NOT_EQUALS": gettext_lazy("is not version"),
    "SEMVER_GREATER_THAN": gettext_lazy("is a version after"),
    "SEMVER_LOWER_THAN": gettext_lazy("is a version before"),
    "SEMVER_GREATER_THAN_OR_EQUALS": gettext_lazy("is at least version"),
    "SEMVER_LOWER_THAN_OR_EQUALS": gettext_lazy("is at most version"),
    "EXISTS": gettext_lazy("is known"),
    "NOT_EXISTS": gettext_lazy("is not known"),
}
#: What errors of a campaign begin with.
FIELDS = {
    "allocation": gettext_lazy("Shares"),
    "exclusion_share": gettext_lazy("Share of the exclusion group"),
    "groups": gettext_lazy("Groups"),
    "is_reference": gettext_lazy("Reference"),
    "modifications": gettext_lazy("Modifications"),
    "targeting": gettext_lazy("Who is meant"),
    "variations": gettext_lazy("Variations"),
}
LOOKS = {
    State.DRAFT: "pending",
    State.LIVE: "delivered",
    State.PAUSED: "pending",
    State.ARCHIVED: "canceled",
}
#: Values of a condition, and letters of each, that a sentence has room for.
FEW_VALUES, FEW_LETTERS = 8, 60


class Flag(NamedTuple):
    """What a variation sets, for people."""

    name: str
    kind: str
    text: str


def badge(campaign: Campaign) -> Any:
    """Return a campaign's state, coloured; of a live one also whether it is its time."""
    if campaign.state == State.LIVE:
        now = timezone.now()
        if campaign.starts_on is not None and now < campaign.starts_on:
            return marked("pending", _("live, not begun"))
        if campaign.ends_on is not None and now >= campaign.ends_on:
            return marked("canceled", _("live, over"))
    return marked(LOOKS[State(campaign.state)], campaign.get_state_display())


def moment(when: datetime) -> str:
    """Return a moment, by the site's clock."""
    return date_format(local(when), "DATETIME_FORMAT")


def schedule(campaign: Campaign) -> str:
    """Return from when until when a campaign is shown, in a few words."""
    first, last = campaign.starts_on, campaign.ends_on
    words = {"first": first and moment(first), "last": last and moment(last)}
    if first and last:
        return _("from %(first)s until %(last)s") % words
    if first:
        return _("from %(first)s on") % words
    return _("until %(last)s") % words if last else _("at any time")


def problem(error: InvalidCampaign) -> str:
    """Return what is wrong with a campaign, its field named as its page does."""
    field, _colon, text = str(error).partition(": ")
    return f"{FIELDS.get(field, field)}: {text}"


def condition(each: Condition) -> str:
    """Return a condition as part of a sentence, as `plan is “gold”`."""
    if each.key == ALL_USERS:
        return _("everybody")
    key = _("the visitor’s id") if each.key == USERS else each.key
    operator = each.operator
    if operator in PRESENCE:
        is_there = (operator == "EXISTS") == bool(each.value)
        return f"{key} {OPERATORS['EXISTS' if is_there else 'NOT_EXISTS']}"
    values = each.value if isinstance(each.value, list) else [each.value]
    return f"{key} {OPERATORS[operator]} {_listed(values, operator in OF_ALL)}"


def _listed(values: Sequence[Any], is_none_of: bool) -> str:
    if not values:
        return _("(no value: never so)") if not is_none_of else _("(no value: always so)")
    shown = [literal(each) for each in values[:FEW_VALUES]]
    if more := len(values) - len(shown):
        shown.append(_("%(n)s more") % {"n": more})
    if len(shown) == 1:
        return shown[0]
    glue = pgettext("none of several values", "nor") if is_none_of else _("or")
    return f"{', '.join(shown[:-1])} {glue} {shown[-1]}"


def literal(value: Any) -> str:
    """Return a value so that a text is told from a number, and that from yes and no."""
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, str):
        return _("“%(text)s”") % {"text": Truncator(value).chars(FEW_LETTERS)}
    return Truncator(as_json(value)).chars(FEW_LETTERS)


def as_json(value: Any) -> str:
    """Return JSON; as it stands even where Python writes no number that long."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except ValueError:
        return _("a number of many digits")


def conditions(targeting: Iterable[Iterable[Condition]]) -> list[str]:
    """Return each list of conditions as a sentence's part; nothing where everybody is meant."""
    found = []
    for listed in targeting:
        told = [condition(each) for each in listed if each.key != ALL_USERS]
        if not told:
            return []
        found.append(_(" and ").join(told))
    return found


def whom(targeting: Iterable[Iterable[Condition]]) -> str:
    """Return who is meant, as one text."""
    listed = conditions(targeting)
    return _("; or ").join(listed) if listed else _("everybody")


def whom_of(targeting: Any) -> str:
    """Return who is meant by targeting as it is stored."""
    try:
        return whom(read(targeting))
    except InvalidTargeting as error:
        return str(error)


def flags(value: Any) -> list[Flag]:
    """Return what a variation sets, with the kind of each value."""
    return [Flag(name, _kind(each), _shown(each)) for name, each in value.items()]


def _kind(value: Any) -> str:
    if value is None:
        return _("empty")
    if isinstance(value, bool):
        return _("yes or no")
    if isinstance(value, int):
        return _("whole number")
    if isinstance(value, float):
        return _("decimal number")
    if isinstance(value, str):
        return _("text")
    return _("list") if isinstance(value, list) else _("object")


def _shown(value: Any) -> str:
    return Truncator(value if isinstance(value, str) else as_json(value)).chars(300)
