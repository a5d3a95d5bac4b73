"""Say in everyday words what a rule is, for whom, and what it pays."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from django.db.models import F, Q
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ...admin.amounts import amount
from ...admin.lists import local
from ...models import Conversion
from ...money import DECIMAL_PLACES
from .. import commissions, terms
from ..models import CommissionRule
from ..terms import Claim, Earned, History, Terms

#: Of a rule that is for any currency, and so for this one too.
ANY_CURRENCY = "EUR"
#: What the preview shows the pay of, in major units; more of them where these are the only ones.
ROUND = (10, 100, 1000)
NO_PLACES = 100

IN_PERIOD = {
    "month": gettext_lazy("in a month"),
    "quarter": gettext_lazy("in a quarter"),
    "year": gettext_lazy("in a year"),
    "ever": gettext_lazy("in all"),
}
STATES = {
    "draft": gettext_lazy("Draft"),
    "ahead": gettext_lazy("Begins later"),
    "holds": gettext_lazy("Holds"),
    "ended": gettext_lazy("Ended"),
}


def rate(value: Decimal | int, currency: str) -> str:
    """Return a percentage, or a flat sum."""
    if isinstance(value, int):
        return amount(value, currency)
    written = number_format(Decimal(str(terms.plain(value))), use_l10n=True)
    return f"{written}\N{NO-BREAK SPACE}%"


def number(value: int) -> str:
    """Return a number with its thousands apart."""
    return number_format(value, use_l10n=True, force_grouping=True)


def moment(when: datetime) -> str:
    """Return a moment by the site's clock."""
    return str(date_format(local(when), "DATETIME_FORMAT"))


def whose(rule: CommissionRule) -> str:
    """Say for whom a rule is."""
    if rule.partner_id is not None:
        return str(rule.partner)
    if rule.group_id is not None:
        return _("group %(group)s") % {"group": rule.group}
    return _("everybody")


def pays(rule: CommissionRule) -> str:
    """Say in a sentence what a rule pays."""
    return ", ".join(_clauses(rule, rule.terms))


def _clauses(rule: CommissionRule, agreed: Terms) -> Iterator[str]:
    period = IN_PERIOD[agreed.period]
    said = rate(agreed.rate, agreed.currency)
    if agreed.is_flat:
        yield _("%(sum)s each") % {"sum": said}
    elif agreed.currency:
        yield _("%(percent)s of amounts in %(currency)s") % {
            "percent": said,
            "currency": agreed.currency,
        }
    else:
        yield said
    for tier in agreed.tiers:
        words = {
            "rate": rate(tier.rate, agreed.currency),
            "start": start(tier.start, agreed),
            "period": period,
        }
        yield _("%(rate)s after the first %(start)s %(period)s") % words
    if rule.minimum_minor is not None:
        yield _("if worth %(sum)s or more") % {"sum": amount(rule.minimum_minor, agreed.currency)}
    if agreed.cap is not None:
        yield _("at most %(sum)s each") % {"sum": amount(agreed.cap, agreed.currency)}
    if agreed.period_cap is not None:
        words = {"sum": amount(agreed.period_cap, agreed.currency), "period": period}
        yield _("at most %(sum)s %(period)s") % words
    if agreed.times is not None:
        text = ngettext(
            "only for a person’s first conversion",
            "only for a person’s first %(n)s conversions",
            agreed.times,
        )
        yield text % {"n": number(agreed.times)}
    if agreed.months is not None:
        text = ngettext("for %(n)s month", "for %(n)s months", agreed.months)
        yield text % {"n": number(agreed.months)}


def start(value: int, agreed: Terms) -> str:
    """Return where a tier begins: a number, or an amount."""
    return amount(value, agreed.currency) if agreed.by_amount else number(value)


# What state a rule is in


def begins(rule: CommissionRule) -> datetime | None:
    """Return when a rule begins, or began, to hold; None for a draft."""
    if rule.published_on is None:
        return None
    return max(rule.published_on, rule.valid_from or rule.published_on)


def state(rule: CommissionRule, now: datetime) -> str:
    """Return which of STATES a rule is in."""
    first, last = begins(rule), rule.valid_until
    if first is None:
        return "draft"
    if last is not None and (last <= now or last <= first):
        return "ended"
    return "ahead" if first > now else "holds"


def in_state(name: str, now: datetime) -> Q:
    """Return the condition that a rule is in one of STATES."""
    if name == "draft":
        return Q(published_on=None)
    # Each of them true or false, never unknown, so that it can be negated.
    never = Q(valid_until__isnull=False, valid_until__lte=F("published_on"))
    never |= Q(
        valid_until__isnull=False, valid_from__isnull=False, valid_until__lte=F("valid_from")
    )
    ended = Q(valid_until__isnull=False, valid_until__lte=now) | never
    ahead = Q(published_on__gt=now) | Q(valid_from__isnull=False, valid_from__gt=now)
    published = Q(published_on__isnull=False)
    if name == "ended":
        return published & ended
    return published & ~ended & (ahead if name == "ahead" else ~ahead)


def badge(rule: CommissionRule) -> Any:
    """Return the state as a coloured word, and below it when it changes by itself."""
    found = state(rule, timezone.now())
    first, last = begins(rule), rule.valid_until
    look, text = {
        "draft": ("plain", _("draft")),
        "ahead": ("pending", _("begins later")),
        "holds": ("delivered", _("holds")),
        "ended": ("dead", _("ended")),
    }[found]
    when = ""
    if found == "ahead" and first is not None:
        when = _("on %(when)s") % {"when": moment(first)}
    elif found == "holds" and last is not None:
        when = _("until %(when)s") % {"when": moment(last)}
    shown = format_html('<span class="aff-badge aff-{}">{}</span>', look, text)
    return format_html('{}<span class="aff-line">{}</span>', shown, when) if when else shown


# What it would pay, by the arithmetic that pays


class Preview(NamedTuple):
    """What a rule pays for round amounts: a row for each, a column for each tier."""

    columns: list[str]
    rows: list[tuple[str, list[str]]]
    #: What it depends on besides.
    notes: list[str]


def preview(rule: CommissionRule) -> Preview:
    """Return what a rule pays for sales of a few round amounts."""
    agreed = rule.terms
    currency = agreed.currency or ANY_CURRENCY
    factor = 10 ** DECIMAL_PLACES[currency] if DECIMAL_PLACES[currency] else NO_PLACES
    starts = [0, *(tier.start for tier in agreed.tiers)]
    rows = []
    for major in ROUND:
        sale = Conversion(amount_minor=major * factor, currency=currency)
        cells = [_earned(rule, agreed, sale, volume) for volume in starts]
        rows.append((amount(major * factor, currency), cells))
    columns = [_("earns")]
    if agreed.tiers:
        period = IN_PERIOD[agreed.period]
        columns = [
            _("earns, as the first %(period)s") % {"period": period},
            *(
                _("after the first %(start)s") % {"start": start(tier.start, agreed)}
                for tier in agreed.tiers
            ),
        ]
    return Preview(columns, rows, list(_notes(agreed)))


def _earned(rule: CommissionRule, agreed: Terms, sale: Conversion, volume: int) -> str:
    if commissions.misfit(rule, sale):
        return _("nothing: it is worth too little")
    claim = Claim(rule.pk, agreed, sale.amount_minor or 0, history=History(volume=volume))
    found: Earned
    [found] = terms.earn([claim], timezone.now())
    earned = amount(found.minor, sale.currency)
    if "cap" in found.steps or "period_cap" in found.steps:
        return _("%(sum)s (capped)") % {"sum": earned}
    return earned


def _notes(agreed: Terms) -> Iterator[str]:
    if not agreed.currency:
        yield _("Likewise in any other currency.")
    if agreed.period_cap is not None:
        words = {
            "sum": amount(agreed.period_cap, agreed.currency),
            "period": IN_PERIOD[agreed.period],
        }
        yield _("No partner earns more than %(sum)s %(period)s.") % words
    if agreed.times is not None or agreed.months is not None:
        yield _("For a person whose time is over it pays nothing.")
    yield _("Partners who have a share in a sale share what it earns.")
