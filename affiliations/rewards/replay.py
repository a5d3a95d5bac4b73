"""Say what partners would have earned by other rules; nothing is written.

What depends on what a partner has brought before is counted in memory, in the order in which the
conversions came, so that there are no more queries than batches. Groups, and partners' own people,
are those of today.
"""

from __future__ import annotations

import copy
import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any, NamedTuple

from django.db import models, router
from django.utils import timezone

from ..models import Conversion, Partner, Share
from ..sums import halves, joined
from . import commissions, terms
from .commissions import Part
from .models import Commission, CommissionRule, Entry, PartnerGroup, Review
from .terms import PERIODS, Claim, History, Terms

__all__ = ["Outcome", "Replay", "drafts", "in_all", "replay"]

#: Conversions that are read together.
BATCH = 500

#: What is told how many conversions of how many are done.
Progress = Callable[[int, int], None]


@dataclass
class Outcome:
    """What a partner has earned in a currency and what it would have, in minor units.

    Less what was taken back; `currency` is an ISO 4217 code.
    """

    partner: Partner
    currency: str
    earned: int = 0
    would_earn: int = 0

    @property
    def difference(self) -> int:
        """How much more it would have been."""
        return self.would_earn - self.earned


def drafts() -> list[CommissionRule]:
    """Return the rules that are not published yet."""
    using = router.db_for_write(CommissionRule)
    return list(CommissionRule.objects.using(using).filter(published_on=None).order_by("pk"))


def replay(
    since: datetime, tried: Iterable[CommissionRule] = (), *, progress: Progress | None = None
) -> list[Outcome]:
    """Return what each partner has earned since a moment, and would have by the rules `tried`.

    As if these had been published then, whatever they say of when they are valid, and none of those
    that they replace ever since; with the other published rules, as they were. One outcome for each
    partner and currency that anything was, or would have been, earned in.
    """
    found = Replay(since, tried)
    for done, total in found.run():
        if progress is not None:
            progress(done, total)
    return found.outcomes()


def in_all(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return the sum of each currency, in their order; whose partners say nothing."""
    found: dict[str, Outcome] = {}
    for each in outcomes:
        total = found.setdefault(each.currency, Outcome(each.partner, each.currency))
        total.earned += each.earned
        total.would_earn += each.would_earn
    return [found[currency] for currency in sorted(found)]


class _Rule(NamedTuple):
    """A rule with what is asked of it for each conversion."""

    rule: CommissionRule
    terms: Terms
    rank: tuple[Any, ...]


class _Counted(NamedTuple):
    """What a commission counts as in what comes after it, by which persons it is known."""

    partner: int
    lineage: Any
    when: datetime
    #: What was earned is in the first, and what it was earned for in the other.
    currency: str
    base_currency: str
    base: int
    minor: int
    persons: tuple[tuple[str, int], ...]


@dataclass
class Replay:
    """What `replay` does, for whoever wants to see it step by step: `run`, then `outcomes`."""

    since: datetime
    tried: Iterable[CommissionRule]
    #: By partner, lineage, currency, and the beginning of a period: number, amount, earned.
    volumes: dict[tuple[Any, ...], list[int]] = field(
        default_factory=lambda: defaultdict(lambda: [0, 0, 0])
    )
    #: By partner, lineage and person: when they have converted.
    times: dict[tuple[Any, ...], list[datetime]] = field(default_factory=lambda: defaultdict(list))
    known: set[tuple[str, int]] = field(default_factory=set)
    #: How to count out what counts until it was taken back whole or rejected, the earliest first.
    ending: list[tuple[datetime, int, Callable[[], None]]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)
    found: dict[tuple[int, str], Outcome] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.using = router.db_for_write(Entry)
        tried = [copy.copy(rule) for rule in self.tried]
        for rule in tried:
            rule.published_on, rule.valid_from, rule.valid_until = self.since, None, None
        replaced = {rule.lineage for rule in tried}
        published = CommissionRule.objects.using(self.using).filter(published_on__isnull=False)
        rules = [*tried, *published.exclude(lineage__in=replaced)]
        self.by_partner: dict[int | None, list[_Rule]] = defaultdict(list)
        self.by_group: dict[int, list[_Rule]] = defaultdict(list)
        self.groups: dict[int, list[int]] = defaultdict(list)
        #: Of the lineages that look back: which periods they ask for, and whether for persons.
        self.periods: dict[Any, set[str]] = defaultdict(set)
        self.personal: set[Any] = set()
        for rule in rules:
            each = _Rule(rule, rule.terms, rule.rank)
            if rule.group_id is None:
                self.by_partner[rule.partner_id].append(each)
            else:
                self.by_group[rule.group_id].append(each)
            if each.terms.tiers or each.terms.period_cap is not None:
                self.periods[rule.lineage].add(each.terms.period)
            if each.terms.times is not None or each.terms.months is not None:
                self.personal.add(rule.lineage)
        members = PartnerGroup.partners.through.objects.using(self.using)
        in_question = members.filter(partnergroup__in=list(self.by_group))
        for group, partner in in_question.values_list("partnergroup", "partner"):
            self.groups[partner].append(group)
        #: Rules by partner and trigger, the most specific first.
        self.chosen_from: dict[tuple[int, str], list[_Rule]] = {}

    def run(self) -> Iterator[tuple[int, int]]:
        """Go through the conversions in their order; yield how many of how many are done."""
        rows = Conversion.objects.using(self.using).filter(
            created_on__gte=self.since, created_on__lte=timezone.now()
        )
        total, done = rows.count(), 0
        yield done, total
        self._count_volumes_before()
        left = rows.order_by("created_on", "pk")
        while batch := list(left[:BATCH]):
            self._replay(batch)
            last = batch[-1]
            later = models.Q(created_on__gt=last.created_on)
            later |= models.Q(created_on=last.created_on, pk__gt=last.pk)
            left = rows.filter(later).order_by("created_on", "pk")
            done += len(batch)
            yield done, total

    def outcomes(self) -> list[Outcome]:
        """Return what has come of it so far, by partner and currency."""
        return sorted(
            (each for each in self.found.values() if each.earned or each.would_earn),
            key=lambda each: (each.partner.pk, each.currency),
        )

    def _replay(self, batch: Sequence[Conversion]) -> None:
        ids = [conversion.pk for conversion in batch]
        shares: dict[int, list[Share]] = defaultdict(list)
        rows = Share.objects.using(self.using).filter(conversion__in=ids)
        for share in rows.select_related("visitor__partner").order_by("pk"):
            shares[share.conversion_id].append(share)
        partners = {share.visitor.partner_id for each in shares.values() for share in each}
        users = {each.user_id for each in batch if each.user_id is not None}
        people = Partner.users.through.objects.using(self.using)
        people = people.filter(partner__in=partners, user__in=users)
        own = set(people.values_list("partner", "user"))
        reviews = Review.objects.using(self.using).filter(
            entry__commission__conversion__in=ids, outcome=Review.Outcome.REJECTED
        )
        rejected = {
            (conversion_id, partner_id): when
            for conversion_id, partner_id, when in reviews.values_list(
                "entry__commission__conversion", "entry__commission__partner", "resolved_on"
            )
        }
        written: dict[int, list[Any]] = defaultdict(list)
        found = Commission.objects.using(self.using).filter(conversion__in=ids, minor__gt=0)
        for conversion_id, *earned in found.values_list(
            "conversion", "partner", "currency", "minor"
        ):
            written[conversion_id].append(earned)
        visitors = {share.visitor_id for each in shares.values() for share in each}
        self._count_times_before("user", "conversion__user", users)
        self._count_times_before("visitor", "visitor", visitors)
        for conversion in batch:
            parts = commissions.parts_of(conversion, shares[conversion.pk])
            of_all = {part.partner.pk: part.partner for part in parts}
            for partner_id, currency, minor in written[conversion.pk]:
                if (conversion.pk, partner_id) not in rejected and partner_id in of_all:
                    left = minor - commissions.gone_of(minor, conversion)
                    self._outcome(of_all[partner_id], currency).earned += left
            for part, currency in self._earn(conversion, parts, own, rejected):
                minor = part.earned.minor
                if minor and (conversion.pk, part.partner.pk) not in rejected:
                    left = minor - commissions.gone_of(minor, conversion)
                    self._outcome(part.partner, currency).would_earn += left

    def _outcome(self, partner: Partner, currency: str) -> Outcome:
        key = partner.pk, currency
        if key not in self.found:
            self.found[key] = Outcome(partner, currency)
        return self.found[key]

    # What one conversion earns: as in commissions.py, but that nothing is asked of the database

    def _earn(
        self,
        conversion: Conversion,
        parts: Sequence[Part],
        own: set[tuple[int, Any]],
        rejected: Mapping[tuple[int, int], datetime | None],
    ) -> list[tuple[Part, str]]:
        when = conversion.created_on
        while self.ending and self.ending[0][0] <= when:
            heapq.heappop(self.ending)[2]()
        paid: list[tuple[Part, _Rule]] = []
        for part in parts:
            chosen = self._choose(part.partner.pk, conversion)
            if chosen is not None and (part.partner.pk, conversion.user_id) not in own:
                paid.append((part, chosen))
                if chosen.terms.looks_back:
                    part.history = self._history(part, chosen, conversion)
        claims = [
            Claim(each.rule.pk, each.terms, part.minor, part.weight, part.history)
            for part, each in paid
        ]
        posted = []
        for (part, each), earned in zip(paid, terms.earn(claims, when), strict=True):
            part.earned = earned
            currency = each.rule.currency or conversion.currency
            posted.append((part, currency))
            lineage = each.rule.lineage
            if lineage not in self.periods and lineage not in self.personal:
                continue
            persons = _persons(conversion.user_id, part.visitor_id)
            counted = _Counted(
                part.partner.pk,
                lineage,
                when,
                currency,
                conversion.currency,
                part.minor,
                earned.minor,
                persons,
            )
            until = _first(conversion.reversed_on, rejected.get((conversion.pk, part.partner.pk)))
            for way in (self._count_volume, self._count_times):
                self._count(way, counted, until)
        return posted

    def _choose(self, partner_id: int, conversion: Conversion) -> _Rule | None:
        key = partner_id, conversion.trigger
        if key not in self.chosen_from:
            rules = [*self.by_partner.get(partner_id, ()), *self.by_partner.get(None, ())]
            for group in self.groups.get(partner_id, ()):
                rules += self.by_group[group]
            fitting = [each for each in rules if each.rule.trigger in ("", conversion.trigger)]
            self.chosen_from[key] = sorted(fitting, key=lambda each: each.rank, reverse=True)
        for each in self.chosen_from[key]:
            holds = each.rule.holds_at(conversion.created_on)
            if holds and not commissions.misfit(each.rule, conversion):
                return each
        return None

    def _history(self, part: Part, chosen: _Rule, conversion: Conversion) -> History:
        agreed, lineage, partner = chosen.terms, chosen.rule.lineage, part.partner.pk
        number = amount = earned = times = 0
        first = None
        if agreed.tiers or agreed.period_cap is not None:
            start = _start(agreed.period, conversion.created_on)
            key = partner, lineage, agreed.period, start
            number = self.volumes[key][0]
            _, amount, earned = self.volumes[*key, agreed.currency]
        if agreed.times is not None or agreed.months is not None:
            person = _persons(conversion.user_id, part.visitor_id)[0]
            theirs = self.times[partner, lineage, *person]
            times, first = len(theirs), min(theirs, default=None)
        return History(amount if agreed.by_amount else number, earned, times, first)

    # What counts

    def _count(
        self, way: Callable[[_Counted, int], None], each: _Counted, until: datetime | None
    ) -> None:
        """Count a commission in, and out again from when on it is lost."""
        way(each, 1)
        self._count_out(way, each, until)

    def _count_out(
        self, way: Callable[[_Counted, int], None], each: _Counted, until: datetime | None
    ) -> None:
        if until is not None:
            undo: Callable[[], None] = partial(way, each, -1)
            heapq.heappush(self.ending, (until, next(self.numbers), undo))

    def _count_volume(self, each: _Counted, sign: int) -> None:
        for period in self.periods.get(each.lineage, ()):
            key = each.partner, each.lineage, period, _start(period, each.when)
            # Each sum in its own currency, and the number in all of them.
            self.volumes[key][0] += sign
            self.volumes[*key, each.base_currency][1] += sign * each.base
            self.volumes[*key, each.currency][2] += sign * each.minor

    def _count_times(self, each: _Counted, sign: int) -> None:
        if each.lineage not in self.personal:
            return
        for person in each.persons:
            theirs = self.times[each.partner, each.lineage, *person]
            if sign > 0:
                theirs.append(each.when)
            else:
                theirs.remove(each.when)

    def _before(self) -> Any:
        """Return what was earned before, and still counted at the beginning."""
        rejected_on = commissions.rejections().order_by("resolved_on").values("resolved_on")[:1]
        rows = Commission.objects.using(self.using).filter(converted_on__lt=self.since)
        rows = rows.annotate(rejected_on=models.Subquery(rejected_on))
        for path in ("conversion__reversed_on", "rejected_on"):
            rows = rows.filter(models.Q(**{path: None}) | models.Q(**{f"{path}__gte": self.since}))
        return rows

    def _count_volumes_before(self) -> None:
        for period in PERIODS:
            lineages = [each for each, periods in self.periods.items() if period in periods]
            if not lineages:
                continue
            rows = self._before().filter(lineage__in=lineages)
            start = _start(period, self.since)
            if start is not None:
                rows = rows.filter(converted_on__gte=start)
            paid = "conversion__currency"
            sums = rows.order_by().values("partner", "lineage", "currency", paid)
            for row in sums.annotate(
                number=models.Count("pk"),
                **halves("amount", "base_minor"),
                **halves("earned", "minor"),
            ).iterator():
                key = row["partner"], row["lineage"], period, start
                self.volumes[key][0] += row["number"]
                self.volumes[*key, row[paid]][1] += joined(row, "amount")
                self.volumes[*key, row["currency"]][2] += joined(row, "earned")
        ends = models.Q(conversion__reversed_on__isnull=False) | models.Q(rejected_on__isnull=False)
        ending = self._before().filter(ends, lineage__in=[*self.periods])
        for row in ending.select_related("conversion"):
            self._count_out(self._count_volume, _counted(row), _lost_on(row))

    def _count_times_before(self, name: str, path: str, ids: set[int]) -> None:
        """Count what persons have brought before that have not come so far."""
        new = {each for each in ids if (name, each) not in self.known}
        if not new or not self.personal:
            return
        self.known |= {(name, each) for each in new}
        rows = self._before().filter(lineage__in=self.personal, **{f"{path}__in": new})
        for row in rows.select_related("conversion"):
            person = name, row.conversion.user_id if name == "user" else row.visitor_id
            self._count(self._count_times, _counted(row, person), _lost_on(row))


def _first(*moments: datetime | None) -> datetime | None:
    return min((each for each in moments if each is not None), default=None)


def _lost_on(row: Any) -> datetime | None:
    """Return from when on a commission counts for nothing, of those that were earned before."""
    return _first(row.conversion.reversed_on, row.rejected_on)


def _counted(row: Commission, *persons: tuple[str, int]) -> _Counted:
    """Return what a commission counts as; its conversion should have been selected with it."""
    return _Counted(
        row.partner_id,
        row.lineage,
        row.converted_on,
        row.currency,
        row.conversion.currency,
        row.base_minor,
        row.minor,
        persons,
    )


def _persons(user_id: Any, visitor_id: int) -> tuple[tuple[str, int], ...]:
    """Return as whom somebody is known again, the best first."""
    visitor = ("visitor", visitor_id)
    return (visitor,) if user_id is None else (("user", user_id), visitor)


def _start(period: str, when: datetime) -> datetime | None:
    found = terms.span(period, when)
    return found and found[0]
