"""Reviews: what is held until somebody has decided on it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from django.contrib import admin, messages
from django.db.models import Prefetch
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ...admin.acting import AT_ONCE, ActingAdmin
from ...admin.amounts import amount, amounts, told
from ...admin.lists import BOUND, NOTHING, LargeChangeList, link, list_link, marked, partner_of
from ...exceptions import InvalidTransition
from ...sums import halves, joined
from .. import reviews
from ..conf import settings
from ..flags import APPROVAL, FAILED, name_of
from ..models import Entry, Review
from . import entries
from .commissions import explained
from .forms import RejectionForm

Outcome = Review.Outcome
COLOURS = {Outcome.OPEN: "pending", Outcome.RELEASED: "delivered", Outcome.REJECTED: "dead"}
#: What the reasons that come with the suite are called; others are a site's own, by name.
REASONS = {
    APPROVAL: gettext_lazy("approval by staff"),
    FAILED: gettext_lazy("a check has failed"),
    "soon_after_click": gettext_lazy("soon after the click"),
    "velocity": gettext_lazy("many in a short time"),
    "disposable_mail": gettext_lazy("disposable e-mail address"),
    "partner_network": gettext_lazy("from the partner’s own network"),
}


def worded(reason: str) -> str:
    """Return a reason in words."""
    return str(REASONS.get(reason, reason.replace("_", " ")))


class OutcomeFilter(admin.SimpleListFilter):
    """Keeps what was decided so, or else what is still open: there is no list of all."""

    title = gettext_lazy("outcome")
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[Any]:
        return [choice for choice in Outcome.choices if choice[0] != Outcome.OPEN]

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Name what is shown without it."""
        first, *others = super().choices(changelist)
        yield {**first, "display": Outcome.OPEN.label}
        yield from others

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(outcome=outcome_of(request))


class ReasonFilter(admin.SimpleListFilter):
    """Keeps what is held for a reason; those that there may be, not a search."""

    title = gettext_lazy("reason")
    parameter_name = "reason"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        flags = [name_of(flag) for flag in settings.FLAGS]
        given = [request.GET[self.parameter_name]] if self.parameter_name in request.GET else []
        reasons = dict.fromkeys([APPROVAL, *flags, FAILED, *given])
        return [(reason, worded(reason)) for reason in reasons]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        reason = (self.value() or "").replace("\0", "")
        return queryset.filter(reason=reason) if reason else queryset


def outcome_of(request: HttpRequest) -> str:
    """Return which outcome is looked at."""
    outcome = request.GET.get(OutcomeFilter.parameter_name)
    return outcome if outcome in Outcome.values else Outcome.OPEN


class ReviewChangeList(LargeChangeList):
    """The queue, each with what is left to decide on; as many queries for a hundred as for one."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        lefts = left_of(self.result_list)
        opened = opened_by_partner()
        for review in self.result_list:
            review.left_minor = lefts[review.entry_id]
            partner = review.entry.account.partner_id
            review.others_open = opened[partner] - (review.outcome == Outcome.OPEN)


@admin.register(Review)
class ReviewAdmin(ActingAdmin):
    list_display = (
        "since",
        "whose",
        "held_for",
        "left",
        "conversion_",
    )
    list_filter = (OutcomeFilter, ReasonFilter, partner_of("entry__account__partner"))
    # As many as can be decided on at once.
    list_per_page = AT_ONCE
    readonly_fields = (
        "badge",
        "opened_on",
        "partner_",
        "account_",
        "worded",
        "detail",
        "left",
        "conversion_",
        "commission_",
        "resolved_on",
        "resolved_by",
        "why",
    )
    fieldsets = (
        (None, {"fields": readonly_fields[:-1]}),
        (gettext_lazy("Why was this earned?"), {"fields": ("why",)}),
    )
    actions = ("release", "reject")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[LargeChangeList]:
        return ReviewChangeList

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Show first what has waited longest, or what was decided on is the youngest."""
        is_queue = outcome_of(request) == Outcome.OPEN
        return ("opened_on", "pk") if is_queue else ("-opened_on", "-pk")

    def get_queryset(self, request: HttpRequest) -> Any:
        entry = Entry.objects.prefetch_related("account__partner", "commission__conversion")
        rows = super().get_queryset(request)
        return rows.prefetch_related(Prefetch("entry", entry), "resolved_by")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """Say above the list how many are open."""
        number = sum(opened_by_partner().values())
        text = ngettext("Reviews: %(number)s open", "Reviews: %(number)s open", number)
        shown = f"{number_format(number, force_grouping=True)}{'+' if number >= BOUND else ''}"
        context = {"title": text % {"number": shown}, **(extra_context or {})}
        return super().changelist_view(request, context)

    def named(self, row: Any) -> str:
        return described(row)

    @admin.display(description=gettext_lazy("waiting since"))
    def since(self, review: Review) -> str:
        ago = _("%(time)s ago") % {"time": timesince(review.opened_on, timezone.now(), depth=1)}
        return f"{entries.day(review.opened_on)} ({ago})"

    @admin.display(description=gettext_lazy("state"))
    def badge(self, review: Review) -> Any:
        colour = COLOURS.get(Outcome(review.outcome), "canceled")
        return marked(colour, review.get_outcome_display())

    @admin.display(description=gettext_lazy("partner"))
    def partner_(self, review: Review) -> Any:
        account = review.entry.account
        return link(self.admin_site, account.partner) if account.partner else account.holder

    @admin.display(description=gettext_lazy("account"))
    def account_(self, review: Review) -> Any:
        return link(self.admin_site, review.entry.account)

    @admin.display(description=gettext_lazy("reason"))
    def worded(self, review: Review) -> str:
        return worded(review.reason)

    @admin.display(description=gettext_lazy("reason"))
    def held_for(self, review: Review) -> Any:
        return format_html("{}<br>{}", worded(review.reason), review.detail)

    @admin.display(description=gettext_lazy("amount left"))
    def left(self, review: Any) -> str:
        if not hasattr(review, "left_minor"):
            review.left_minor = left_of([review])[review.entry_id]
        return amount(review.left_minor, review.entry.account.currency)

    @admin.display(description=gettext_lazy("conversion"))
    def conversion_(self, review: Review) -> Any:
        commission = review.entry.commission
        return link(self.admin_site, commission.conversion) if commission else NOTHING

    @admin.display(description=gettext_lazy("commission"))
    def commission_(self, review: Review) -> Any:
        commission = review.entry.commission
        if commission is None:
            return NOTHING
        return link(self.admin_site, commission, told(commission.money))

    @admin.display(description=gettext_lazy("partner"))
    def whose(self, review: Any) -> Any:
        """Name the partner, and lead to what else of theirs is held."""
        partner = review.entry.account.partner
        if partner is None or not review.others_open:
            return self.partner_(review)
        text = ngettext("%(n)s other open", "%(n)s others open", review.others_open)
        text %= {"n": review.others_open}
        others = list_link(self.admin_site, Review, text, partner=partner.uid)
        return format_html("{}<br>{}", self.partner_(review), others)

    @admin.display(description=gettext_lazy("decision"))
    def why(self, review: Review) -> Any:
        commission = review.entry.commission
        return explained(commission.conversion) if commission else NOTHING

    def offers(self, action: str, row: Review) -> bool:
        return row.outcome == Outcome.OPEN

    @admin.action(description=gettext_lazy("Release"), permissions=["act"])
    def release(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        rows = self._open(request, queryset)
        text = _(
            "It may then be paid out, as far as this is concerned: each is still held by its date, "
            "and by its other reviews that are open."
        )
        title = _("Release these commissions?")
        asked = rows and self.confirmation(
            request, rows, "release", title=title, text=text, lines=_lines(rows)
        )
        if asked or not rows:
            return asked or None
        done = self._decided(request, rows, reviews.release, _("Released."))
        text = ngettext("%(n)s review was released.", "%(n)s reviews were released.", done)
        self._tell(request, text, done)
        return None

    @admin.action(description=gettext_lazy("Reject"), permissions=["act"])
    def reject(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        rows = self._open(request, queryset)
        if not rows:
            return None
        form = RejectionForm(data=request.POST if request.POST.get("confirmed") else None)
        if not form.is_valid():
            return self.question(
                request,
                rows,
                "reject",
                title=_("Reject these commissions?"),
                text=_(
                    "%(sum)s is taken back from the partners. It never comes again: what was "
                    "rejected once cannot be released later."
                )
                % {"sum": _sum(rows)},
                lines=_lines(rows),
                form=form,
            )
        memo = form.cleaned_data["memo"]
        said = _("Rejected: %(memo)s") % {"memo": memo} if memo else _("Rejected.")
        # Of an entry with several reviews the first rejection closes the others.
        firsts = {row.entry_id: row for row in reversed(rows)}
        done = self._decided(
            request,
            list(firsts.values()),
            lambda row, by: reviews.reject(row, by=by, memo=memo),
            said,
        )
        text = ngettext("%(n)s commission was rejected.", "%(n)s commissions were rejected.", done)
        self._tell(request, text, done)
        return None

    def _open(self, request: HttpRequest, queryset: Any) -> list[Review]:
        """Return those selected that are still to be decided on."""
        rows = self.selected(request, queryset.filter(outcome=Outcome.OPEN))
        if not rows and not queryset.filter(outcome=Outcome.OPEN).exists():
            text = _("Nothing of this is open any more: somebody has decided on it.")
            self.message_user(request, text, messages.WARNING)
        return rows

    def _decided(
        self, request: HttpRequest, rows: list[Review], decide: Callable[..., Any], said: str
    ) -> int:
        """Decide on each; return on how many, and tell of those that somebody else was first at."""
        done = 0
        for row in rows:
            try:
                decide(row, by=request.user)
            except InvalidTransition:
                text = _("Somebody else has decided meanwhile: %(review)s.")
                self.message_user(request, text % {"review": described(row)}, messages.WARNING)
            else:
                done += 1
                self.log_change(request, row, said)
        return done

    def _tell(self, request: HttpRequest, text: str, number: int) -> None:
        if number:
            self.message_user(request, text % {"n": number}, messages.SUCCESS)


def described(review: Review) -> str:
    """Return what a review is about, in a line."""
    whose = review.entry.account.partner or review.entry.account.holder
    return f"{worded(review.reason)}: {entries.purpose(review.entry)[0]}, {whose}"


def _lines(rows: list[Review]) -> list[str]:
    lefts = left_of(rows)
    return [
        f"{amount(lefts[row.entry_id], row.entry.account.currency)}, {described(row)}"
        for row in rows
    ]


def _sum(rows: list[Review]) -> str:
    """Return what rejecting all of these takes back."""
    currencies = {row.entry_id: row.entry.account.currency for row in rows}
    totals: defaultdict[str, int] = defaultdict(int)
    for entry, left in left_of(rows).items():
        totals[currencies[entry]] += left
    return amounts(totals)


def left_of(rows: list[Review]) -> dict[int, int]:
    """Return what is left of the entries that reviews are of: one query."""
    lefts = {row.entry_id: row.entry.minor for row in rows}
    lost = Entry.objects.filter(reverses__in=lefts).order_by().values("reverses")
    for each in lost.annotate(**halves("lost", "minor")):
        lefts[each["reverses"] or 0] += joined(each, "lost")
    return lefts


def opened_by_partner() -> Counter[int | None]:
    """Return how many reviews of each partner's are open, of those that have waited longest."""
    rows = Review.objects.filter(outcome=Outcome.OPEN).order_by("opened_on", "pk")
    return Counter(rows.values_list("entry__account__partner", flat=True)[:BOUND])
