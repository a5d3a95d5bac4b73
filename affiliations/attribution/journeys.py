"""Follow people from touchpoint to conversion: every step is an expression of Ibis.

What is written here runs on each engine as it is. Two traps keep its shape: a quotient of whole
numbers is a float everywhere, which loses the last digits of large amounts; and sums of floats
differ in their last digits by the order that an engine adds in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import ibis

from .rules import OF_ONE, RULES, Parameters, Place
from .sources import DIRECT

__all__ = [
    "arrivals",
    "by_effect",
    "credited",
    "frequent",
    "paths",
    "steps",
    "taken",
    "totals",
    "weighed",
    "with_leads",
]

#: Microseconds after a visit within which a hit is its landing.
LANDING = 60_000_000
#: What a landing may tell of its visit.
TOLD = ("campaign", "source", "medium")
#: Parts of a whole into which a conversion's amount is divided.
PARTS = 10**9
#: Rounds up from here on, not from half, so that sums which are half but for the order in which an
#: engine has added go the same way on each.
ALMOST_HALF = 0.501


def arrivals(touches: Any) -> Any:
    """Make one touchpoint of a visit and the hit of its landing, which tells more of the same.

    Wants the columns person, touch, touched_at and is_hit, and returns those that it was given but
    the last.
    """
    order = ibis.window(group_by="person", order_by=["touched_at", "touch"])
    before, after = touches.is_hit.lag().over(order), touches.is_hit.lead().over(order)
    since = touches.touched_at - touches.touched_at.lag().over(order)
    till = touches.touched_at.lead().over(order) - touches.touched_at
    told = {
        f"next_{name}": touches[name].lead().over(order) for name in TOLD if name in touches.columns
    }
    seen = touches.mutate(
        is_landing=((touches.is_hit == 1) & (before == 0) & (since <= LANDING)).fill_null(False),
        has_landing=((touches.is_hit == 0) & (after == 1) & (till <= LANDING)).fill_null(False),
        **told,
    )
    kept = seen.filter(~seen.is_landing)
    kept = kept.mutate(
        **{
            name: ibis.ifelse(
                kept.has_landing, ibis.coalesce(kept[name], kept[f"next_{name}"]), kept[name]
            )
            for name in TOLD
            if name in touches.columns
        }
    )
    return kept.select([name for name in touches.columns if name != "is_hit"])


def with_leads(conversions: Any, leads: Any, lookback: int) -> Any:
    """Add to each conversion when the same person last became a lead, as `lead_at`, or NULL."""
    if leads is None:
        return conversions.mutate(lead_at=ibis.null("int64"))
    of_them = leads.select(lead_person=leads.person, became_at=leads.converted_at)
    pairs = conversions.inner_join(
        of_them,
        [
            conversions.person == of_them.lead_person,
            of_them.became_at < conversions.converted_at,
            of_them.became_at > conversions.converted_at - lookback,
        ],
    )
    latest = pairs.group_by("conversion").agg(lead_at=pairs.became_at.max())
    latest = latest.rename(its="conversion")
    joined = conversions.left_join(latest, conversions.conversion == latest.its)
    return joined.select(*conversions.columns, "lead_at")


def paths(touches: Any, conversions: Any, *, by: str, lookback: int) -> Any:
    """Return a row for each touchpoint on the path to a conversion.

    A path holds what its person was touched by up to `lookback` microseconds before converting, at
    that moment still, and whatever else came of it. Of the same moment, the lower number is first.
    """
    met = touches.select(
        whose=touches.person,
        touch=touches.touch,
        touched_at=touches.touched_at,
        label=touches[by],
        is_named=ibis.ifelse(touches.channel.fill_null("") != DIRECT, 1, 0),
    )
    rows = conversions.inner_join(
        met,
        [
            conversions.person == met.whose,
            met.touched_at <= conversions.converted_at,
            met.touched_at > conversions.converted_at - lookback,
        ],
    )
    rows = rows.select(
        "conversion",
        "converted_at",
        "amount_minor",
        "currency",
        "lead_at",
        "touch",
        "touched_at",
        "label",
        "is_named",
    )
    ordered = ibis.window(group_by="conversion", order_by=["touched_at", "touch"])
    whole = ibis.window(group_by="conversion")
    return rows.mutate(
        position=ibis.row_number().over(ordered) + 1,
        count_=rows.touch.count().over(whole),
        before_last=rows.touched_at.max().over(whole) - rows.touched_at,
    )


def weighed(rows: Any, models: Collection[str], given: Parameters) -> Any:
    """Add what each of the rules in `models` weighs each touchpoint."""
    whole = ibis.window(group_by="conversion")
    # Here, as few rules ask for them, and an engine computes what is asked for alone.
    named = ibis.ifelse(rows.is_named == 1, rows.position, 0)
    before_lead = ibis.ifelse((rows.touched_at <= rows.lead_at).fill_null(False), rows.position, 0)
    rows = rows.mutate(last_named=named.max().over(whole), lead=before_lead.max().over(whole))
    place = Place(rows.position, rows.count_, rows.before_last, rows.last_named, rows.lead)
    return rows.mutate(
        **{f"weight_{name}": RULES[name](place, given, ibis.ifelse) for name in models}
    )


def by_effect(rows: Any, model: str, effects: Mapping[str | None, float]) -> Any:
    """Add what a model weighs each touchpoint by the effect of its label."""
    known = [(label, effect) for label, effect in effects.items() if label is not None]
    weight = ibis.literal(0.0)
    if known:
        weight = rows.label.cases(*known, else_=0.0)
    if None in effects:
        weight = ibis.ifelse(rows.label.isnull(), effects[None], weight)
    return rows.mutate(**{f"weight_{model}": weight})


def credited(rows: Any, models: Sequence[str]) -> Any:
    """Divide each conversion, and its amount, by the weights of its touchpoints.

    Adds `credit_…`, whose sum is 1, and `minor_…`, whose sum is the amount to the unit, by the
    largest remainder, as `affiliations.money.apportion` has it. To that end the credits are taken
    as whole numbers of parts, so that nothing of an amount is lost in a float.
    """
    whole = ibis.window(group_by="conversion")
    rows = rows.mutate(
        **{
            f"credit_{name}": rows[f"weight_{name}"]
            if name in OF_ONE
            else rows[f"weight_{name}"] / rows[f"weight_{name}"].sum().over(whole)
            for name in models
        }
    )
    undivided = {
        f"minor_{name}": rows.amount_minor * rows[f"credit_{name}"].cast("int64")
        for name in models
        if name in OF_ONE
    }
    models = [name for name in models if name not in OF_ONE]
    parts = {
        f"parts_{x}": (rows[f"credit_{x}"] * float(PARTS) + ALMOST_HALF).floor().cast("int64")
        for x in models
    }
    rows = rows.mutate(**undivided, **parts)
    rows = rows.mutate(
        **{f"all_{x}": rows[f"parts_{x}"].sum().over(whole).cast("int64") for x in models}
    )
    # Not the amount times the parts, which may be more than a whole number holds.
    amount, sizes = rows.amount_minor.abs(), {}
    for name in models:
        parts_of, all_parts = rows[f"parts_{name}"], rows[f"all_{name}"]
        rest = amount % all_parts
        over = (rest * parts_of) % all_parts
        sizes[f"over_{name}"] = over
        sizes[f"floor_{name}"] = _divided(amount - rest, all_parts) * parts_of + _divided(
            rest * parts_of - over, all_parts
        )
    rows = rows.mutate(**sizes)
    ends = {}
    for name in models:
        largest = ibis.window(
            group_by="conversion", order_by=[ibis.desc(f"over_{name}"), "position"]
        )
        left = rows.amount_minor.abs() - rows[f"floor_{name}"].sum().over(whole).cast("int64")
        ends[f"turn_{name}"] = ibis.row_number().over(largest)
        ends[f"left_{name}"] = left
    rows = rows.mutate(**ends)
    sign = ibis.ifelse(rows.amount_minor < 0, -1, 1)
    return rows.mutate(
        **{
            f"minor_{name}": sign
            * (
                rows[f"floor_{name}"]
                + ibis.ifelse(rows[f"turn_{name}"] < rows[f"left_{name}"], 1, 0)
            )
            for name in models
        }
    )


def _divided(multiple: Any, number: Any) -> Any:
    """Divide a multiple of a number by it: a float is exact up to 2^53, and so are these."""
    return (multiple / number).round().cast("int64")


def totals(rows: Any, models: Sequence[str]) -> Any:
    """Return what each label has earned, in each currency, by each of the models."""
    sums: dict[str, Any] = {}
    for name in models:
        sums[f"conversions_{name}"] = rows[f"credit_{name}"].sum()
        sums[f"amount_{name}"] = rows[f"minor_{name}"].sum()
    return rows.group_by(["label", "currency"]).agg(
        paths=rows.conversion.nunique(), touchpoints=rows.touch.count(), **sums
    )


class Steps(NamedTuple):
    """How often people went from where to where: of those who converted, and of those who did not.

    Each has the columns depth, how many labels are behind; back_1, back_2 … the labels, the nearest
    first; label, the one gone to; is_end, 1 where nothing followed but the end; and times.
    """

    converted: Any
    lost: Any


def steps(touches: Any, rows: Any, *, by: str, since: int, until: int, order: int) -> Steps:
    """Count the steps of all journeys, with as much memory of each as `order` says.

    A journey is the path to a conversion, or what somebody was touched by in the window that is on
    no path: they have not converted since.
    """
    on_paths = rows.select(on_path=rows.touch).distinct()
    left = touches.filter((touches.touched_at >= since) & (touches.touched_at < until))
    left = left.anti_join(on_paths, left.touch == on_paths.on_path)
    left = left.select("person", "touch", "touched_at", label=left[by])
    ordered = ibis.window(group_by="person", order_by=["touched_at", "touch"])
    left = left.mutate(
        position=ibis.row_number().over(ordered) + 1,
        is_end=ibis.ifelse(left.touch.lead().over(ordered).isnull(), 1, 0),
        **_behind(left, ordered, order),
    )
    of_paths = ibis.window(group_by="conversion", order_by="position")
    won = rows.mutate(
        is_end=ibis.ifelse(rows.position == rows.count_, 1, 0), **_behind(rows, of_paths, order)
    )
    return Steps(_counted(won, order), _counted(left, order))


def _behind(rows: Any, window: Any, order: int) -> dict[str, Any]:
    return {f"back_{n}": rows.label.lag(n).over(window) for n in range(1, order + 1)}


def _counted(rows: Any, order: int) -> Any:
    depth = ibis.least(rows.position - 1, order)
    rows = rows.mutate(depth=depth)
    keys = ["depth", *(f"back_{n}" for n in range(1, order + 1)), "label", "is_end"]
    return rows.group_by(keys).agg(times=rows.touch.count())


def frequent(rows: Any, longest: int) -> Any:
    """Count the conversions by their path: step_1 is the last label, step_2 the one before it."""
    back = rows.count_ - rows.position
    steps = {
        # Of those that are not there, and of those that have no label, there is none.
        f"step_{n}": ibis.ifelse(back == n - 1, rows.label, None).max()
        for n in range(1, longest + 1)
    }
    each = rows.group_by("conversion").agg(
        length=rows.count_.max(),
        currency=rows.currency.max(),
        amount_minor=rows.amount_minor.max(),
        **steps,
    )
    each = each.mutate(length=ibis.least(each.length, longest + 1))
    return each.group_by(["length", *steps, "currency"]).agg(
        conversions=each.conversion.count(), amount_minor=each.amount_minor.sum()
    )


def taken(rows: Any, day: int) -> Any:
    """Count the conversions by the whole days since the first touchpoint on their path."""
    each = rows.group_by("conversion").agg(
        took=(rows.converted_at - rows.touched_at).max(), touchpoints=rows.touch.count()
    )
    each = each.mutate(days=(each.took / day).floor().cast("int64"))
    return each.group_by("days").agg(
        conversions=each.conversion.count(), touchpoints=each.touchpoints.sum().cast("int64")
    )
