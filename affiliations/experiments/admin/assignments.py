"""Assignments: who has seen which variation, to look at."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import ObjectDoesNotExist
from django.http import HttpRequest
from django.utils.formats import date_format
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...admin.lists import NOTHING, RecordAdmin, link, local, marked, number, recent
from ...tracking.models import Identity, Property
from ..models import Assignment, Variation

#: People whom a text that is searched for may be.
MOST_PEOPLE = 1000


class VariationFilter(admin.SimpleListFilter):
    """Keeps what is of a variation, once a campaign is chosen: all others would be too many."""

    title = gettext_lazy("variation")
    parameter_name = "variation"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        chosen = request.GET.get("campaign__id__exact", "")
        rows = Variation.objects.filter(group__campaign=number(chosen)).select_related("group")
        return [
            (str(each.pk), f"{each.group}: {each}") for each in rows.order_by("group", "position")
        ]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() is None:
            return queryset
        return queryset.filter(variation=number(str(self.value())))


class MixedFilter(admin.SimpleListFilter):
    """Keeps whoever has seen another variation, too, of those who have seen one lately."""

    title = gettext_lazy("mixed")
    parameter_name = "mixed"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("Yes")), ("no", _("No"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() not in ("yes", "no"):
            return queryset
        rows = recent(request, queryset, "exposed_on")
        return rows.filter(is_mixed=self.value() == "yes")


@admin.register(Assignment)
class AssignmentAdmin(RecordAdmin):
    list_display = ("who", "campaign_", "variation_", "version", "seen", "mixed")
    list_filter = ("campaign", VariationFilter, MixedFilter)
    list_per_page = 50
    search_fields = ("identity__value",)
    search_help_text = gettext_lazy(
        "What somebody goes by, whole: a visitor’s id, an e-mail address, a cookie’s value."
    )
    fields = readonly_fields = (
        "who",
        "campaign_",
        "group_",
        "variation_",
        "version",
        "assigned_on",
        "exposed_on",
        "mixed",
        "partner_",
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request)
        return rows.prefetch_related("identity", "campaign", "group", "variation")

    def get_ordering(self, request: HttpRequest) -> Any:
        # As the index has it, or else that of the key.
        within = any(name.startswith("campaign") for name in request.GET)
        return ("-exposed_on", "-pk") if within else ("-pk",)

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        term = search_term.replace("\0", "").strip()
        if not term:
            return queryset, False
        # Of the person, not of the name alone; by the index, which begins with the property.
        properties = list(Property.objects.values_list("pk", flat=True))
        named = Identity.objects.filter(property__in=properties, value=term)
        people = list(named.values_list("customer", flat=True)[:MOST_PEOPLE])
        return queryset.filter(identity__customer__in=people), False

    def named(self, row: Any) -> str:
        """Return whose it is."""
        return self.who(row)

    @admin.display(description=gettext_lazy("visitor"))
    def who(self, assignment: Assignment) -> str:
        try:
            return Truncator(assignment.identity.value).chars(60)
        except ObjectDoesNotExist:
            # Somebody is erased just now.
            return NOTHING

    @admin.display(description=gettext_lazy("campaign"))
    def campaign_(self, assignment: Assignment) -> Any:
        return link(self.admin_site, assignment.campaign)

    @admin.display(description=gettext_lazy("variation group"))
    def group_(self, assignment: Assignment) -> Any:
        return link(self.admin_site, assignment.group)

    @admin.display(description=gettext_lazy("variation"))
    def variation_(self, assignment: Assignment) -> str:
        return Truncator(assignment.variation.name).chars(60)

    @admin.display(description=gettext_lazy("seen on"))
    def seen(self, assignment: Assignment) -> str:
        if assignment.exposed_on is None:
            return NOTHING
        return date_format(local(assignment.exposed_on), "SHORT_DATETIME_FORMAT")

    @admin.display(description=gettext_lazy("mixed"))
    def mixed(self, assignment: Assignment) -> Any:
        return marked("dead", _("saw others, too")) if assignment.is_mixed else _("no")

    @admin.display(description=gettext_lazy("partner"))
    def partner_(self, assignment: Assignment) -> Any:
        try:
            partner = assignment.partner
        except ObjectDoesNotExist:
            return NOTHING
        return link(self.admin_site, partner) if partner else NOTHING
