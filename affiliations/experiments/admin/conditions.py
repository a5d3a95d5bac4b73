"""Conditions as rows of a form: which block, what of a visitor, how compared, with which values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from django import forms
from django.core.exceptions import ValidationError
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..exceptions import InvalidTargeting
from ..models.campaigns import everybody
from ..targeting import ALL_USERS, OPERATORS, PRESENCE, USERS, read
from . import wording

__all__ = ["MOST_ROWS", "ConditionsField", "Row", "rows_of"]

#: Rows that are there, and those that stay free for more. A form may have a thousand fields.
LEAST_ROWS, FREE_ROWS, MOST_ROWS = 3, 2, 100
MAX_BLOCK = 9999
KINDS = {
    "text": gettext_lazy("text"),
    "number": gettext_lazy("number"),
    "truth": gettext_lazy("yes or no"),
    "json": gettext_lazy("as JSON"),
}
TRUTHS = {"yes": True, "true": True, "no": False, "false": False}


class Row(NamedTuple):
    """A condition as it is typed; values stand one a line."""

    block: str
    key: str
    operator: str
    kind: str
    values: str

    @property
    def is_empty(self) -> bool:
        """Whether nothing was typed: what remains is there before anybody types."""
        return not (self.key.strip() or self.values.strip())


def rows_of(targeting: Any) -> list[Row]:
    """Return targeting as rows; none where everybody is meant, or where it is something else."""
    try:
        blocks = read(targeting)
    except InvalidTargeting:
        return []
    if len(blocks) == 1 and all(each.key == ALL_USERS for each in blocks[0]):
        return []
    return [
        Row(str(number), each.key, each.operator, *_typed(each.operator, each.value))
        for number, block in enumerate(blocks, 1)
        for each in block
    ]


def _typed(operator: str, value: Any) -> tuple[str, str]:
    """Return of which kind values are, and they as lines."""
    if operator in PRESENCE:
        return "truth", _truth(bool(value))
    values = value if isinstance(value, list) else [value]
    if values and all(isinstance(each, bool) for each in values):
        return "truth", "\n".join(map(_truth, values))
    if values and all(type(each) in (int, float) for each in values):
        return "number", "\n".join(map(wording.as_json, values))
    if values and all(isinstance(each, str) and _is_line(each) for each in values):
        return "text", "\n".join(values)
    return "json", "\n".join(json.dumps(each, ensure_ascii=False) for each in values)


def _truth(value: bool) -> str:
    return "yes" if value else "no"


def _is_line(text: str) -> bool:
    return text.splitlines() == [text] and text.strip() == text


class ConditionsWidget(forms.Widget):
    """A table with a row for each condition, and some to spare."""

    #: Keys to be offered, that others have been asked for.
    keys: Sequence[str] = ()

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> Any:
        """Return what stands in the rows, also in those that are empty."""
        return [
            Row(*(str(data.get(f"{name}_{row}_{part}", "")) for part in Row._fields))
            for row in range(MOST_ROWS)
        ]

    def value_omitted_from_data(self, data: Mapping[str, Any], files: Any, name: str) -> bool:
        return f"{name}_0_key" not in data

    def id_for_label(self, id_: str) -> str:
        return f"{id_}_0_key"

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> Any:
        """Return the table."""
        filled = _filled(value)
        last = filled[-1].block if filled else "1"
        shown = min(max(LEAST_ROWS, len(filled) + FREE_ROWS), MOST_ROWS)
        spare = [Row(last, "", "EQUALS", "text", "")] * (shown - len(filled))
        rows = [*filled, *spare]
        befores = [each.block for each in [*rows[:1], *rows[:-1]]]
        ident = (attrs or {}).get("id") or f"id_{name}"
        others = {key: text for key, text in (attrs or {}).items() if key.startswith("aria-")}
        more = format_html_join("", ' {}="{}"', others.items())
        return format_html(
            '<table class="aff-conditions"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>'
            '</table><datalist id="{ident}_keys">{keys}</datalist>',
            heads=format_html_join(
                "",
                '<th scope="col">{}</th>',
                ([each] for each in (_("Block"), _("What"), _("How"), _("Values"), _("They are"))),
            ),
            rows=format_html_join(
                "",
                "{}",
                (
                    [_rendered(name, ident, number, row, more, before != row.block)]
                    for number, (row, before) in enumerate(zip(rows, befores, strict=True))
                ),
            ),
            ident=ident,
            keys=format_html_join(
                "", '<option value="{}"></option>', ([key] for key in (USERS, *self.keys))
            ),
        )


def _filled(value: Any) -> list[Row]:
    """Return rows without those that are empty at the end."""
    rows = list(value) if isinstance(value, list) and all(map(_is_row, value)) else rows_of(value)
    while rows and rows[-1].is_empty:
        rows.pop()
    return rows[:MOST_ROWS]


def _is_row(each: Any) -> bool:
    return isinstance(each, Row)


def _rendered(name: str, ident: str, number: int, row: Row, more: Any, begins: bool) -> Any:
    label = {"n": number + 1}
    words = {
        "name": f"{name}_{number}",
        "ident": f"{ident}_{number}",
        "more": more,
        "block": row.block,
        "key": row.key,
        "values": row.values,
        "keys": f"{ident}_keys",
        "lines": min(row.values.count("\n") + 1, 6),
        "most": MAX_BLOCK,
        "look": "aff-begins" if begins else "",
        "block_label": _("Condition %(n)s: block") % label,
        "key_label": _("Condition %(n)s: what") % label,
        "operator_label": _("Condition %(n)s: how") % label,
        "values_label": _("Condition %(n)s: values") % label,
        "kind_label": _("Condition %(n)s: they are") % label,
        "operators": _options(wording.OPERATORS, row.operator),
        "kinds": _options(KINDS, row.kind),
    }
    return format_html(
        '<tr class="{look}"><td class="aff-block"><input type="number" min="1" max="{most}" '
        'name="{name}_block" id="{ident}_block" value="{block}" aria-label="{block_label}"{more}>'
        "</td>"
        '<td class="aff-key"><input type="text" name="{name}_key" id="{ident}_key" value="{key}" '
        'list="{keys}" autocomplete="off" spellcheck="false" aria-label="{key_label}"{more}></td>'
        '<td><select name="{name}_operator" id="{ident}_operator" aria-label="{operator_label}">'
        "{operators}</select></td>"
        '<td class="aff-values"><textarea name="{name}_values" id="{ident}_values" rows="{lines}" '
        'spellcheck="false" aria-label="{values_label}"{more}>\n{values}</textarea></td>'
        '<td><select name="{name}_kind" id="{ident}_kind" aria-label="{kind_label}">{kinds}'
        "</select></td></tr>",
        **words,
    )


def _options(choices: Mapping[str, Any], chosen: str) -> Any:
    return format_html_join(
        "",
        '<option value="{}"{}>{}</option>',
        ((key, " selected" if key == chosen else "", text) for key, text in choices.items()),
    )


class ConditionsField(forms.Field):
    """Targeting, typed as rows; rows that are empty are left out, and none means everybody."""

    widget = ConditionsWidget

    def clean(self, value: Any) -> Any:
        """Return targeting as it is stored; raises ValidationError, naming the row."""
        blocks: dict[int, list[dict[str, Any]]] = {}
        where: dict[tuple[int, int], int] = {}
        for number, row in enumerate(value or (), 1):
            if row.is_empty:
                continue
            try:
                block, condition = _condition(row)
            except ValidationError as error:
                raise ValidationError(_in_row(number, error.messages[0]), code="invalid") from error
            listed = blocks.setdefault(block, [])
            listed.append(condition)
            where[block, len(listed)] = number
        if not blocks:
            return everybody()
        for (block, position), number in where.items():
            _check(blocks[block][position - 1], number)
        targeting = [blocks[block] for block in sorted(blocks)]
        try:
            read(targeting)
        except InvalidTargeting as error:
            raise ValidationError(_text(error), code="invalid") from error
        return targeting

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Tell whether anything else stands in the rows than was shown."""
        return [_even(each) for each in _filled(initial)] != [_even(each) for each in _filled(data)]


def _even(row: Row) -> tuple[str, ...]:
    """Return a row without the ends of lines that browsers make of lines' ends."""
    return tuple("\n".join(each.splitlines()).strip() for each in row)


def _in_row(number: int, text: Any) -> str:
    return _("Condition %(n)s: %(text)s") % {"n": number, "text": text}


def _text(error: InvalidTargeting) -> str:
    return str(error).rpartition(": ")[2] or str(error)


def _check(condition: dict[str, Any], number: int) -> None:
    try:
        read([[condition]])
    except InvalidTargeting as error:
        raise ValidationError(_in_row(number, _text(error)), code="invalid") from error


def _condition(row: Row) -> tuple[int, dict[str, Any]]:
    """Return a condition and its block; raises ValidationError."""
    block = row.block.strip() or "1"
    if not (block.isascii() and block.isdecimal() and 0 < len(block) < 5 and int(block)):
        raise ValidationError(_("The block is a number from 1 to %(n)s.") % {"n": MAX_BLOCK})
    key = row.key.strip()
    if not key:
        raise ValidationError(_("What has to be known of the visitor?"))
    if row.operator not in OPERATORS:
        raise ValidationError(_("How is it compared?"))
    if row.kind not in KINDS:
        raise ValidationError(_("Of what kind are the values?"))
    if row.operator in PRESENCE:
        return int(block), {
            "key": key,
            "operator": row.operator,
            "value": _presence(row.values),
        }
    lines = [each.strip() for each in row.values.splitlines()]
    values = list(_values([each for each in lines if each], row.kind))
    if not values and row.kind != "json" and key != ALL_USERS:
        raise ValidationError(_("With which value is it compared?"))
    value = values[0] if len(values) == 1 else values
    return int(block), {"key": key, "operator": row.operator, "value": value}


def _presence(text: str) -> bool:
    """Return what EXISTS is asked for: that it is so, unless something else is typed."""
    found = text.strip().lower()
    if found and found not in TRUTHS:
        raise ValidationError(_("The value is yes or no, or nothing, which means yes."))
    return TRUTHS.get(found, True)


def _values(lines: Iterable[str], kind: str) -> Iterable[Any]:
    for line in lines:
        if kind == "text":
            yield line
        elif kind == "truth":
            if line.lower() not in TRUTHS:
                raise ValidationError(_("%(text)s is not yes or no.") % {"text": line[:40]})
            yield TRUTHS[line.lower()]
        else:
            yield _json(line, kind)


def _json(line: str, kind: str) -> Any:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "number" and not is_number:
        raise ValidationError(_("%(text)s is no number, such as 7 or 1.5.") % {"text": line[:40]})
    if kind == "json" and not (is_number or isinstance(value, str | bool)):
        text = _('%(text)s is no text in "…", no number, and not true or false.')
        raise ValidationError(text % {"text": line[:40]})
    return value
