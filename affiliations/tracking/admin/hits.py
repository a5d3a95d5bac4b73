"""Hits: what somebody did, to look at."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy

from ...admin.lists import NOTHING, RecordAdmin, link, local
from ...money import Money
from ..models import Hit, Identity


def what(hit: Hit) -> str:
    """Return what was done, in a few words."""
    if hit.event_type_id and hit.event_type:
        return hit.event_type.name
    return str(hit.get_type_display())


def where(hit: Hit, most: int) -> Any:
    """Return an address as text: what visitors send is nothing that staff should be led to."""
    text = Truncator(hit.url.removeprefix("https://")).chars(most)
    return format_html('<span class="aff-url" title="{}">{}</span>', hit.url, text)


def worth(hit: Hit) -> str:
    """Return a hit's value in words."""
    return NOTHING if hit.minor is None else str(Money(hit.minor, hit.currency))


@admin.register(Hit)
class HitAdmin(RecordAdmin):
    list_display = ("when", "what", "where", "channel_", "worth", "customer")
    list_filter = ("property",)
    list_per_page = 50
    search_fields = ("identity__value",)
    search_help_text = gettext_lazy(
        "What somebody goes by, whole: a client id, an e-mail address, a cookie’s value."
    )
    fields = readonly_fields = (
        "what",
        "property",
        "customer",
        "name",
        "happened_on",
        "received_on",
        "url_",
        "referrer_",
        "title",
        "channel_",
        "source",
        "medium",
        "campaign",
        "term",
        "content",
        "click_ids",
        "link",
        "worth",
        "transaction_id",
        "is_informational",
        "more",
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request)
        return rows.prefetch_related("event_type", "identity__customer", "property")

    def get_ordering(self, request: HttpRequest) -> Any:
        # As the index has it, or else that of the key.
        within = any(name.startswith("property") for name in request.GET)
        return ("-happened_on", "-pk") if within or request.GET.get("q") else ("-pk",)

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        term = search_term.replace("\0", "").strip()
        if not term:
            return queryset, False
        # Of the person, not of the name alone.
        named = Identity.objects.filter(value=term).values("customer")
        return queryset.filter(identity__customer__in=named), False

    @admin.display(description=gettext_lazy("happened on"))
    def when(self, hit: Hit) -> str:
        return date_format(local(hit.happened_on), "SHORT_DATETIME_FORMAT")

    @admin.display(description=gettext_lazy("what"))
    def what(self, hit: Hit) -> str:
        return what(hit)

    @admin.display(description=gettext_lazy("where"))
    def where(self, hit: Hit) -> Any:
        return where(hit, 40)

    @admin.display(description=gettext_lazy("URL"))
    def url_(self, hit: Hit) -> Any:
        return format_html('<span class="aff-url">{}</span>', hit.url or NOTHING)

    @admin.display(description=gettext_lazy("referrer"))
    def referrer_(self, hit: Hit) -> Any:
        return format_html('<span class="aff-url">{}</span>', hit.referrer or NOTHING)

    @admin.display(description=gettext_lazy("channel"))
    def channel_(self, hit: Hit) -> str:
        return hit.channel.replace("_", " ") or NOTHING

    @admin.display(description=gettext_lazy("value"))
    def worth(self, hit: Hit) -> str:
        return worth(hit)

    @admin.display(description=gettext_lazy("customer"))
    def customer(self, hit: Hit) -> Any:
        return link(self.admin_site, hit.identity.customer, hit.identity.value, most=20)

    @admin.display(description=gettext_lazy("known by"))
    def name(self, hit: Hit) -> Any:
        return format_html(
            "{}: {}", hit.identity.get_kind_display(), Truncator(hit.identity.value).chars(80)
        )

    @admin.display(description=gettext_lazy("more"))
    def more(self, hit: Hit) -> Any:
        return format_html("<pre>{}</pre>", json.dumps(hit.meta, indent=2, ensure_ascii=False))
