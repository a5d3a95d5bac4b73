"""The form of a rule, for people: sums in major units, tiers as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...admin.fields import MomentField, major_of, minor_of, trigger_choices
from ...money import DECIMAL_PLACES
from .. import terms
from ..models import CommissionRule
from ..models.rules import MAX_TIERS, SUMS

#: Rows of tiers that are there, and those that stay free for more.
LEAST_ROWS, FREE_ROWS = 3, 2
#: Of two fields of which one has to be filled in: what is wrong with one is not told of the other.
EITHER = {"percent": "flat_minor", "flat_minor": "percent"}
PERCENT_PLACES = 4


class TiersWidget(forms.Widget):
    """Rows of two numbers each."""

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> Any:
        """Return what stands in the rows, also in those that are empty."""
        return [
            tuple(data.get(f"{name}_{row}_{part}", "") for part in ("start", "rate"))
            for row in range(MAX_TIERS)
        ]

    def value_omitted_from_data(self, data: Mapping[str, Any], files: Any, name: str) -> bool:
        return f"{name}_0_start" not in data

    def id_for_label(self, id_: str) -> str:
        return f"{id_}_0_start"

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> Any:
        """Return a table with a row for each tier, and some to spare."""
        filled = _pairs(value)
        while filled and not any(filled[-1]):
            filled.pop()
        shown = min(max(LEAST_ROWS, len(filled) + FREE_ROWS), MAX_TIERS)
        rows = filled + [("", "")] * (shown - len(filled))
        ident = (attrs or {}).get("id") or f"id_{name}"
        others = {key: text for key, text in (attrs or {}).items() if key.startswith("aria-")}
        more = format_html_join("", ' {}="{}"', others.items())
        return format_html(
            '<table class="aff-tiers"><thead><tr><th scope="col">{}</th><th scope="col">{}</th>'
            "</tr></thead><tbody>{}</tbody></table>",
            _("After the first …"),
            _("it pays …"),
            format_html_join(
                "",
                "<tr><td>{}</td><td>{}</td></tr>",
                (
                    (
                        _input(name, ident, row, "start", pair[0], more),
                        _input(name, ident, row, "rate", pair[1], more),
                    )
                    for row, pair in enumerate(rows)
                ),
            ),
        )


def _input(name: str, ident: str, row: int, part: str, value: str, more: Any) -> Any:
    label = _("Tier %(n)s: after the first") if part == "start" else _("Tier %(n)s: it pays")
    return format_html(
        '<input type="number" min="0" step="any" name="{name}_{row}_{part}" '
        'id="{ident}_{row}_{part}" value="{value}" aria-label="{label}"{more}>',
        name=name,
        ident=ident,
        row=row,
        part=part,
        value=value,
        label=label % {"n": row + 1},
        more=more,
    )


def _pairs(value: Any) -> list[tuple[str, str]]:
    """Return rows as text; none where it is something else, as an address may say."""
    if not isinstance(value, list | tuple):
        return []
    return [
        (str(each[0]), str(each[1]))
        for each in value
        if isinstance(each, list | tuple) and len(each) == 2
    ]


class TiersField(forms.Field):
    """Pairs of two numbers, as Decimals; rows that are empty are left out."""

    widget = TiersWidget

    def to_python(self, value: Any) -> list[tuple[Decimal, Decimal]]:
        """Return the pairs; raises ValidationError, naming the row."""
        number = forms.DecimalField(min_value=0)
        found = []
        for row, texts in enumerate(_pairs(value), 1):
            if not any(text.strip() for text in texts):
                continue
            if not all(text.strip() for text in texts):
                raise ValidationError(_in_row(row, _("Both numbers are needed.")), code="invalid")
            try:
                start, rate = map(number.clean, texts)
            except ValidationError as error:
                raise ValidationError(_in_row(row, error.messages[0]), code="invalid") from error
            found.append((start, rate))
        return found

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Tell whether the numbers differ, however they are written."""
        try:
            return self.to_python(initial) != self.to_python(data)
        except ValidationError:
            return True


def _in_row(row: int, text: Any) -> str:
    return _("Tier %(n)s: %(text)s") % {"n": row, "text": text}


def _amount(label: Any, help_text: Any) -> forms.DecimalField:
    return forms.DecimalField(label=label, required=False, min_value=0, help_text=help_text)


class RuleForm(forms.ModelForm):  # type: ignore[type-arg]
    """A draft of a rule."""

    trigger = forms.ChoiceField(
        label=gettext_lazy("Trigger"),
        required=False,
        help_text=gettext_lazy("What has to happen for it to be paid."),
    )
    currency = forms.ChoiceField(
        label=gettext_lazy("Currency"),
        required=False,
        choices=[
            ("", gettext_lazy("any currency")),
            *((code, code) for code in sorted(DECIMAL_PLACES)),
        ],
        help_text=gettext_lazy(
            "Of every sum in here. A percentage without any sums may be of any currency."
        ),
    )
    flat_minor = _amount(
        gettext_lazy("Flat sum"),
        gettext_lazy("For each conversion, as 5 or 7.50, whatever it is worth."),
    )
    minimum_minor = _amount(
        gettext_lazy("Minimum amount"),
        gettext_lazy("The rule is not for conversions that are worth less, as 20."),
    )
    cap_minor = _amount(
        gettext_lazy("Cap per conversion"),
        gettext_lazy("As 50: a conversion never earns more by this rule."),
    )
    period_cap_minor = _amount(
        gettext_lazy("Cap per period"),
        gettext_lazy("As 1000: no partner earns more by this rule in the period."),
    )
    tiers = TiersField(
        label=gettext_lazy("Tiers"),
        required=False,
        help_text=gettext_lazy(
            "What it pays instead once a partner has brought so much in the period. After the "
            "first 100 it pays 7.50: the 101st is the first that does. A percentage or a sum, as "
            "above. Rows that are empty do not count; save to get more of them."
        ),
    )
    valid_from = MomentField(
        label=gettext_lazy("Valid from"),
        required=False,
        help_text=gettext_lazy("Empty: from when it is published on."),
    )
    valid_until = MomentField(
        label=gettext_lazy("Valid until"),
        required=False,
        help_text=gettext_lazy("Empty: until it is replaced, or is let end."),
    )

    class Meta:
        model = CommissionRule
        fields = (
            "name",
            "partner",
            "group",
            "trigger",
            "percent",
            "flat_minor",
            "currency",
            "tiers",
            "tiers_by",
            "period",
            "minimum_minor",
            "cap_minor",
            "period_cap_minor",
            "times",
            "months",
            "priority",
            "valid_from",
            "valid_until",
        )
        help_texts = {
            "name": gettext_lazy("As “Spring sale, 10 %”."),
            "group": gettext_lazy("For its members. Either a partner or a group, or neither."),
            "percent": gettext_lazy(
                "As 10 or 7.5. Either a percentage or a flat sum has to be there."
            ),
            "tiers_by": gettext_lazy("What is counted: how many conversions, or what they sum to."),
            "times": gettext_lazy("As 3: only a person’s first three conversions are paid."),
            "months": gettext_lazy(
                "As 12: a person’s conversions are paid for a year after their first one."
            ),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rule: CommissionRule = self.instance
        trigger: Any = self.fields.get("trigger")
        if trigger is not None:
            trigger.choices = trigger_choices(rule.trigger, _("any trigger"))
        if rule.pk is None:
            return
        for name in SUMS:
            self.initial[name] = major_of(getattr(rule, name), rule.currency)
        agreed = rule.terms
        self.initial["tiers"] = [
            (
                major_of(tier.start, rule.currency) if agreed.by_amount else tier.start,
                major_of(tier.rate, rule.currency)
                if isinstance(tier.rate, int)
                else terms.plain(tier.rate),
            )
            for tier in agreed.tiers
        ]

    def clean(self) -> None:
        """Turn sums into minor units."""
        super().clean()
        data: Any = self.cleaned_data
        currency = data.get("currency") or ""
        given = [name for name in SUMS if data.get(name) is not None]
        for name in given:
            # Without a currency there is no saying, and the model asks for one.
            try:
                data[name] = minor_of(data[name], currency) if currency else 0
            except ValidationError as error:
                self.add_error(name, error)
        if "tiers" in data:
            try:
                data["tiers"] = self._tiers(data["tiers"], currency)
            except ValidationError as error:
                self.add_error("tiers", error)

    def _tiers(self, rows: Sequence[tuple[Decimal, Decimal]], currency: str) -> list[Any]:
        """Return tiers as the model has them; raises ValidationError, naming the row."""
        data = self.cleaned_data
        is_flat = data.get("flat_minor") is not None
        if is_flat == (data.get("percent") is not None):
            return []  # There is an error already, and no saying of what kind the rates are.
        by_amount = data.get("tiers_by") == CommissionRule.TiersBy.AMOUNT
        if (by_amount or is_flat) and rows and not currency:
            # The model asks for the currency of a flat sum.
            if not is_flat:
                self.add_error("currency", _("There are sums in the rule: in which currency?"))
            return []
        found: list[Any] = []
        for row, (start, rate) in enumerate(rows, 1):
            try:
                begins = minor_of(start, currency) if by_amount else _whole(start)
                pays = minor_of(rate, currency) if is_flat else terms.plain(_percentage(rate))
            except ValidationError as error:
                raise ValidationError(_in_row(row, error.messages[0]), code="invalid") from error
            found.append([begins, pays])
        return found

    def add_error(self, field: Any, error: Any) -> None:
        """Add what the model objects to, but for what a field has said of itself."""
        if field is None and hasattr(error, "error_dict"):
            error = ValidationError(
                {
                    name: each
                    for name, each in error.error_dict.items()
                    if name not in self.errors and EITHER.get(name) not in self.errors
                }
            )
        super().add_error(field, error)


def _whole(number: Decimal) -> int:
    if number >= 2**63:
        raise ValidationError(_("Is too large."), code="invalid")
    if number != int(number):
        raise ValidationError(_("Conversions are counted in whole numbers."), code="invalid")
    return int(number)


def _percentage(number: Decimal) -> Decimal:
    if number > terms.MAX_PERCENT:
        raise ValidationError(_("No more than 100 % can be paid."), code="invalid")
    return forms.DecimalField(decimal_places=PERCENT_PLACES).clean(str(number)) or Decimal(0)
