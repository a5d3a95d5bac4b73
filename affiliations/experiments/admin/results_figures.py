"""Lay results out for people: drawn, and in words that say no more than the figures do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from django.utils.formats import number_format
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ... import charts
from ...admin.amounts import MINUS, amount
from ...admin.lists import NOTHING
from ...money import DECIMAL_PLACES, MAX_MINOR, Money
from ..figures import RateFigures, Reason, RevenueFigures, Verdict, is_certain
from ..results import GroupResults, Results, VariationResults

__all__ = ["groups", "percent", "suggested"]

#: An uplift beyond which a chart is cut off: with few visitors it may be anything.
MOST = 2.0
#: Characters of a name for which there is room in a chart, on a phone.
LONGEST = 40
#: Of probabilities, that are told apart from none.
LEAST = 0.001
Figures = RateFigures | RevenueFigures
Row = dict[str, Any]

REASONS = {
    # As it says beside its name.
    Reason.IS_REFERENCE: NOTHING,
    Reason.NO_REFERENCE: gettext_lazy("no reference"),
    Reason.ALONE: gettext_lazy("alone"),
    Reason.NOBODY: gettext_lazy("no visitors"),
    Reason.TOO_EARLY: gettext_lazy("too early"),
    Reason.NO_SPREAD: gettext_lazy("all the same"),
    Reason.NO_BASE: gettext_lazy("reference earned nothing"),
    Reason.UNBOUNDED: gettext_lazy("too uncertain"),
    Reason.NO_SHARES: gettext_lazy("shares are not known"),
}
VERDICTS = {
    Verdict.MISMATCH: gettext_lazy("Nothing can be said: visitors were shared out wrongly."),
    Verdict.NOTHING_TO_COMPARE: gettext_lazy("There is one variation, and nothing to compare."),
    Verdict.NO_REFERENCE: gettext_lazy("No variation is the reference to compare others with."),
    Verdict.TOO_EARLY: gettext_lazy("Too early to say."),
    Verdict.UNDECIDED: gettext_lazy("No difference is certain yet."),
}


# Numbers in words


def percent(part: float, places: int = 1, *, signed: bool = False) -> str:
    """Return a part of 1 as people write it."""
    written = number_format(
        Decimal(f"{abs(part) * 100:.{places}f}"), places, use_l10n=True, force_grouping=True
    )
    sign = MINUS if part < 0 else "+" if signed and part > 0 else ""
    return f"{sign}{written}\N{NO-BREAK SPACE}%"


def _chance(part: float | None) -> str:
    """Return a probability, which is never for certain."""
    if part is None:
        return ""
    if part < LEAST:
        return f"< {percent(LEAST)}"
    return f"> {percent(1 - LEAST)}" if part > 1 - LEAST else percent(part)


def _p(value: float) -> str:
    """Return a p-value, and how it is."""
    least = value < LEAST
    number = number_format(Decimal(f"{LEAST if least else value:.3f}"), 3, use_l10n=True)
    return f"p {'<' if least else '='} {number}"


def _points(part: float, *, signed: bool = False) -> str:
    """Return a difference of two rates, which is no part of either."""
    number = percent(part, 2, signed=signed)[:-2]
    return _("%(n)s\N{NO-BREAK SPACE}points") % {"n": number}


def _number(count: float, places: int = 0) -> str:
    return number_format(Decimal(f"{count:.{places}f}"), places, use_l10n=True, force_grouping=True)


def _money(currency: str) -> Callable[..., str]:
    def written(minor: float, *, signed: bool = False) -> str:
        return amount(round(minor), currency, signed=signed)

    return written


# Groups as the page has them


def groups(found: Results) -> list[Row]:
    """Return each group of results as its template shows it."""
    return [_group(group, found, number) for number, group in enumerate(found.groups, 1)]


def _group(group: GroupResults, found: Results, number: int) -> Row:
    money = _money(found.currency)
    level = percent(found.level, 0)
    panels = [
        {
            "id": f"aff-rates-{number}",
            "heading": _("Conversions"),
            "is_money": False,
            **_panel(group, [each.rates for each in group.variations], group.verdict, _points),
        }
    ]
    if group.revenue_verdict is not None:
        earned = [each.revenue for each in group.variations if each.revenue is not None]
        panels.append(
            {
                "id": f"aff-revenue-{number}",
                "heading": _("Revenue, in %(currency)s") % {"currency": found.currency},
                "is_money": True,
                **_panel(group, earned, group.revenue_verdict, money),
            }
        )
    return {
        "name": group.name,
        "visitors": _number(group.visitors),
        "mixed": _mixed(group),
        "mismatch": _mismatch(group),
        "ratio": _ratio(group),
        "level": level,
        "panels": panels,
        "others": _others(group),
    }


def _panel(
    group: GroupResults,
    found: Sequence[Figures],
    verdict: Verdict,
    said: Callable[..., str],
) -> Row:
    rows = [
        _row(each, figures, said) for each, figures in zip(group.variations, found, strict=True)
    ]
    drawn = [
        charts.Interval(
            Truncator(each.name).chars(LONGEST),
            figures.uplift.low,
            figures.uplift.median,
            figures.uplift.high,
            row["uplift"]["middle"],
            _tone(figures, verdict),
        )
        for each, figures, row in zip(group.variations, found, rows, strict=True)
        if figures.uplift is not None
    ]
    title = _("Uplift against the reference: %(all)s") % {
        "all": "; ".join(
            f"{row['name']} {row['uplift']['middle']} ({row['uplift']['range']})"
            for row in rows
            if row["uplift"]
        )
    }
    return {
        "verdict": _sentences(group, found, verdict, said),
        "is_decided": verdict is Verdict.DECIDED,
        "rows": rows,
        "chart": charts.intervals(drawn, title=title, said=_whole_percent, most=MOST)
        if drawn
        else "",
    }


def _whole_percent(value: float) -> str:
    return percent(value, 0, signed=True)


def _tone(figures: Figures, verdict: Verdict) -> str:
    # By the look alone: an interval of one day may leave out zero on some day or other.
    if verdict is not Verdict.DECIDED or figures.look is None or not is_certain(figures.look):
        return ""
    return "more" if figures.look.low > 0 else "less"


def _row(each: VariationResults, figures: Figures, said: Callable[..., str]) -> Row:
    missing = {name: REASONS[reason] for name, reason in figures.missing.items()}
    chance = _chance(figures.best)
    uplift, look = figures.uplift, figures.look
    row = {
        "name": each.name,
        "is_reference": each.is_reference,
        "is_retired": each.is_retired,
        "visitors": _number(each.visitors),
        "missing": missing,
        "uplift": uplift
        and _between(uplift.median, uplift.low, uplift.high, lambda v: percent(v, signed=True)),
        "look": look
        and _between(look.difference, look.low, look.high, lambda v: said(v, signed=True)),
        "p": "" if look is None else _p(look.p),
        "beats": _chance(figures.beats),
        "best": chance,
        "bar": ""
        if figures.best is None
        else charts.portion(
            figures.best,
            title=_("%(name)s is the best with a probability of %(chance)s")
            % {"name": each.name, "chance": chance},
        ),
    }
    if isinstance(figures, RateFigures):
        rate = figures.rate
        return {
            **row,
            "count": _number(figures.conversions),
            "figure": rate and _between(rate.median, rate.low, rate.high, lambda v: percent(v, 2)),
            "figure_missing": missing.get("rate"),
        }
    mean = figures.mean
    return {
        **row,
        "count": said(figures.total),
        "figure": mean and _between(mean.mean, mean.low, mean.high, said),
        "figure_missing": missing.get("mean"),
    }


def _between(middle: float, low: float, high: float, said: Callable[[float], str]) -> Row:
    return {
        "middle": said(middle),
        "range": _range(said(low), said(high)),
    }


def _range(low: str, high: str) -> str:
    """Return two figures in words, of which the second alone has the unit that both have."""
    number, space, unit = low.rpartition("\N{NO-BREAK SPACE}")
    if high.endswith(f"{space}{unit}"):
        low = number
    return _("%(low)s to %(high)s") % {"low": low, "high": high}


def _sentences(
    group: GroupResults,
    found: Sequence[Figures],
    verdict: Verdict,
    said: Callable[..., str],
) -> list[str]:
    """Say what may be said, a sentence for each variation that differs for certain."""
    if verdict is not Verdict.DECIDED:
        return [str(VERDICTS[verdict])]
    base = next(each.name for each in group.variations if each.is_reference)
    sentences, open_ones = [], []
    for each, figures in zip(group.variations, found, strict=True):
        look = figures.look
        if each.is_reference:
            continue
        if look is None or not is_certain(look):
            open_ones.append(each.name)
            continue
        words = {
            "name": each.name,
            "base": base,
            "difference": said(abs(look.difference)),
            "range": _range(*map(said, sorted((abs(look.low), abs(look.high))))),
        }
        sentences.append(_difference(is_more=look.low > 0, figures=figures) % words)
    if open_ones:
        sentences.append(
            _("Of %(names)s nothing is certain yet.") % {"names": ", ".join(open_ones)}
        )
    return sentences


def _difference(*, is_more: bool, figures: Figures) -> str:
    if isinstance(figures, RateFigures):
        if is_more:
            return _(
                "%(name)s is better: its rate is %(difference)s above that of %(base)s (%(range)s)."
            )
        return _(
            "%(name)s is worse: its rate is %(difference)s below that of %(base)s (%(range)s)."
        )
    if is_more:
        return _(
            "%(name)s is better: a visitor brings in %(difference)s more than with %(base)s "
            "(%(range)s)."
        )
    return _(
        "%(name)s is worse: a visitor brings in %(difference)s less than with %(base)s (%(range)s)."
    )


def _mixed(group: GroupResults) -> str:
    if not group.mixed:
        return ""
    text = ngettext(
        "%(n)s visitor has seen more than one variation, and counts for none.",
        "%(n)s visitors have seen more than one variation, and count for none.",
        group.mixed,
    )
    return text % {"n": _number(group.mixed)}


def _mismatch(group: GroupResults) -> str:
    """Warn of visitors who were shared out wrongly."""
    ratio, expected = group.sample_ratio, group.expected
    if ratio is None or expected is None or not ratio.is_mismatch:
        return ""
    came = [
        _("%(name)s %(came)s instead of %(due)s")
        % {"name": each.name, "came": _number(each.visitors), "due": _number(due)}
        for each, due in zip(group.variations, expected, strict=True)
    ]
    text = _(
        "Do not trust these figures. Visitors were not shared out as they should have been: "
        "%(came)s. So much is no chance (%(p)s): something makes a difference between the "
        "variations before they are counted, such as a redirect that fails, or a robot."
    )
    return text % {"came": ", ".join(came), "p": _p(ratio.p)}


def _ratio(group: GroupResults) -> str:
    """Say how well visitors fit the shares, where nothing is wrong with it."""
    if group.sample_ratio is None:
        reason = REASONS[group.missing["sample_ratio"]]
        return _("not known: %(reason)s") % {"reason": reason}
    if group.sample_ratio.is_mismatch:
        return _("wrong")
    return _("as they should be (%(p)s)") % {"p": _p(group.sample_ratio.p)}


def _others(group: GroupResults) -> str:
    if not group.other_currencies:
        return ""
    listed = [f"{_number(n)} × {name}" for name, n in group.other_currencies.items()]
    return _("Left out of the revenue, as in other currencies: %(listed)s.") % {
        "listed": ", ".join(listed)
    }


def suggested(found: Results) -> Money | None:
    """Return what could be counted at most, None where there is a cap, or none to suggest."""
    minor = found.suggested_cap
    if found.cap is not None or minor is None or minor > MAX_MINOR:
        return None
    return Money(minor, found.currency) if found.currency in DECIMAL_PLACES else None
