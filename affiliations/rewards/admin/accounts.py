"""Accounts: what is owed to whom, and the statement that tells how it came about."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import Http404, HttpRequest, HttpResponseBase
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ... import charts, csvexport
from ...admin import sections
from ...admin.amounts import amount, columns
from ...admin.exports import moment
from ...admin.figures import day_of, last_days, starts_of
from ...admin.lists import (
    NOTHING,
    LargeChangeList,
    PartnerFilter,
    RecordAdmin,
    TextFilter,
    link,
    list_link,
    local,
    marked,
    number,
)
from ...money import DECIMAL_PLACES
from ...sums import halves, joined
from .. import ledger, statements
from ..models import Account, Commission, Review
from ..settling import UNPAID
from ..statements import Period
from . import entries
from .adjusting import AdjustingMixin
from .commissions import EXPORTED_AT_ONCE, VIEW_REVIEWS
from .forms import StatementForm


class WhoseFilter(admin.SimpleListFilter):
    """Keeps what is owed to others; or the site's own accounts, which it is owed by."""

    title = gettext_lazy("whose")
    parameter_name = "whose"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("site", gettext_lazy("The site’s own"))]

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Name what is shown without it."""
        for choice in super().choices(changelist):
            others = choice["query_string"] == changelist.get_query_string(
                remove=[self.parameter_name]
            )
            yield {**choice, "display": _("Partners’ and others’")} if others else choice

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        own = models.Q(holder__in=ledger.SITE.values())
        return queryset.filter(own if self.value() == "site" else ~own)


class CurrencyFilter(admin.SimpleListFilter):
    """Keeps the accounts in a currency; of those in which anything was ever owed."""

    title = gettext_lazy("currency")
    parameter_name = "currency"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        rows = Account.objects.filter(holder__in=ledger.SITE.values())
        found = rows.order_by("currency").values_list("currency", flat=True).distinct()
        return [(currency, currency) for currency in found]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(currency=self.value()) if self.value() else queryset


class HolderFilter(TextFilter):
    """Keeps the accounts of a holder."""

    title = gettext_lazy("holder")
    label = gettext_lazy("Whole name, such as member:7")
    parameter_name = "holder"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(holder=self.text) if self.text else queryset


class AccountChangeList(LargeChangeList):
    """The list of accounts, each with its balance; as many queries for a hundred as for one."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        found = ledger.balances(self.result_list)
        for account in self.result_list:
            account.balance = found.get(account.pk)


@admin.register(Account)
class AccountAdmin(AdjustingMixin, RecordAdmin):
    list_display = ("whose", "owed_", "available_", "held_", "currency", "partner_")
    list_filter = (WhoseFilter, CurrencyFilter, PartnerFilter, HolderFilter)
    ordering = ("pk",)
    list_per_page = 50
    search_fields = ("holder",)
    search_help_text = gettext_lazy("Part of a partner’s name, its id in links, or a whole holder.")
    change_form_template = "admin/affiliations_rewards/account/change_form.html"
    fields = ()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[LargeChangeList]:
        return AccountChangeList

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("partner")

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        term = search_term.replace("\0", "").strip()
        if Account.objects.filter(holder=term).exists():
            return queryset.filter(holder=term), False
        return PartnerFilter.named(queryset, term) if term else queryset, False

    @admin.display(description=gettext_lazy("account"))
    def whose(self, account: Account) -> str:
        return str(account.partner or account.holder)

    @admin.display(description=gettext_lazy("partner"))
    def partner_(self, account: Account) -> Any:
        return link(self.admin_site, account.partner) if account.partner else NOTHING

    # What the site's own come to is on their pages: it is the sum of nearly all entries.
    @admin.display(description=gettext_lazy("owed"))
    def owed_(self, account: Any) -> Any:
        return owed(account.balance) if account.balance else NOTHING

    @admin.display(description=gettext_lazy("available"))
    def available_(self, account: Any) -> str:
        balance = account.balance
        return amount(balance.available, balance.currency) if balance else NOTHING

    @admin.display(description=gettext_lazy("held"))
    def held_(self, account: Any) -> str:
        balance = account.balance
        return amount(balance.held, balance.currency) if balance else NOTHING

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.statement_view)
        name = "affiliations_rewards_account_statement"
        return [path("<path:object_id>/statement/", view, name=name), *super().get_urls()]

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> Any:
        account = kwargs.get("obj")
        if account is not None:
            form = StatementForm.of(request)
            context["panel"] = self._panel(request, account, form)
            context["statement"] = self._statement(request, account, form)
        return super().render_change_form(request, context, *args, **kwargs)

    def _panel(self, request: HttpRequest, account: Account, form: StatementForm) -> dict[str, Any]:
        balance = ledger.balance(account, as_of=form.moment)
        panel: dict[str, Any] = {
            "whose": link(self.admin_site, account.partner) if account.partner else account.holder,
            "is_site": account.is_site,
            "as_of": form.cleaned_data.get("as_of"),
            "owed": owed(balance, account),
            "available": amount(balance.available, balance.currency),
            "held": amount(balance.held, balance.currency),
            "adjust_url": self._url("adjust", account) if self.may_adjust(request, account) else "",
        }
        if not account.is_site and form.moment is None:
            panel["next"] = statements.next_available(account)
            panel["reviews"] = self._reviews(request, account)
            panel["unpaid"] = unpaid(self.admin_site, account)
        return {**panel, **_chart(account)}

    def _reviews(self, request: HttpRequest, account: Account) -> Any:
        """Say where anything is held for review, and lead there whoever may see it."""
        opened = Review.objects.filter(entry__account=account, outcome=Review.Outcome.OPEN)
        if account.partner is None or not opened.exists():
            return ""
        text = _("some of it for review")
        if not request.user.has_perm(VIEW_REVIEWS):
            return text
        return list_link(self.admin_site, Review, text, partner=account.partner.uid)

    def _statement(
        self, request: HttpRequest, account: Account, form: StatementForm
    ) -> dict[str, Any]:
        before, after = (number(request.GET.get(name, "")) for name in ("before", "after"))
        page = statements.page(account, before=before, after=after, period=form.period)
        shown = [each.entry for each in page.lines]
        paid = entries.payouts_of(shown)
        standing = entries.standings(
            self.admin_site, shown, paid, may_review=request.user.has_perm(VIEW_REVIEWS)
        )
        query = form.query
        return {
            "form": form,
            "lines": [
                {
                    "id": each.entry.pk,
                    "when": local(each.entry.created_on),
                    "what": entries.described(self.admin_site, each.entry, paid),
                    "reverses": each.entry.reverses_id,
                    "reverses_before": (each.entry.reverses_id or 0) + 1,
                    "whose": link(self.admin_site, each.entry.account),
                    "amount": amount(each.minor, account.currency, signed=True),
                    "is_less": each.minor < 0,
                    "balance": amount(each.balance, account.currency),
                    "standing": standing[each.entry.pk],
                }
                for each in page.lines
            ],
            "newest": f"?{query}" if query else "?",
            **_turned(query, page),
            "export_url": f"{self._url('statement', account)}?{query}",
        }

    def statement_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Answer with all lines of the chosen period as CSV, the oldest first."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        account = self.get_object(request, unquote(object_id))
        if account is None:
            raise Http404("account: there is none with this key")
        lines = statements.lines(account, StatementForm.of(request).period)
        filename = f"statement-{account.pk}-{account.currency}-{timezone.now():%Y-%m-%d}.csv"
        return csvexport.response(request, filename, _heading(), _cells(account, lines))

    @property
    def site_name(self) -> str:
        return self.admin_site.name

    def _url(self, name: str, account: Account) -> str:
        name = f"admin:affiliations_rewards_account_{name}"
        return reverse(name, args=[account.pk], current_app=self.site_name)


def unpaid(site: admin.AdminSite, account: Account) -> Any:
    """Return what is in payouts that are not paid yet, of each state; "" where nothing is."""
    rows = account.payouts.filter(state__in=UNPAID).order_by().values("state")
    sums = {row["state"]: joined(row, "all") for row in rows.annotate(**halves("all", "minor"))}
    if not sums:
        return ""
    parts = [
        f"{amount(sums[state], account.currency)} {state.label}"
        for state in UNPAID
        if state in sums
    ]
    shown = amount(sum(sums.values()), account.currency)
    return format_html('{}<br><span class="help">{}</span>', shown, ", ".join(parts))


def owed(balance: ledger.Balance, account: Account | None = None) -> Any:
    """Return what is owed, and to whom, where that is not the holder."""
    shown = amount(balance.total, balance.currency)
    if balance.total >= 0 or (account is not None and account.is_site):
        return shown
    return marked("dead", _("%(sum)s: owed to the site") % {"sum": shown})


def _turned(query: str, page: statements.Page) -> dict[str, str]:
    """Return where the pages beside a page are."""
    if not page.lines:
        return {}
    sides = []
    if page.has_newer:
        sides.append(("newer", "after", page.lines[0]))
    if page.has_older:
        sides.append(("older", "before", page.lines[-1]))
    start = f"?{query}&" if query else "?"
    return {side: f"{start}{name}={line.entry.pk}" for side, name, line in sides}


def _chart(account: Account) -> dict[str, Any]:
    """Draw what was added and taken off on each of the last days."""
    days = last_days()
    starts = starts_of(days)
    rows = statements.within(account, Period(since=starts[0]))
    more, less = models.Q(minor__gt=0), models.Q(minor__lt=0)
    if account.is_site:
        more, less = less, more
    found = (
        rows.values(day=day_of("created_on", starts))
        .annotate(**halves("more", "minor", filter=more), **halves("less", "minor", filter=less))
        .order_by()
    )
    sums = {name: [0] * len(days) for name in ("more", "less")}
    for row in found:
        for name, values in sums.items():
            values[row["day"]] = abs(joined(row, name))
    series = [
        charts.Series(
            label,
            columns(sums[name], account.currency),
            [amount(each, account.currency) for each in sums[name]],
        )
        for label, name in ((_("Added"), "more"), (_("Taken off"), "less"))
    ]
    title = _("What was added, and what was taken off, on each of the last 30 days")
    totals = {name: amount(sum(values), account.currency) for name, values in sums.items()}
    return {
        "words": _("%(more)s added and %(less)s taken off in the last 30 days") % totals,
        "chart": charts.daily(days, series, title=title),
        "table": charts.table(days, series, caption=title),
    }


def _heading() -> list[str]:
    zone = timezone.get_current_timezone_name()
    return [
        _("number"),
        _("date (%(zone)s)") % {"zone": zone},
        _("account"),
        _("kind"),
        _("what for"),
        _("amount"),
        _("balance"),
        _("currency"),
        _("available on (%(zone)s)") % {"zone": zone},
    ]


def _cells(account: Account, lines: Iterator[statements.Line]) -> Iterator[list[Any]]:
    while some := list(islice(lines, EXPORTED_AT_ONCE)):
        paid = entries.payouts_of(each.entry for each in some)
        for each in some:
            entry = each.entry
            yield [
                entry.pk,
                moment(entry.created_on),
                entry.account,
                entry.get_kind_display(),
                entries.words(entry, paid),
                _major(each.minor, account.currency),
                _major(each.balance, account.currency),
                account.currency,
                moment(entry.available_on),
            ]


def _major(minor: int, currency: str) -> Any:
    return Decimal(f"{minor}E-{DECIMAL_PLACES[currency]}")


def accounts_of(request: HttpRequest, site: admin.AdminSite, partner: Any) -> Any:
    """Return the section of a partner's page that says what it is owed, and where to read on."""
    if not request.user.has_perm("affiliations_rewards.view_account"):
        return None
    rows = list(Account.objects.filter(partner=partner).order_by("currency"))
    found = ledger.balances(rows)
    facts = format_html_join(
        "",
        "<div><dt>{}</dt><dd>{}</dd></div>",
        (
            (
                link(site, row, _("Account in %(currency)s") % {"currency": row.currency}),
                _in_a_line(found[row.pk]),
            )
            for row in rows
        ),
    )
    lists = [
        (model, text)
        for model, text in ((Commission, _("Commissions")), (Review, _("Open reviews")))
        if request.user.has_perm(f"affiliations_rewards.view_{model._meta.model_name}")
    ]
    led = format_html_join(
        ", ", "{}", ([list_link(site, model, text, partner=partner.uid)] for model, text in lists)
    )
    none = _("Nothing was ever owed to it.") if not rows else ""
    shown = format_html(
        '<div class="aff-accounts"><dl class="aff-facts">{}</dl><p>{} {}</p></div>',
        facts,
        none,
        led,
    )
    return sections.Section(_("Rewards"), shown)


def _in_a_line(balance: ledger.Balance) -> Any:
    values = (owed(balance), amount(balance.available, balance.currency))
    if balance.total < 0:
        return format_html(_("{}, {} available"), *values)
    return format_html(_("{} owed, {} of it available"), *values)


sections.PARTNER.append(accounts_of)
