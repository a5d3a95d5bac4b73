"""Say what a campaign has led to: who has seen what, what they did then, and what that tells.

    found = results(campaign, "event:signup", since=monday)
    for group in found.groups:
        for each in group.variations:
            print(each.name, each.visitors, each.rates.conversions, each.rates.uplift)

What each figure means is told in docs/explanation/experiment-statistics.md, and who counts in
docs/how-to/experiments-results.md.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from typing import Any

from django.conf import settings as django_settings
from django.db import router
from django.utils import timezone

from ..models import Partner
from ..money import DECIMAL_PLACES, MAX_MINOR
from . import exposed, figures
from .allocation import shares
from .exceptions import InvalidResults
from .exposed import Asked, Saw, Won
from .figures import Missing, RateFigures, Reason, RevenueFigures, Verdict
from .goals import Goal, goals_of
from .models import Assignment, Campaign, CampaignVersion, Variation
from .statistics import Rates, Revenue, SampleRatio, sample_ratio

__all__ = [
    "Goal",
    "GroupResults",
    "Reason",
    "Results",
    "VariationResults",
    "Verdict",
    "goals_of",
    "results",
]

LEVEL = 0.95
#: What a level may be: beyond, comparisons of many variations would be too fine to be worked out.
LOWEST, HIGHEST = 0.5, 0.999
MOST_DAYS = 3650
#: Of those who have spent something, the part who have spent no more than a suggested cap.
MOSTLY = (99, 100)


@dataclass(frozen=True, slots=True)
class VariationResults:
    """What came of a variation."""

    id: str
    name: str
    is_reference: bool
    is_retired: bool
    #: People who have seen it, and no other of its group.
    visitors: int
    rates: RateFigures
    #: None where nobody has spent anything.
    revenue: RevenueFigures | None


@dataclass(frozen=True, slots=True)
class GroupResults:
    """What came of an audience."""

    id: str
    name: str
    variations: tuple[VariationResults, ...]
    #: People who have seen more than one variation, and so count for none.
    mixed: int
    #: How many visitors each variation should have by the shares that were in force, in their
    #: order; it and the ratio are None where that cannot be said, of which `missing` tells why.
    expected: tuple[float, ...] | None
    sample_ratio: SampleRatio | None
    missing: Missing
    verdict: Verdict
    revenue_verdict: Verdict | None
    #: How often the goal was reached with an amount in another currency, which is left out.
    other_currencies: Mapping[str, int]

    @property
    def visitors(self) -> int:
        """How many people count."""
        return sum(each.visitors for each in self.variations)


@dataclass(frozen=True, slots=True)
class Results:
    """What came of a campaign, by its groups, and what was asked."""

    campaign: Campaign
    goal: Goal
    since: datetime | None
    until: datetime | None
    days: int | None
    partner: Partner | None
    #: That was asked for, or in which most people have spent something; "" if nobody has.
    currency: str
    cap: int | None
    level: float
    groups: tuple[GroupResults, ...]
    #: What 99 % of those who have spent something have not spent more than, in minor units.
    suggested_cap: int | None


def results(
    campaign: Campaign,
    goal: Goal | str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    partner: Partner | None = None,
    currency: str | None = None,
    cap: int | None = None,
    days: int | None = None,
    level: float = LEVEL,
) -> Results:
    """Return what came of a campaign, by three queries.

    People count who have seen it for the first time from `since` on and before `until`; of one
    `partner` only, if that had sent them when they did. What they did from that moment on counts,
    before `until` and, if said, within so many `days` of it. What they have spent is summed up in
    one `currency`, for each of them up to `cap`, in minor units. `level` is the probability with
    which intervals hold the truth. Raises InvalidResults, which names the argument.
    """
    wanted = goal if isinstance(goal, Goal) else Goal.of(goal)
    _check(since, until, days, level)
    _check_money(currency, cap)
    if partner is not None and (not isinstance(partner, Partner) or partner.pk is None):
        raise InvalidResults("partner: must be a Partner that is in the database")
    using = router.db_for_read(Assignment)
    asked = Asked(
        campaign.pk,
        campaign.property_id,
        wanted,
        since,
        until,
        days,
        None if partner is None else partner.pk,
    )
    counted = _Counted(exposed.found(asked, using))
    currency = counted.usual_currency() if currency is None else currency
    published = _published(campaign, using)
    variations = Variation.objects.using(using).filter(group__campaign=campaign)
    groups: dict[int, list[Variation]] = defaultdict(list)
    for row in variations.select_related("group").order_by(
        "group__position", "group", "position", "pk"
    ):
        # Of a draft nothing has come.
        if row.pk in counted.visitors or row.uid in published.variations:
            groups[row.group_id].append(row)
    return Results(
        campaign=campaign,
        goal=wanted,
        since=since,
        until=until,
        days=days,
        partner=partner,
        currency=currency,
        cap=cap,
        level=level,
        groups=tuple(
            _group(pk, rows, counted, published, (currency, cap, level))
            for pk, rows in groups.items()
        ),
        suggested_cap=counted.suggested_cap(currency),
    )


class _Counted:
    """What was found, added up."""

    def __init__(self, rows: Iterable[Saw | Won]) -> None:
        self.visitors: Counter[int] = Counter()
        #: By group, and by version.
        self.mixed: Counter[int] = Counter()
        self.versions: dict[int, Counter[int]] = defaultdict(Counter)
        self.conversions: Counter[int] = Counter()
        #: How often, by group and by currency.
        self.times: dict[int, Counter[str]] = defaultdict(Counter)
        #: How many people have spent so much, by variation and currency.
        self.spent: dict[tuple[int, str], Counter[int]] = defaultdict(Counter)
        for row in rows:
            if isinstance(row, Won):
                self.conversions[row.variation_id] += row.converted
                if row.currency:
                    self.times[row.group_id][row.currency] += row.times
                    self.spent[row.variation_id, row.currency][row.minor] += row.people
                continue
            # There, even if only among those who have seen another one, too.
            self.visitors[row.variation_id] += 0 if row.is_mixed else row.people
            if row.is_mixed:
                self.mixed[row.group_id] += row.people
            else:
                self.versions[row.group_id][row.version] += row.people

    def usual_currency(self) -> str:
        """Return the currency in which most people have spent something."""
        people: Counter[str] = Counter()
        for (_, currency), spent in self.spent.items():
            people[currency] += spent.total()
        return min(people, key=lambda each: (-people[each], each), default="")

    def suggested_cap(self, currency: str) -> int | None:
        """Return what 99 of 100 who have spent something have not spent more than."""
        spent: Counter[int] = Counter()
        for (_, each), theirs in self.spent.items():
            if each == currency:
                spent.update({minor: n for minor, n in theirs.items() if minor > 0})
        part, whole = MOSTLY
        people, seen = spent.total(), 0
        for minor in sorted(spent):
            seen += spent[minor]
            if seen * whole >= people * part:
                return minor
        return None

    def revenue(self, variation_id: int, currency: str, cap: int | None) -> Revenue:
        """Return the sums of what the visitors of a variation have spent."""
        total = squares = 0
        for minor, people in self.spent.get((variation_id, currency), {}).items():
            capped = minor if cap is None else min(minor, cap)
            total += people * capped
            squares += people * capped**2
        return Revenue(self.visitors[variation_id], total, squares)


@dataclass(frozen=True, slots=True)
class _Published:
    """What the versions of a campaign say."""

    #: The ids of all variations that were ever in force.
    variations: frozenset[str]
    #: The shares by version, by the key of the group, by the id of the variation.
    shares: Mapping[int, Mapping[int, Mapping[str, int]]]


def _published(campaign: Campaign, using: str) -> _Published:
    rows = CampaignVersion.objects.using(using).filter(campaign=campaign)
    variations: set[str] = set()
    found = {}
    # One at a time: what variations hold may be large.
    for number, text in rows.values_list("number", "rules").iterator(chunk_size=50):
        groups = json.loads(text)["groups"]
        variations.update(each["id"] for group in groups for each in group["variations"])
        found[number] = {group["pk"]: shares(group["runs"]) for group in groups}
    return _Published(frozenset(variations), found)


def _group(
    pk: int,
    rows: Sequence[Variation],
    counted: _Counted,
    published: _Published,
    asked: tuple[str, int | None, float],
) -> GroupResults:
    currency, cap, level = asked
    names = [each.uid for each in rows]
    visitors = [counted.visitors[each.pk] for each in rows]
    reference = next((i for i, each in enumerate(rows) if each.is_reference), None)
    rates = [
        Rates(number, counted.conversions[row.pk])
        for row, number in zip(rows, visitors, strict=True)
    ]
    rate_figures = figures.of_rates(rates, reference, level)
    revenues = [counted.revenue(each.pk, currency, cap) for each in rows]
    revenue_figures = figures.of_revenue(revenues, reference, level) if currency else []
    expected, reason = _expected(pk, names, counted, published)
    ratio = None if expected is None else sample_ratio(visitors, expected)
    said: Any = {"reference": reference, "is_mismatch": ratio is not None and ratio.is_mismatch}
    return GroupResults(
        id=rows[0].group.uid,
        name=rows[0].group.name,
        variations=tuple(
            VariationResults(row.uid, row.name, row.is_reference, row.retired, number, rate, money)
            for row, number, rate, money in zip_longest(
                rows, visitors, rate_figures, revenue_figures
            )
        ),
        mixed=counted.mixed[pk],
        expected=expected,
        sample_ratio=ratio,
        missing={"sample_ratio": reason} if reason else {},
        verdict=figures.verdict(rate_figures, **said),
        revenue_verdict=figures.verdict(revenue_figures, **said) if currency else None,
        other_currencies={
            name: times for name, times in sorted(counted.times[pk].items()) if name != currency
        },
    )


def _expected(
    pk: int, names: Sequence[str], counted: _Counted, published: _Published
) -> tuple[tuple[float, ...] | None, Reason | None]:
    """Return how many visitors each variation should have, or why that cannot be said.

    By the shares of the version that decided for each of them, so that it makes no difference how
    often shares were changed.
    """
    versions = counted.versions[pk]
    if not versions.total():
        return None, Reason.NOBODY
    if len(names) < 2:
        return None, Reason.ALONE
    found = [0.0] * len(names)
    for version, people in versions.items():
        theirs = published.shares.get(version, {}).get(pk, {})
        whole = sum(theirs.values())
        # Of whoever is not shown any more nobody knows it, and the others would seem too many.
        if not whole or not theirs.keys() <= set(names):
            return None, Reason.NO_SHARES
        for i, name in enumerate(names):
            found[i] += people * theirs.get(name, 0) / whole
    return tuple(found), None


# What was asked


def _check(since: Any, until: Any, days: Any, level: Any) -> None:
    for name, moment in (("since", since), ("until", until)):
        if moment is None:
            continue
        if not isinstance(moment, datetime):
            raise InvalidResults(f"{name}: must be a datetime, not {type(moment).__name__}")
        if timezone.is_aware(moment) != django_settings.USE_TZ:
            kind = "an aware" if django_settings.USE_TZ else "a naive"
            raise InvalidResults(f"{name}: must be {kind} datetime")
    if since is not None and until is not None and since >= until:
        raise InvalidResults("until: must be later than since")
    if days is not None and (type(days) is not int or not 1 <= days <= MOST_DAYS):
        raise InvalidResults(f"days: must be a whole number from 1 to {MOST_DAYS}")
    if type(level) not in (int, float) or not LOWEST <= level <= HIGHEST:
        raise InvalidResults(f"level: must be a number from {LOWEST} to {HIGHEST}")


def _check_money(currency: Any, cap: Any) -> None:
    if currency is not None and (not isinstance(currency, str) or currency not in DECIMAL_PLACES):
        raise InvalidResults("currency: must be an ISO 4217 code in capitals")
    if cap is not None and (type(cap) is not int or not 1 <= cap <= MAX_MINOR):
        raise InvalidResults("cap: must be a whole number of minor units, above zero")
