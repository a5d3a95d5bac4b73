"""What staff fill in about accounts and reviews."""

from __future__ import annotations

import uuid
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ... import dates
from ...admin.amounts import written
from ...money import Money
from ..conf import settings
from ..models import Account
from ..models.ledger import MAX_MEMO
from ..statements import Period


class DayField(forms.DateField):
    """A day by the site's clock, of which the beginning is a moment that there is."""

    def __init__(self, **options: Any) -> None:
        widget = forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"})
        super().__init__(required=False, widget=widget, **options)

    def clean(self, value: Any) -> date | None:
        """Return the day; raises ValidationError for one that no clock will show."""
        day: date | None = super().clean(value)
        if day is not None and dates.moment(day.isoformat()) is None:
            raise ValidationError(self.error_messages["invalid"], code="invalid")
        return day


class StatementForm(forms.Form):
    """Which part of an account is looked at; what was not understood is left out, and told."""

    as_of = DayField(label=gettext_lazy("Balance at the end of"))
    since = DayField(label=gettext_lazy("Entries from"))
    until = DayField(label=gettext_lazy("to"))

    def clean(self) -> None:
        """See that a period does not end before it begins."""
        super().clean()
        since, until = (self.cleaned_data.get(name) for name in ("since", "until"))
        if since and until and since > until:
            self.add_error("until", _("It ends before it begins."))

    @classmethod
    def of(cls, request: HttpRequest) -> StatementForm:
        """Return the form as it was filled in, looked through."""
        form = cls(request.GET)
        form.is_valid()
        return form

    @property
    def moment(self) -> datetime | None:
        """The moment for which the balance is told, or None for now."""
        end = self._end("as_of")
        return end and end - timedelta(microseconds=1)

    @property
    def period(self) -> Period:
        """The chosen days, both included."""
        since = self.cleaned_data.get("since")
        return Period(since and dates.moment(since.isoformat()), self._end("until"))

    @property
    def query(self) -> str:
        """The same as the end of an address."""
        return urlencode({name: day.isoformat() for name, day in self.cleaned_data.items() if day})

    def _end(self, name: str) -> datetime | None:
        day = self.cleaned_data.get(name)
        return day and dates.moment((day + timedelta(days=1)).isoformat())


class AdjustmentForm(forms.Form):
    """A sum that staff add to what is owed, or take off it, and why."""

    AT_ONCE, HELD = "now", "held"

    amount = forms.CharField(
        label=gettext_lazy("Amount"),
        max_length=50,
        help_text=gettext_lazy("Such as 12.50; with a minus, -12.50, it is taken off."),
    )
    memo = forms.CharField(
        label=gettext_lazy("What for"),
        max_length=MAX_MEMO,
        widget=forms.TextInput(attrs={"class": "vTextField"}),
        help_text=gettext_lazy(
            "It stays in the statement for ever, and partners may see it: name no private person."
        ),
    )
    available = forms.ChoiceField(
        label=gettext_lazy("Available"), widget=forms.RadioSelect, initial=AT_ONCE
    )
    # Made with the form: however often the same form is sent, it posts once.
    token = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)

    def __init__(self, account: Account, **options: Any) -> None:
        super().__init__(**options)
        self.currency = account.currency
        self.fields["amount"].label = _("Amount in %(currency)s") % {"currency": self.currency}
        held: Any = self.fields["available"]
        held.choices = [
            (self.AT_ONCE, _("At once")),
            (
                self.HELD,
                _("After %(days)s days, like a commission") % {"days": settings.HOLD.days},
            ),
        ]

    def clean_amount(self) -> Money:
        """Return the amount as money of the account's currency."""
        money = written(self.cleaned_data["amount"], self.currency)
        if not money.minor:
            raise ValidationError(_("Nothing would be posted: it is zero."), code="zero")
        return money

    @property
    def key(self) -> str:
        """What the ledger knows the adjustment by."""
        return f"adjustment:{self.cleaned_data['token']}"

    @property
    def available_on(self) -> datetime | None:
        """From when on it may be paid out; None stands for at once."""
        is_held = self.cleaned_data["available"] == self.HELD
        return timezone.now() + settings.HOLD if is_held else None


class RejectionForm(forms.Form):
    """Why something is taken back."""

    memo = forms.CharField(
        label=gettext_lazy("Why"),
        max_length=200,
        required=False,
        widget=forms.TextInput(attrs={"class": "vTextField"}),
        help_text=gettext_lazy(
            "It stays in the statement for ever, and partners may see it: name no private person."
        ),
    )
