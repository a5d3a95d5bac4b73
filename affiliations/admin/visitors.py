"""Visitors: to look at, to search and to take away as a table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..models import Conversion, Visitor
from .exports import ExportMixin, moment
from .lists import NOTHING, PartnerFilter, RecordAdmin, happened, link, local, number, with_uid

WEB = re.compile(r"^https?://")
SUB_IDS = ("sub1", "sub2", "sub3", "sub4", "sub5")
MAX_WORDS = 5
MAX_CREDITED = 20


@admin.register(Visitor)
class VisitorAdmin(ExportMixin, RecordAdmin):
    list_display = ("number", "partner_", "entry_point_", "user_", "referred_on", "successful_on")
    list_filter = (
        PartnerFilter,
        happened("successful_on", gettext_lazy("success")),
        "referred_on",
    )
    date_hierarchy = "referred_on"
    ordering = ("-referred_on",)
    sortable_by = ("referred_on",)
    list_per_page = 50
    search_fields = ("entry_point",)
    search_help_text = gettext_lazy(
        "A partner’s id in links, a whole user name, a visitor’s number, or part of an entry point."
    )
    fields = readonly_fields = (
        "number",
        "partner_",
        "user_",
        "entry_point_as_text",
        "referrer_host",
        "referred_on",
        "clicked_on",
        "successful_on",
        "credited_with",
        "click_id",
        "sub_ids_",
        "ident",
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("partner", "user")

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        for word in search_term.split()[:MAX_WORDS]:
            queryset = queryset.filter(_meant_by(word))
        return queryset, False

    @admin.display(description=gettext_lazy("number"))
    def number(self, visitor: Visitor) -> str:
        return str(visitor.pk)

    @admin.display(description=gettext_lazy("partner"))
    def partner_(self, visitor: Visitor) -> Any:
        return link(self.admin_site, visitor.partner)

    @admin.display(description=gettext_lazy("user"))
    def user_(self, visitor: Visitor) -> Any:
        return link(self.admin_site, visitor.user) if visitor.user else NOTHING

    @admin.display(description=gettext_lazy("credited with"))
    def credited_with(self, visitor: Visitor) -> Any:
        credited = Conversion.objects.filter(shares__visitor=visitor).order_by("-created_on", "-pk")
        rows = list(credited[: MAX_CREDITED + 1])
        shown = format_html_join(
            "",
            "<li>{}, {}{}</li>",
            (
                (
                    link(self.admin_site, row),
                    date_format(local(row.created_on), "DATETIME_FORMAT"),
                    _(" (taken back)") if row.reversed_on else "",
                )
                for row in rows[:MAX_CREDITED]
            ),
        )
        if not rows:
            return NOTHING
        more = _("and others before") if len(rows) > MAX_CREDITED else ""
        return format_html('<ul class="aff-rows">{}</ul>{}', shown, more)

    # Text, not a link: what visitors send is nothing that staff should be led to.
    @admin.display(description=gettext_lazy("entry point"))
    def entry_point_(self, visitor: Visitor) -> Any:
        text = Truncator(WEB.sub("", visitor.entry_point)).chars(60)
        return format_html('<span class="aff-url" title="{}">{}</span>', visitor.entry_point, text)

    @admin.display(description=gettext_lazy("entry point"))
    def entry_point_as_text(self, visitor: Visitor) -> Any:
        return format_html('<span class="aff-url">{}</span>', visitor.entry_point)

    @admin.display(description=gettext_lazy("sub ids"))
    def sub_ids_(self, visitor: Visitor) -> str:
        return "\n".join(f"{name}: {value}" for name, value in visitor.sub_ids.items())

    def heading(self) -> list[str]:
        zone = timezone.get_current_timezone_name()
        return [
            _("number"),
            _("partner"),
            _("id in links"),
            _("entry point"),
            _("user"),
            _("referred on (%(zone)s)") % {"zone": zone},
            _("last click on (%(zone)s)") % {"zone": zone},
            _("successful on (%(zone)s)") % {"zone": zone},
            _("coming from"),
            _("click id"),
            *SUB_IDS,
        ]

    def cells(self, request: HttpRequest, rows: Iterator[Visitor]) -> Iterator[list[Any]]:
        for visitor in rows:
            yield [
                visitor.pk,
                visitor.partner.name,
                visitor.partner.uid,
                visitor.entry_point,
                visitor.user and visitor.user.get_username(),
                moment(visitor.referred_on),
                moment(visitor.clicked_on),
                moment(visitor.successful_on),
                visitor.referrer_host,
                visitor.click_id,
                *(visitor.sub_ids.get(name, "") for name in SUB_IDS),
            ]


def _meant_by(word: str) -> Q:
    """Return what a word of a search stands for, the first of these that there is.

    Each by its own index; only what is none of them is looked for in every entry point.
    """
    User: Any = get_user_model()
    if partner := with_uid(word):
        return Q(partner=partner)
    named = User._default_manager.filter(**{User.USERNAME_FIELD: word})
    if user := named.values_list("pk", flat=True).first():
        return Q(user=user)
    if Visitor.objects.filter(pk=number(word)).exists():
        return Q(pk=word)
    return Q(entry_point__icontains=word)
