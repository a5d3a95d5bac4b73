"""Transactions: who clicked, what came of it, and whether the network has heard of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.db.models import Prefetch, Q
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ...admin.acting import ActingAdmin
from ...admin.amounts import amounts, worth
from ...admin.callbacks import badge
from ...admin.exports import ExportMixin, moment
from ...admin.lists import (
    NOTHING,
    TextFilter,
    link,
    local,
    marked,
    number,
    partner_of,
    recent,
)
from ...exceptions import InvalidMoney
from ...models import Callback, CallbackAttempt
from ...outcomes import REFUSED
from .. import services
from ..conf import settings
from ..models import Link, Transaction

State = Transaction.State
BADGES = {State.COMPLETED: "delivered", State.REFUNDED: "dead"}


class StateFilter(admin.SimpleListFilter):
    """Keeps the transactions in a state."""

    title = gettext_lazy("state (of the last 30 days, or of the period you choose)")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[Any]:
        return list(State.choices)

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() not in State.values:
            return queryset
        return recent(request, queryset.filter(state=self.value()), "created_on")


class LinkFilter(TextFilter):
    """Keeps the transactions of a link."""

    title = gettext_lazy("link")
    label = gettext_lazy("Whole path")
    parameter_name = "link"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if not self.text:
            return queryset
        return queryset.filter(link__in=list(Link.objects.filter(path=self.text)))


@admin.register(Transaction)
class TransactionAdmin(ExportMixin, ActingAdmin):
    list_display = (
        "number",
        "badge",
        "completed_",
        "relayed_",
        "accepted_",
        "amount",
        "through",
        "who",
        "clicked_on",
        "clicks",
    )
    list_filter = (StateFilter, partner_of("link__partner"), LinkFilter, "created_on")
    date_hierarchy = "created_on"
    ordering = ("-created_on",)
    list_per_page = 50
    search_fields = ("network_id",)
    search_help_text = gettext_lazy(
        "A whole user name, number or item; or the network’s id or an order of the last 30 days, "
        "or of the period that you choose."
    )
    readonly_fields = (
        "badge",
        "link_",
        "item_id",
        "user_",
        "ident",
        "visitor_",
        "clicks",
        "created_on",
        "clicked_on",
        "network_id",
        "landing_page_",
        "query_",
        "amount",
        "order_id",
        "given_",
        "completed_on",
        "fulfilled_on",
        "refunded_on",
        "conversion_",
        "relayed_",
        "accepted_",
        "relay_",
        "adjustment_",
    )
    fieldsets = (
        (None, {"fields": readonly_fields[:6]}),
        (gettext_lazy("The click"), {"fields": readonly_fields[6:12]}),
        (gettext_lazy("The purchase"), {"fields": readonly_fields[12:19]}),
        (gettext_lazy("The network"), {"fields": readonly_fields[19:]}),
    )
    actions = ("refund",)

    def get_queryset(self, request: HttpRequest) -> Any:
        took = CallbackAttempt.objects.filter(status__gte=200, status__lt=300)
        return (
            super()
            .get_queryset(request)
            .prefetch_related(
                "link__partner",
                "user",
                Prefetch("relay", Callback.objects.defer("url", "body")),
                Prefetch("relay__attempt_log", took.only("callback"), to_attr="taken"),
            )
        )

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        # Each by an index, the first of these that there is.
        User: Any = get_user_model()
        named = User._default_manager.filter(**{User.USERNAME_FIELD: term})
        if user := named.values_list("pk", flat=True).first():
            return queryset.filter(user=user), False
        if Transaction.objects.filter(pk=number(term)).exists():
            return queryset.filter(pk=term), False
        if Link.objects.filter(item_id=term).exists():
            return queryset.filter(link__item_id=term), False
        rows = queryset.filter(Q(network_id=term) | Q(order_id=term))
        return recent(request, rows, "created_on"), False

    @admin.display(description=gettext_lazy("number"))
    def number(self, row: Transaction) -> str:
        return str(row.pk)

    @admin.display(description=gettext_lazy("state"))
    def badge(self, row: Transaction) -> Any:
        return marked(BADGES.get(State(row.state), "plain"), row.get_state_display())

    @admin.display(description=gettext_lazy("link"))
    def link_(self, row: Transaction) -> Any:
        return link(self.admin_site, row.link)

    @admin.display(description=gettext_lazy("user"))
    def user_(self, row: Transaction) -> Any:
        return link(self.admin_site, row.user) if row.user else NOTHING

    @admin.display(description=gettext_lazy("link and item"))
    def through(self, row: Transaction) -> Any:
        return format_html("{}<br>{}", self.link_(row), Truncator(row.item_id).chars(40))

    @admin.display(description=gettext_lazy("user and browser"))
    def who(self, row: Transaction) -> Any:
        if not row.ident:
            return self.user_(row)
        text = Truncator(row.ident).chars(12)
        browser = format_html('<span class="aff-code" title="{}">{}</span>', row.ident, text)
        return format_html("{}<br>{}", self.user_(row), browser) if row.user else browser

    @admin.display(description=gettext_lazy("amount"))
    def amount(self, row: Transaction) -> str:
        return worth(row)

    @admin.display(description=gettext_lazy("completed"))
    def completed_(self, row: Transaction) -> str:
        done = row.completed_on
        return date_format(local(done), "SHORT_DATE_FORMAT") if done else NOTHING

    @admin.display(description=gettext_lazy("relayed"))
    def relayed_(self, row: Transaction) -> Any:
        return marked(*relayed(row))

    @admin.display(description=gettext_lazy("accepted by the network"))
    def accepted_(self, row: Transaction) -> Any:
        return marked(*accepted(row))

    @admin.display(description=gettext_lazy("visitor"))
    def visitor_(self, row: Transaction) -> Any:
        return link(self.admin_site, row.visitor, row.visitor_id) if row.visitor else NOTHING

    # What visitors and networks sent is text, neither rendered nor led to.
    @admin.display(description=gettext_lazy("landing page"))
    def landing_page_(self, row: Transaction) -> Any:
        return format_html('<span class="aff-url">{}</span>', row.landing_page or NOTHING)

    @admin.display(description=gettext_lazy("query"))
    def query_(self, row: Transaction) -> Any:
        return _as_text(row.query)

    @admin.display(description=gettext_lazy("given for the network"))
    def given_(self, row: Transaction) -> Any:
        return _as_text(row.given)

    @admin.display(description=gettext_lazy("conversion"))
    def conversion_(self, row: Transaction) -> Any:
        return link(self.admin_site, row.conversion) if row.conversion else NOTHING

    @admin.display(description=gettext_lazy("call that tells of it"))
    def relay_(self, row: Transaction) -> Any:
        return self._callback(row.relay)

    @admin.display(description=gettext_lazy("call that takes it back"))
    def adjustment_(self, row: Transaction) -> Any:
        return self._callback(row.adjustment)

    def _callback(self, callback: Callback | None) -> Any:
        if callback is None:
            return NOTHING
        return format_html("{} {}", link(self.admin_site, callback), badge(callback))

    def heading(self) -> list[str]:
        zone = timezone.get_current_timezone_name()
        names = [
            _("first click on (%(zone)s)"),
            _("last click on (%(zone)s)"),
            _("fulfilled on (%(zone)s)"),
            _("completed on (%(zone)s)"),
            _("refunded on (%(zone)s)"),
        ]
        return [
            _("number"),
            _("state"),
            _("link"),
            _("partner"),
            _("item"),
            _("user"),
            _("browser"),
            _("clicks"),
            *(name % {"zone": zone} for name in names),
            _("amount"),
            _("currency"),
            _("order"),
            _("network’s transaction"),
            _("relayed"),
            _("accepted by the network"),
        ]

    def cells(self, request: HttpRequest, rows: Iterator[Transaction]) -> Iterator[list[Any]]:
        for row in rows:
            dates = (row.created_on, row.clicked_on, row.fulfilled_on, row.completed_on)
            yield [
                row.pk,
                row.get_state_display(),
                row.path,
                row.link.partner.name if row.link.partner else "",
                row.item_id,
                row.user and row.user.get_username(),
                row.ident,
                row.clicks,
                *map(moment, (*dates, row.refunded_on)),
                _major(row),
                row.currency,
                row.order_id,
                row.network_id,
                *(str(text) if state else "" for state, text in (relayed(row), accepted(row))),
            ]

    def offers(self, action: str, row: Transaction) -> bool:
        return row.state == State.COMPLETED

    @admin.action(description=gettext_lazy("Refund"), permissions=["act"])
    def refund(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        rows = self.selected(request, queryset.filter(state=State.COMPLETED))
        if not rows:
            text = _("Only what was completed can be refunded.")
            self.message_user(request, text, messages.WARNING)
            return None
        title = _("Refund these purchases?")
        text = _consequences(rows)
        if asked := self.confirmation(request, rows, "refund", title=title, text=text):
            return asked
        refunded = [row for row in rows if services.refund_transaction(row)]
        for row in refunded:
            self.log_change(request, row, _("Refunded."))
        done = ngettext(
            "%(n)s purchase was refunded.", "%(n)s purchases were refunded.", len(refunded)
        )
        self.message_user(request, done % {"n": len(refunded)}, messages.SUCCESS)
        return None


def relayed(row: Transaction) -> tuple[str, Any]:
    """Return whether the network was told of a purchase: the class of a badge, and words.

    It was where a call of it was answered by success, whatever the answer said.
    """
    relay = row.relay
    if row.completed_on is None:
        return "", NOTHING
    if relay is None:
        return "plain", _("nobody to tell")
    if relay.state in (Callback.State.DELIVERED, Callback.State.REFUSED) or _was_taken(relay):
        return "delivered", _("relayed")
    state = "pending" if relay.state == Callback.State.PARKED else relay.state
    return state, relay.get_state_display()


def accepted(row: Transaction) -> tuple[str, Any]:
    """Return likewise whether it said that it accepts the purchase."""
    relay = row.relay
    if relay is None or row.completed_on is None:
        return "", NOTHING
    if relay.state == Callback.State.REFUSED:
        said = relay.reason.removeprefix(REFUSED).strip().removeprefix("It said: ")
        return "dead", _("refused: %(said)s") % {"said": Truncator(said).chars(60)}
    if relay.state == Callback.State.DELIVERED:
        if relay.expects:
            return "delivered", _("accepted")
        return "plain", _("no answer is expected")
    return "", NOTHING


def _was_taken(relay: Any) -> bool:
    taken = getattr(relay, "taken", None)
    if taken is None:
        taken = relay.attempt_log.filter(status__gte=200, status__lt=300)[:1]
    return len(taken) > 0


def _major(row: Transaction) -> Any:
    """Return an amount for a spreadsheet; one that no currency has as it is written."""
    try:
        return row.money and row.money.amount
    except InvalidMoney:
        return row.amount_minor


def _as_text(values: Any) -> Any:
    """Return stored parameters a line each; what is no such thing as it is."""
    pairs = values.items() if isinstance(values, Mapping) else [("", values)]
    lines = [
        f"{name}: {each}"
        for name, value in pairs
        for each in (value if isinstance(value, list) else [value])
    ]
    text = "\n".join(lines).encode(errors="replace").decode()
    return format_html('<span class="aff-url aff-body">{}</span>', text or NOTHING)


def _consequences(rows: list[Transaction]) -> str:
    """Say what a refund will do."""
    if len(rows) > 1:
        network = _(
            "Each network that was told of its purchase is told that it does not count; one that "
            "was not told yet is not told any more."
        )
    elif (relay := rows[0].relay) is None:
        network = _("No network was to be told of it, and none is told now.")
    elif relay.state == Callback.State.REFUSED:
        network = _("The network had refused it, and is not told again.")
    elif relay.attempts == 0:
        network = _("The network was not told of it yet, and will not be.")
    else:
        network = _("The network was told of it, and is told now that it does not count.")
    paid: dict[str, int] = {}
    for row in rows:
        paid[row.currency] = paid.get(row.currency, 0) + (row.amount_minor or 0)
    amount = _("%(amount)s was paid.") % {"amount": amounts(paid)}
    credited = _("What partners were credited with for it is taken back.")
    alerts = settings.REFUND_ALERTS
    mailed = _("A mail goes to %(who)s.") % {"who": ", ".join(alerts)} if alerts else ""
    last = _("There is no way back. The money itself you return where it was paid.")
    return " ".join(filter(None, [amount, network, credited, mailed, last]))
