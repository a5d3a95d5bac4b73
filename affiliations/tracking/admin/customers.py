"""Customers: who somebody is, by which names, and what they did last."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...admin.lists import NOTHING, LargeChangeList, RecordAdmin, link, list_link, local
from ..models import Customer, Hit, Identity
from . import hits

#: Of a list and of a page.
FEW_NAMES, MANY_NAMES, LATEST = 3, 100, 50


class CustomerChangeList(LargeChangeList):
    """The list of customers, each with some names; as many queries for a hundred as for one."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        customers = list(self.result_list)
        named: dict[int, list[Identity]] = {}
        rows = Identity.objects.filter(customer__in=[each.pk for each in customers])
        for each in rows.order_by("pk")[: 100 * len(customers)]:
            named.setdefault(each.customer_id, []).append(each)
        for customer in customers:
            customer.named = named.get(customer.pk, [])
        self.result_list = customers


@admin.register(Customer)
class CustomerAdmin(RecordAdmin):
    list_display = ("names", "property_", "created_on")
    list_filter = ("property",)
    ordering = ("-pk",)
    list_per_page = 50
    search_fields = ("identities__value",)
    search_help_text = gettext_lazy(
        "What somebody goes by, whole: a client id, an e-mail address, a cookie’s value."
    )
    fields = readonly_fields = ("all_names", "property_", "created_on", "latest")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("property")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[LargeChangeList]:
        return CustomerChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        term = search_term.replace("\0", "").strip()
        if not term:
            return queryset, False
        named = Identity.objects.filter(value=term).values("customer")
        return queryset.filter(pk__in=named), False

    def named(self, row: Any) -> str:
        """Return what a customer is called at the top of their page."""
        first = row.identities.order_by("pk").first()
        return str(first) if first else str(row)

    @admin.display(description=gettext_lazy("goes by"))
    def names(self, customer: Any) -> Any:
        shown = [Truncator(each.value).chars(40) for each in customer.named[:FEW_NAMES]]
        more = len(customer.named) - len(shown)
        text = ", ".join(shown) or NOTHING
        return _("%(names)s and %(n)s more") % {"names": text, "n": more} if more > 0 else text

    @admin.display(description=gettext_lazy("property"))
    def property_(self, customer: Customer) -> Any:
        return link(self.admin_site, customer.property)

    @admin.display(description=gettext_lazy("goes by"))
    def all_names(self, customer: Customer) -> Any:
        rows = list(customer.identities.order_by("pk")[: MANY_NAMES + 1])
        shown = format_html_join(
            "",
            "<li>{}: <code>{}</code>, {}</li>",
            (
                (
                    each.get_kind_display(),
                    Truncator(each.value).chars(120),
                    date_format(local(each.created_on), "DATETIME_FORMAT"),
                )
                for each in rows[:MANY_NAMES]
            ),
        )
        more = _("and more") if len(rows) > MANY_NAMES else ""
        return format_html('<ul class="aff-rows">{}</ul>{}', shown, more)

    @admin.display(description=gettext_lazy("did last"))
    def latest(self, customer: Customer) -> Any:
        rows = Hit.objects.filter(identity__customer=customer).select_related("event_type")
        found = list(rows.order_by("-happened_on", "-pk")[: LATEST + 1])
        if not found:
            return NOTHING
        shown = format_html_join(
            "",
            "<li>{}, {}{} {}</li>",
            (
                (
                    link(self.admin_site, each, hits.what(each)),
                    date_format(local(each.happened_on), "DATETIME_FORMAT"),
                    f", {hits.worth(each)}" if each.minor is not None else "",
                    hits.where(each, 80),
                )
                for each in found[:LATEST]
            ),
        )
        name = customer.identities.order_by("pk").values_list("value", flat=True).first()
        more = list_link(self.admin_site, Hit, _("All of it"), q=name)
        return format_html(
            '<ul class="aff-rows">{}</ul>{}', shown, more if len(found) > LATEST else ""
        )
