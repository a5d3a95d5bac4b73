"""Form fields for people: moments by the clock, amounts in major units, triggers by name."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib.admin.widgets import AutocompleteSelect, AutocompleteSelectMultiple
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from .. import dates, firing
from ..exceptions import InvalidMoney
from ..money import DECIMAL_PLACES, Money

__all__ = [
    "MomentField",
    "PickMany",
    "PickOne",
    "RowsField",
    "can_be",
    "major_of",
    "minor_of",
    "trigger_choices",
]


class MomentField(forms.DateTimeField):
    """A date and a time by the site's clock, which the browser helps to choose."""

    widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M:%S")

    def to_python(self, value: Any) -> datetime | None:
        """Return the moment; raises ValidationError for one that no database can hold."""
        if value in self.empty_values or isinstance(value, datetime):
            return super().to_python(value)
        found = dates.moment(str(value).strip())
        if found is None:
            text = _("Must be a date such as 2026-11-20 or 2026-11-20T18:00.")
            raise ValidationError(text, code="invalid")
        return found


class PickOne(AutocompleteSelect):
    """Django's own, that no longer fails to draw what can be no key, but leaves it out."""

    def optgroups(self, name: str, value: Any, attrs: Any = None) -> Any:
        """Return the chosen rows."""
        key = self.choices.queryset.model._meta.pk
        return super().optgroups(name, [each for each in value if can_be(key, each)], attrs)


class PickMany(PickOne, AutocompleteSelectMultiple):
    """The same for any number of rows."""


class RowsField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]
    """Django's own, that says so of what can be no key, where a database would fail at it."""

    def clean(self, value: Any) -> Any:
        """Return the rows; raises ValidationError."""
        rows: Any = self.queryset
        key = rows.model._meta.pk
        for each in value if isinstance(value, list | tuple) else ():
            if not can_be(key, each):
                text = self.error_messages["invalid_pk_value"]
                raise ValidationError(text, code="invalid_pk_value", params={"pk": each[:40]})
        return super().clean(value)


def can_be(key: Any, value: Any) -> bool:
    """Tell whether a field can hold a value, such as a key that somebody sent."""
    try:
        key.clean(value, None)
    except ValidationError:
        return False
    return True


def major_of(minor: int | None, currency: str) -> Decimal | int | None:
    """Return an amount as it is typed; as it is stored where there is no such currency."""
    if minor is None:
        return None
    try:
        return Money(minor, currency).amount
    except InvalidMoney:
        return minor


def minor_of(amount: Decimal | int, currency: str) -> int:
    """Return an amount of major units in minor ones, exactly.

    Raises ValidationError where the currency has no such amount.
    """
    try:
        return Money.of(amount, currency).minor
    except InvalidMoney as error:
        places = DECIMAL_PLACES[currency]
        if abs(Decimal(amount)) >= Decimal(f"{2**63}E-{places}"):
            raise ValidationError(_("Is too large."), code="invalid") from error
        text = _("%(currency)s has %(places)s decimal places, not more.")
        words = {"currency": currency, "places": places}
        raise ValidationError(text % words, code="invalid") from error


def trigger_choices(current: str, empty: Any) -> list[tuple[str, Any]]:
    """Return the triggers that there are, and the current one where it is none of them any more."""
    names = firing.subscribable()
    choices = [("", empty), *((name, name) for name in names)]
    if current and current not in names:
        choices.append((current, _("%(name)s (no longer in the settings)") % {"name": current}))
    return choices
