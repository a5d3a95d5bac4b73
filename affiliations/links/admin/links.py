"""Links: generated from a landing page, copied, tried out, and looked after."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.options import IS_POPUP_VAR
from django.contrib.admin.utils import unquote
from django.contrib.auth import get_permission_codename
from django.core.exceptions import PermissionDenied
from django.db import router, transaction
from django.db.models import Q
from django.forms import TextInput
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ... import charts
from ...admin import amounts
from ...admin.acting import ActingAdmin
from ...admin.exports import ExportMixin
from ...admin.figures import last_days
from ...admin.lists import NOTHING, LargeChangeList, PartnerFilter
from ...admin.lists import link as linked
from .. import importing, qr, services
from ..exceptions import UnknownLink
from ..models import LandingPage, Link
from ..querysets import valid
from . import addresses, figures
from .forms import AN_ADDRESS, LinkForm
from .imports import ImportMixin

#: Other landing pages that one link may have.
MOST_PAGES = 20


class ValidFilter(admin.SimpleListFilter):
    """Keeps the links through which clicks count just now, or those through which none does."""

    title = gettext_lazy("valid now")
    parameter_name = "valid"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", gettext_lazy("Yes")), ("no", gettext_lazy("No"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() not in ("yes", "no"):
            return queryset
        now_valid = valid(timezone.now())
        return queryset.filter(now_valid if self.value() == "yes" else ~now_valid)


class DeletedFilter(admin.SimpleListFilter):
    """Leaves out the links that were deleted, unless they are asked for."""

    title = gettext_lazy("deleted")
    parameter_name = "deleted"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", gettext_lazy("Yes")), ("all", gettext_lazy("All"))]

    def choices(self, changelist: Any) -> Any:
        """Return the choices, of which the first is no longer all."""
        first, *others = super().choices(changelist)
        return [{**first, "display": _("No")}, *others]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() == "all":
            return queryset
        return queryset.filter(deleted_on__isnull=self.value() != "yes")


class LinkChangeList(LargeChangeList):
    """The list of links, each with its figures; as many queries for a hundred as for one."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        links = list(self.result_list)
        by_day = figures.by_day(links, last_days()) if links else {}
        before = addresses.router(request)
        for link in links:
            link.address = before + link.path
            link.figures = by_day[link.pk]
        self.result_list = links


class LandingPageInline(admin.StackedInline):  # type: ignore[type-arg]
    """A part of its link: whoever may change that may change this."""

    model = LandingPage
    fields = (("url", "weight"),)
    extra = 0
    max_num = MOST_PAGES

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "url":
            kwargs["widget"] = TextInput(AN_ADDRESS)
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(self._links.has_view_permission(request, obj))

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is None:
            return bool(self._links.has_add_permission(request))
        return bool(self._links.has_change_permission(request, obj))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(self._links.has_change_permission(request, obj))

    has_delete_permission = has_change_permission

    @property
    def _links(self) -> Any:
        return self.admin_site.get_model_admin(Link)


@admin.register(Link)
class LinkAdmin(ImportMixin, ExportMixin, ActingAdmin):
    form = LinkForm
    autocomplete_fields = ("partner",)
    list_display = (
        "address",
        "leads_to",
        "badge",
        "last_days",
        "amount",
        "partner_",
    )
    list_display_links = None
    list_filter = ("active", ValidFilter, PartnerFilter, DeletedFilter)
    ordering = ("-pk",)
    list_per_page = 50
    list_max_show_all = 100
    search_fields = ("path",)
    search_help_text = gettext_lazy(
        "A whole path or address, a whole item, or how a landing page begins."
    )
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "landing_page",
                    "item_id",
                    "partner",
                    "callback_url",
                    ("floor_price", "currency"),
                    "active",
                )
            },
        ),
        (
            gettext_lazy("Advanced"),
            {
                "classes": ("collapse",),
                "fields": (
                    "path",
                    "valid_from",
                    "valid_until",
                    "adds",
                    "passes",
                    "expects",
                    "weight",
                ),
            },
        ),
    )
    inlines = (LandingPageInline,)
    actions = ("activate", "deactivate", "delete_links")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is not None and obj.deleted_on is not None:
            return False
        return admin.ModelAdmin.has_change_permission(self, request, obj)

    def has_remove_permission(self, request: HttpRequest) -> bool:
        """Tell whether somebody may delete links, as an action: Django's own would end the rows."""
        codename = get_permission_codename("delete", self.opts)
        return request.user.has_perm(f"{self.opts.app_label}.{codename}")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[LargeChangeList]:
        return LinkChangeList

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("partner")

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        term = search_term.strip()
        before = addresses.router(request)
        if before and term.startswith(before):
            return queryset.filter(path=term.removeprefix(before).partition("/")[0]), False
        if not term:
            return queryset, False
        for exact in (Q(path=term), Q(item_id=term)):
            if Link.objects.filter(exact).exists():
                return queryset.filter(exact), False
        begins = Q(landing_page__startswith=term)
        for scheme in ("https://", "http://"):
            begins |= Q(landing_page__startswith=scheme + term)
        return queryset.filter(begins), False

    @admin.display(description=gettext_lazy("link"))
    def address(self, link: Any) -> str:
        # The address is no <a>: whoever of the staff followed it might become a click.
        return format_html(
            '{}<br><code class="aff-copy" data-copy="{}">{}</code>',
            linked(self.admin_site, link),
            _("Copy the address of %(link)s") % {"link": link},
            link.address,
        )

    @admin.display(description=gettext_lazy("item and landing page"))
    def leads_to(self, link: Link) -> str:
        page = link.landing_page
        text = Truncator(page.partition("://")[2] or page).chars(50)
        return format_html(
            '{}<br><span class="aff-url" title="{}">{}</span>',
            Truncator(link.item_id).chars(40),
            page,
            text,
        )

    @admin.display(description=gettext_lazy("partner"))
    def partner_(self, link: Link) -> Any:
        return linked(self.admin_site, link.partner) if link.partner else NOTHING

    @admin.display(description=gettext_lazy("state"))
    def badge(self, link: Link) -> str:
        state, text = _state(link)
        return format_html('<span class="aff-badge aff-{}">{}</span>', state, text)

    @admin.display(description=gettext_lazy("last 30 days"))
    def last_days(self, link: Any) -> str:
        found = link.figures
        return format_html(
            "{}{}",
            charts.sparkline(found.clicks, title=_in_words(found)),
            ngettext(
                "%(clicks)s click, %(completed)s completed",
                "%(clicks)s clicks, %(completed)s completed",
                sum(found.clicks),
            )
            % {"clicks": _number(sum(found.clicks)), "completed": _number(sum(found.completed))},
        )

    @admin.display(description=gettext_lazy("amount"))
    def amount(self, link: Any) -> str:
        return amounts.amounts(link.figures.totals)

    # For somebody who may only look, and has no form.
    @admin.display(description=gettext_lazy("floor price"))
    def floor_price(self, link: Link) -> str:
        return amounts.amount(link.floor_minor, link.currency)

    def heading(self) -> list[str]:
        # As they are imported.
        return [*importing.COLUMNS, *importing.IGNORED]

    def cells(self, request: HttpRequest, rows: Iterator[Link]) -> Iterator[list[Any]]:
        before = addresses.router(request)
        for link in rows:
            yield [*importing.cells(link), before + link.path]

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        # Whoever has generated one wants to copy its address.
        elsewhere = {"_addanother", IS_POPUP_VAR} & request.POST.keys()
        if not elsewhere and self.has_view_or_change_permission(request, obj):
            name = "admin:affiliations_links_link_change"
            url = reverse(name, args=[obj.pk], current_app=self.admin_site.name)
            text = _("The link was generated. Its address is ready to be copied.")
            self.message_user(request, text, messages.SUCCESS)
            return HttpResponseRedirect(url)
        return super().response_add(request, obj, post_url_continue)

    def offers(self, action: str, row: Link) -> bool:
        if row.deleted_on is not None:
            return False
        return action == "delete_links" or row.active == (action == "deactivate")

    @admin.action(description=gettext_lazy("Activate"), permissions=["act"])
    def activate(self, request: HttpRequest, queryset: Any) -> None:
        count = self._switch(request, queryset, active=True)
        text = ngettext("%(n)s link is now active.", "%(n)s links are now active.", count)
        self.message_user(request, text % {"n": count}, messages.SUCCESS)

    @admin.action(description=gettext_lazy("Deactivate"), permissions=["act"])
    def deactivate(self, request: HttpRequest, queryset: Any) -> None:
        count = self._switch(request, queryset, active=False)
        text = ngettext(
            "%(n)s link is not active any more.", "%(n)s links are not active any more.", count
        )
        self.message_user(request, text % {"n": count}, messages.SUCCESS)

    def _switch(self, request: HttpRequest, queryset: Any, *, active: bool) -> int:
        message = _("Activated.") if active else _("Deactivated.")
        changed = self.selected(request, queryset.kept().filter(active=not active))
        with transaction.atomic(using=router.db_for_write(Link)):
            for link in changed:
                link.active = active
                # By save, so that this process sees it at once.
                link.save(update_fields=["active"])
                self.log_change(request, link, message)
        return len(changed)

    @admin.action(description=gettext_lazy("Delete"), permissions=["remove"])
    def delete_links(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        rows = self.selected(request, queryset.kept())
        text = _(
            "Whoever follows them is told that there is no such link. Their transactions stay, and "
            "can still be completed and refunded. Their paths are never given out again. There is "
            "no way back."
        )
        title = _("Delete these links?")
        asked = rows and self.confirmation(request, rows, "delete_links", title=title, text=text)
        if asked or not rows:
            return asked or None
        deleted = 0
        for row in rows:
            try:
                services.delete_link(row.path)
            except UnknownLink:
                continue  # by a colleague, meanwhile
            deleted += 1
            self.log_change(request, row, _("Deleted."))
        done = ngettext("%(n)s link was deleted.", "%(n)s links were deleted.", deleted)
        self.message_user(request, done % {"n": deleted}, messages.SUCCESS)
        return None

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.qr_view)
        name = "affiliations_links_link_qr"
        return [path("<path:object_id>/qr.svg", view, name=name), *super().get_urls()]

    def qr_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Answer with the link's QR code, to be saved."""
        link = self.get_object(request, unquote(object_id))
        if link is None or not qr.is_available():
            raise Http404("link: there is none with this key")
        if not self.has_view_or_change_permission(request, link):
            raise PermissionDenied
        drawn = qr.file(addresses.address(request, link))
        response = HttpResponse(drawn, content_type="image/svg+xml")
        response.headers["Content-Disposition"] = f'attachment; filename="{link.path}.svg"'
        return response

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> Any:
        link = kwargs.get("obj")
        if link is not None:
            context["panel"] = self._panel(request, link)
        return super().render_change_form(request, context, *args, **kwargs)

    def _panel(self, request: HttpRequest, link: Link) -> dict[str, Any]:
        days = last_days()
        found = figures.by_day([link], days)[link.pk]
        sold, totals, more = figures.ever_sold(link)
        title = _("Clicks, completed purchases and amounts on each of the last 30 days")
        series = [
            charts.Series(_("Clicks"), found.clicks),
            charts.Series(_("Completed"), found.completed),
            *(
                charts.Series(
                    _("Amount in %(currency)s") % {"currency": currency},
                    amounts.columns(values, currency),
                    [amounts.amount(each, currency) for each in values],
                )
                for currency, values in sorted(found.amounts.items())
            ),
        ]
        address = addresses.address(request, link)
        name = "admin:affiliations_links_transaction_changelist"
        transactions = reverse(name, current_app=self.admin_site.name)
        return {
            "address": address,
            "is_mounted": addresses.is_mounted(request),
            "deleted_on": link.deleted_on,
            "badge": self.badge(link),
            "qr": qr.inline(address) if qr.is_available() else "",
            "qr_url": self._url("qr", link.pk),
            "outlook": [] if link.deleted_on else addresses.outlook(link, request.user),
            "words": _in_words(found),
            "sold": f"{_number(sold)}+" if more else _number(sold),
            "totals": amounts.amounts(totals),
            "more": more,
            "transactions_url": f"{transactions}?link={link.path}",
            "chart": charts.daily(days, series, title=title),
            "table": charts.table(days, series, caption=title),
            **self._deep(request, link),
        }

    def _deep(self, request: HttpRequest, link: Link) -> dict[str, Any]:
        """Return the deep link that was asked for, or why there can be none."""
        if not self.has_change_permission(request, link):
            return {}
        found: dict[str, Any] = {"may_deepen": True, "deep_path": request.GET.get("deep", "")}
        if found["deep_path"].strip():
            try:
                found["deep"] = addresses.deep(request, link, found["deep_path"])
            except ValueError as error:
                found["deep_problem"] = str(error)
        return found


def _state(link: Link) -> tuple[str, Any]:
    """Return what a link is at present, as the class of a badge and in words."""
    now = timezone.now()
    if link.deleted_on:
        return "canceled", _("deleted")
    if link.valid_until and now >= link.valid_until:
        return "dead", _("ended")
    if not link.active:
        return "dead", _("switched off")
    if link.valid_from and now < link.valid_from:
        return "pending", _("not begun")
    if link.partner is not None and not link.partner.active:
        return "pending", _("partner not active")
    return "delivered", _("valid")


def _in_words(found: figures.Figures) -> str:
    clicks, completed = sum(found.clicks), sum(found.completed)
    if not clicks and not completed:
        return _("No clicks in the last 30 days")
    text = ngettext(
        "%(clicks)s click and %(completed)s completed in the last 30 days",
        "%(clicks)s clicks and %(completed)s completed in the last 30 days",
        clicks,
    )
    return text % {"clicks": _number(clicks), "completed": _number(completed)}


def _number(number: int) -> str:
    return number_format(number, use_l10n=True, force_grouping=True)
