"""Decide what somebody sees, and have them see it again, wherever they come from.

    found = decide(prop, Visitor("visitor-1", names=names_of("visitor-1")), known={"plan": "gold"})

Whoever has seen a variation sees it again, whatever its share has become. Whoever logs in goes on
with what they saw before, unless they have been given something by that name already: then they
see that, on each of their devices.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from django.db import router
from django.utils import timezone

from ..savepoints import retried
from ..tracking.exceptions import InvalidName, TooManyNames
from ..tracking.identities import Kind, Name, identify, name
from ..tracking.models import Identity
from ..tracking.properties import Known
from . import knowledge, live, rules
from .live import InForce
from .models import Assignment
from .rules import Choice

__all__ = ["Decided", "Visitor", "decide", "identity_of", "keep", "kept_by", "known_of", "names_of"]

#: Times that somebody may be erased between being named and being written of.
TURNS = 5


class Visitor(NamedTuple):
    """Who is decided for."""

    #: By which they are put into buckets, and which `fs_users` names.
    visitor_id: str
    #: Those they are known by; none where nothing of them is to be kept.
    names: Sequence[Name] = ()
    #: What they were called before they logged in, if they have.
    anonymous_id: str = ""
    anonymous_names: Sequence[Name] = ()
    #: Whether what they are given may be written down.
    has_consent: bool = True
    #: What they are put into buckets by instead, if they are to be with others.
    hashed_id: str = ""


class Decided(NamedTuple):
    """What somebody sees."""

    choices: list[Choice]
    panic: bool


def names_of(visitor_id: str) -> list[Name]:
    """Return what somebody is known by whom clients call by an id, nothing where by none."""
    try:
        return [name(Kind.CLIENT, visitor_id)] if visitor_id else []
    except InvalidName:
        return []


def decide(
    prop: Known,
    visitor: Visitor,
    *,
    known: Mapping[str, Any],
    ours: Mapping[str, Any] | None = None,
    only: str = "",
    cached: Collection[str] = (),
) -> Decided:
    """Decide what somebody sees in a property; of one campaign `only`, if that is named.

    `known` is what was told of them, and `ours` what the suite itself knows just now, by the keys
    of knowledge.py; whatever else of that conditions ask for is looked up.

    No query, but one where somebody may have another variation than their bucket says: shares have
    been changed, or people have logged in. What somebody is given who has logged in is written
    down the first time, by two queries and a transaction.

    `cached` are the ids of variations that whoever asks says somebody was given before. They see
    those where they are meant by the group still, and the variation is one of it; unless it is
    known here what they have had, which comes first. What they would not be given otherwise is
    written down, so that they see it wherever they come from.
    """
    found = live.of_property(prop.id)
    if found.panic:
        return Decided([], panic=True)
    force = found.now()
    known = known_of(prop, visitor, known, force, ours or {})
    given = rules.given(force.campaigns, cached) if cached else {}
    choices = _choices(prop, visitor, known, force, given)
    if only:
        choices = [each for each in choices if only in (each.campaign_id, each.slug)]
    return Decided(choices, panic=False)


def known_of(
    prop: Known,
    visitor: Visitor,
    told: Mapping[str, Any],
    force: InForce,
    ours: Mapping[str, Any],
) -> Mapping[str, Any]:
    """Return what is known of somebody: what was told of them, and what only this suite knows.

    No query where no condition asks for the latter.
    """
    if not force.asks_for_ours:
        return told
    names = [*visitor.names, *visitor.anonymous_names]
    told = {name: value for name, value in told.items() if not name.startswith(knowledge.PREFIX)}
    return {**told, **knowledge.of_names(prop, names, force.keys - ours.keys()), **ours}


def _choices(
    prop: Known,
    visitor: Visitor,
    known: Mapping[str, Any],
    force: InForce,
    given: Mapping[str, str],
) -> list[Choice]:
    campaigns = force.campaigns
    # Without their consent nothing is kept of them: they go by the name that stays.
    is_carried = bool(visitor.anonymous_id and visitor.names and visitor.has_consent)
    hashed_id = visitor.hashed_id or (visitor.anonymous_id if is_carried else "")
    is_asked = is_carried or bool(given) or force.keeps
    if not (is_asked and visitor.names):
        return rules.decide(campaigns, known, visitor.visitor_id, hashed_id=hashed_id, kept=given)
    own, before = kept_by(prop, visitor)

    def chosen(given: Mapping[str, str]) -> list[Choice]:
        kept = {**given, **before, **own}
        return rules.decide(campaigns, known, visitor.visitor_id, hashed_id=hashed_id, kept=kept)

    choices = chosen(given)
    new: list[Choice] = []
    if is_carried:
        new = [each for each in choices if each.group_id not in own]
    elif given and visitor.has_consent:
        otherwise = {each.variation_id for each in chosen({})}
        new = [each for each in choices if each.variation_id not in otherwise]
    if new:
        keep(prop, visitor.names, new)
        # Another device may have been faster.
        own = kept_by(prop, visitor)[0]
        choices = chosen(given)
    return choices


def kept_by(prop: Known, visitor: Visitor) -> tuple[dict[str, str], dict[str, str]]:
    """Return the variations that somebody has had, by the ids of their groups: own, and before.

    One query.
    """
    own, before = set(visitor.names), set(visitor.anonymous_names)
    if not own | before:
        return {}, {}
    using = router.db_for_write(Assignment)
    rows = Assignment.objects.using(using).filter(
        identity__property=prop.id, identity__value__in={each.value for each in own | before}
    )
    # Nobody has to do without another who was given one that is no more, and has never seen it.
    rows = rows.exclude(exposed_on=None, variation__retired=True)
    found: tuple[dict[str, str], dict[str, str]] = ({}, {})
    columns = ("identity__kind", "identity__value", "group__uid", "variation__uid")
    for kind, value, group, variation in rows.order_by("pk").values_list(*columns):
        # A database may take values for equal that are not.
        for which, names in enumerate((own, before)):
            if (kind, value) in names:
                found[which].setdefault(group, variation)
    return found


def keep(
    prop: Known, names: Sequence[Name], choices: Sequence[Choice], *, has_moved: bool = True
) -> None:
    """Write down what somebody is given, unless they have been given something already.

    `has_moved` says that it may be another than their bucket has: from then on it is looked up.
    """
    using = router.db_for_write(Assignment)
    now = timezone.now()

    def write() -> None:
        identity_id = identity_of(prop, names, using)
        Assignment.objects.using(using).bulk_create(
            [
                Assignment(
                    identity_id=identity_id,
                    campaign_id=each.keys.campaign,
                    group_id=each.keys.group,
                    variation_id=each.keys.variation,
                    version=each.version,
                    assigned_on=now,
                )
                for each in choices
            ],
            ignore_conflicts=True,
        )
        if has_moved:
            live.note_that_it_keeps(prop.id, using)

    retried(write, using)


def identity_of(prop: Known, names: Sequence[Name], using: str) -> int:
    """Return the key of the first of somebody's names, which all are one person's from now on.

    To be called in a transaction, until whose end nobody erases the name.
    """
    kind, value = names[0]
    rows = Identity.objects.using(using).filter(property=prop.id, kind=kind, value=value)
    for _ in range(TURNS):
        try:
            identify(prop.row, names)
        except TooManyNames:
            identify(prop.row, names[:1])
        pk = rows.select_for_update().values_list("pk", flat=True).first()
        if pk is not None:
            return int(pk)
    raise RuntimeError("names: whoever goes by them is erased again and again")
