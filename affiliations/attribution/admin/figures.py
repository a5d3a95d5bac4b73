"""Make of reports what their page shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from django.utils.formats import number_format
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ...admin.amounts import amount
from . import charts, wording

__all__ = ["currencies", "legend", "naming", "paths", "times", "together"]

#: Rows that a page shows of a table, the largest; all are in the CSV.
MOST_ROWS = 200
LONGEST = 60
#: Columns of a histogram at most, and days that one may stand for.
COLUMNS = 45
STRETCHES = (1, 7, 30, 90, 365)

Row = dict[str, Any]
#: By label, and then by model.
Values = Mapping[str | None, Mapping[str, float]]
#: Tells what a label is called.
Called = Callable[[str | None], Row]


def legend(models: Sequence[str]) -> list[Row]:
    """Return the models in their order, each with its colour, its name and its sentence."""
    return [
        {
            "swatch": charts.swatch(position),
            "name": wording.MODELS[model][0],
            "sentence": wording.MODELS[model][1],
        }
        for position, model in enumerate(models, 1)
    ]


def together(rows: Iterable[Row], models: Sequence[str], called: Called) -> Row:
    """Return the credits of all conversions, whatever their currency."""
    return _side_by_side(_by_label(rows, "conversions"), models, called, credit)


def currencies(rows: Sequence[Row], models: Sequence[str], called: Called) -> list[Row]:
    """Return for each currency what the conversions in it were worth."""
    found = []
    for currency in sorted({row["currency"] for row in rows if row["currency"]}):
        mine = [row for row in rows if row["currency"] == currency]

        def spoken(minor: float, currency: str = currency) -> str:
            return amount(int(minor), currency)

        shown = _side_by_side(_by_label(mine, "amount_minor"), models, called, spoken)
        credited = _by_label(mine, "conversions")
        for row in shown["rows"]:
            for cell, model in zip(row["cells"], models, strict=True):
                cell["credit"] = credit(credited[row["label"]][model])
        found.append({"currency": currency, **shown})
    return found


def credit(value: float) -> str:
    """Return a sum of credits as people write it."""
    return number_format(round(value, 2), 2, use_l10n=True, force_grouping=True)


def naming(by: str, names: Mapping[str, str]) -> Called:
    """Return what tells of a label what it is called, and its id where it is a partner's."""

    def called(label: str | None) -> Row:
        if label is None:
            return {"name": _("none"), "is_none": True}
        row = {"uid": label} if label in names else {}
        name = label.replace("_", " ") if by == "channel" else names.get(label, label)
        return {"name": Truncator(name).chars(LONGEST), **row}

    return called


def _by_label(rows: Iterable[Row], column: str) -> dict[str | None, dict[str, float]]:
    found: dict[str | None, dict[str, float]] = defaultdict(lambda: defaultdict(int))
    for row in rows:
        found[row["label"]][row["model"]] += row[column] or 0
    return found


def _side_by_side(
    values: Values, models: Sequence[str], called: Called, said: Callable[[float], str]
) -> Row:
    """Return a table of labels and models, the largest label first, with a bar for each value."""
    order = sorted(
        values, key=lambda label: (-sum(values[label].values()), label is None, label or "")
    )
    highest = max((value for each in values.values() for value in each.values()), default=0)
    about = _("All bars are on one scale; the longest of them is %(highest)s.")
    rows = []
    for label in order[:MOST_ROWS]:
        mine = [values[label][model] for model in models]
        words = [
            f"{wording.MODELS[model][0]} {said(value)}"
            for model, value in zip(models, mine, strict=True)
        ]
        name = called(label)
        chart = charts.grouped(
            [*enumerate(mine, 1)],
            highest,
            title=f"{name['name']}: {', '.join(words)}",
            about=about % {"highest": said(highest)},
        )
        cells = [{"text": said(value)} for value in mine]
        rows.append({"label": label, **name, "chart": chart, "cells": cells})
    return {
        "rows": rows,
        "hidden": len(order) - len(rows),
        "totals": [said(sum(values[label][model] for label in order)) for model in models],
    }


def paths(rows: Iterable[Row], called: Called) -> list[Row]:
    """Return paths as chips, of which one that repeats itself is one with a number."""
    return [
        {
            "steps": [
                {**called(label), "times": len([*same])} for label, same in groupby(row["path"])
            ],
            "said": _conversions(row["conversions"]),
            "worth": ""
            if row["amount_minor"] is None
            else amount(row["amount_minor"], row["currency"]),
        }
        for row in rows
    ]


def times(rows: Sequence[Row]) -> Row:
    """Return how long people took, drawn, in a sentence and as a table."""
    if not rows:
        return {}
    last = max(row["days"] for row in rows)
    stretch = next((each for each in STRETCHES if last < each * COLUMNS), STRETCHES[-1])
    counted: dict[int, int] = defaultdict(int)
    for row in rows:
        counted[row["days"] // stretch] += row["conversions"]
    found = [
        charts.Column(str(n * stretch), _stretch(n * stretch, stretch, counted[n]), counted[n])
        for n in range(last // stretch + 1)
    ]
    sentence = _half(rows)
    title = _("Conversions by days since the first touchpoint")
    return {
        "chart": charts.columns(found, title=title, about=sentence),
        "sentence": sentence,
        "rows": [each.text for each in found if each.value],
    }


def _conversions(number: int) -> str:
    shown = number_format(number, use_l10n=True, force_grouping=True)
    return ngettext("%(n)s conversion", "%(n)s conversions", number) % {"n": shown}


def _stretch(first: int, stretch: int, conversions: int) -> str:
    number = _conversions(conversions)
    if stretch == 1:
        return f"{ngettext('%(n)d day', '%(n)d days', first) % {'n': first}}: {number}"
    days = _("%(first)d to %(last)d days") % {"first": first, "last": first + stretch - 1}
    return f"{days}: {number}"


def _half(rows: Sequence[Row]) -> str:
    total, reached = sum(row["conversions"] for row in rows), 0
    for row in sorted(rows, key=lambda each: int(each["days"])):
        reached += row["conversions"]
        if reached * 2 >= total:
            break
    days = row["days"]
    if not days:
        return _("Half of the conversions came on the day of the first touchpoint.")
    text = ngettext(
        "Half of the conversions came within %(n)d day of the first touchpoint.",
        "Half of the conversions came within %(n)d days of the first touchpoint.",
        days + 1,
    )
    return text % {"n": days + 1}
