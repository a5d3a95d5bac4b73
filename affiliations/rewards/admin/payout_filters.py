"""By what the lists of payouts, batches and destinations are filtered."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy

from ...admin.lists import TextFilter, number
from ..models import Method, Payout, PayoutBatch


class CurrencyFilter(admin.SimpleListFilter):
    """Keeps the payouts in a currency."""

    title = gettext_lazy("currency")
    parameter_name = "currency"
    path = "batch__currency"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        codes = PayoutBatch.objects.order_by("currency").values_list("currency", flat=True)
        return [(code, code) for code in codes.distinct()]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        if not value:
            return queryset
        # PostgreSQL takes no NUL.
        return queryset.filter(**{self.path: value}) if value.isprintable() else queryset.none()


class ChoiceFilter(admin.SimpleListFilter):
    """Keeps the rows with one of the values that a field may have; any other is as none."""

    choices_of: ClassVar[Any]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(self.choices_of.choices)

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        if value not in self.choices_of.values:
            return queryset
        return queryset.filter(**{str(self.parameter_name): value})


class StateFilter(ChoiceFilter):
    """Keeps the payouts in a state."""

    title = gettext_lazy("state")
    parameter_name = "state"
    choices_of = Payout.State


class MethodFilter(ChoiceFilter):
    """Keeps what is paid in a way."""

    title = gettext_lazy("method")
    parameter_name = "method"
    choices_of = Method


class WayFilter(MethodFilter):
    """Keeps the payouts that were sent in a way."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [*Method.choices, ("hand", gettext_lazy("by hand"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() == "hand":
            return queryset.filter(method="", sent_on__isnull=False)
        return super().queryset(request, queryset)


class BatchFilter(TextFilter):
    """Keeps the payouts of a batch."""

    title = gettext_lazy("batch")
    label = gettext_lazy("Number of the batch")
    parameter_name = "batch"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(batch=number(self.text)) if self.text else queryset


class OwnCurrencyFilter(CurrencyFilter):
    """Keeps the batches in a currency."""

    path = "currency"
