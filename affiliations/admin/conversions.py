"""Conversions: whom each was credited to, why, and how to take one back."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from .. import firing, services
from ..exceptions import AffiliationsError
from ..models import Callback, Conversion, Reversal, Share, Subscription
from ..models.conversions import MAX_REFERENCE
from ..money import Money
from . import sections
from .acting import ActingAdmin
from .amounts import amount, worth, written
from .callbacks import badge
from .lists import NOTHING, PartnerFilter, RecordInline, happened, link, local, whole


def triggers() -> list[str]:
    """Return the names of triggers that conversions may have, without a look at those."""
    subscribed = Subscription.objects.order_by("trigger").values_list("trigger", flat=True)
    return list(dict.fromkeys([*firing.subscribable(), *subscribed.distinct()]))


class TriggerFilter(admin.SimpleListFilter):
    """Keeps the conversions of a trigger; the names are those that there may be, not a search."""

    title = gettext_lazy("trigger")
    parameter_name = "trigger"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in triggers()]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(trigger=self.value()) if self.value() else queryset


class CreditedFilter(PartnerFilter):
    """Keeps the conversions in which a partner has a share."""

    @staticmethod
    def of(queryset: Any, partners: Any) -> Any:
        own = Share.objects.filter(conversion=models.OuterRef("pk"), visitor__partner__in=partners)
        return queryset.filter(models.Exists(own))

    of_many = of


class ShareInline(RecordInline):
    model = Share
    fields = readonly_fields = ("partner", "visitor_", "part")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("visitor__partner").order_by("-weight")

    @admin.display(description=gettext_lazy("partner"))
    def partner(self, share: Share) -> Any:
        return link(self.admin_site, share.visitor.partner)

    @admin.display(description=gettext_lazy("visitor"))
    def visitor_(self, share: Share) -> Any:
        return link(self.admin_site, share.visitor, share.visitor_id)

    @admin.display(description=gettext_lazy("share"))
    def part(self, share: Share) -> str:
        return f"{100 * share.weight:.6f}".rstrip("0").rstrip(".") + "\N{NO-BREAK SPACE}%"


class ReversalInline(RecordInline):
    model = Reversal
    fields = readonly_fields = ("created_on", "reference", "amount")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("conversion").order_by("pk")

    @admin.display(description=gettext_lazy("amount"))
    def amount(self, reversal: Reversal) -> str:
        return worth(reversal)


class PartForm(forms.Form):
    """How much of a conversion to take back."""

    amount = forms.CharField(label=gettext_lazy("Amount"), max_length=50)
    reference = forms.CharField(
        label=gettext_lazy("Reference"),
        max_length=MAX_REFERENCE,
        required=False,
        help_text=gettext_lazy("The refund’s number, if it has one: it is then taken back once."),
    )

    def __init__(self, conversion: Conversion, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.currency = conversion.currency
        self.fields["amount"].help_text = _("At most %(left)s, which is left of it.") % {
            "left": conversion.standing
        }

    def clean_amount(self) -> Money:
        """Return the amount as money of the conversion's currency."""
        return written(self.cleaned_data["amount"], self.currency)


class CallbackInline(RecordInline):
    model = Callback
    fields = readonly_fields = ("partner_", "callback", "state_", "attempts", "settled_on")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("partner").order_by("pk")

    @admin.display(description=gettext_lazy("partner"))
    def partner_(self, callback: Callback) -> Any:
        return link(self.admin_site, callback.partner) if callback.partner else NOTHING

    @admin.display(description=gettext_lazy("callback"))
    def callback(self, callback: Callback) -> Any:
        return link(self.admin_site, callback)

    @admin.display(description=gettext_lazy("state"))
    def state_(self, callback: Callback) -> Any:
        return badge(callback)


@admin.register(Conversion)
class ConversionAdmin(ActingAdmin):
    list_display = (
        "trigger",
        "reference_",
        "partners",
        "amount",
        "created_on",
        "reversed",
    )
    list_filter = (
        TriggerFilter,
        CreditedFilter,
        happened("reversed_on", gettext_lazy("taken back")),
        "created_on",
    )
    date_hierarchy = "created_on"
    ordering = ("-created_on",)
    sortable_by = ("created_on",)
    list_per_page = 50
    search_fields = ("reference",)
    search_help_text = gettext_lazy("A whole reference, or a partner’s id in links.")
    readonly_fields = (
        "trigger",
        "reference",
        "user_",
        "amount",
        "created_on",
        "reversed",
        "why",
    )
    fieldsets = (
        (None, {"fields": readonly_fields[:-1]}),
        (gettext_lazy("Why was this credited?"), {"fields": ("why",)}),
    )
    inlines = (ShareInline, ReversalInline, CallbackInline)
    actions = ("take_back", "take_part_back")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("shares__visitor__partner", "user")

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        return whole(queryset, search_term, "reference", CreditedFilter.of), False

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> Any:
        row = kwargs.get("obj")
        context["sections"] = sections.made(sections.CONVERSION, request, self.admin_site, row)
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=gettext_lazy("reference"))
    def reference_(self, conversion: Conversion) -> str:
        return Truncator(conversion.reference).chars(60)

    @admin.display(description=gettext_lazy("partner"))
    def partners(self, conversion: Conversion) -> Any:
        credited = {share.visitor.partner: None for share in conversion.shares.all()}
        return format_html_join(", ", "{}", ([link(self.admin_site, each)] for each in credited))

    @admin.display(description=gettext_lazy("amount"))
    def amount(self, conversion: Conversion) -> str:
        return worth(conversion)

    @admin.display(description=gettext_lazy("taken back"))
    def reversed(self, conversion: Conversion) -> Any:
        if conversion.reversed_on is not None:
            return date_format(local(conversion.reversed_on), "DATETIME_FORMAT")
        if not conversion.reversed_minor:
            return None
        part = amount(conversion.reversed_minor, conversion.currency)
        return _("%(part)s of it") % {"part": part}

    @admin.display(description=gettext_lazy("user"))
    def user_(self, conversion: Conversion) -> Any:
        return link(self.admin_site, conversion.user) if conversion.user else NOTHING

    @admin.display(description=gettext_lazy("decision"))
    def why(self, conversion: Conversion) -> Any:
        rule, *visits = services.explain(conversion).splitlines()
        lines = format_html_join("", "<li>{}</li>", ([line] for line in visits))
        return format_html('<div class="aff-why"><p>{}</p><ul>{}</ul></div>', rule, lines)

    def offers(self, action: str, row: Conversion) -> bool:
        has_parts = row.amount_minor is not None and row.amount_minor > 0
        return row.reversed_on is None and (action != "take_part_back" or has_parts)

    @admin.action(description=gettext_lazy("Take back"), permissions=["act"])
    def take_back(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        rows = self.selected(request, queryset)
        text = _(
            "Taking back is for a refund, or a mistake. What is taken back counts for nobody any "
            "more, stays in the list, and cannot be credited again."
        )
        title = _("Take these conversions back?")
        page = rows and self.confirmation(request, rows, "take_back", title=title, text=text)
        if page or not rows:
            return page or None
        taken = [row for row in rows if services.reverse_conversion(row)]
        for row in taken:
            self.log_change(request, row, _("Taken back."))
        done = ngettext(
            "%(n)s conversion was taken back.", "%(n)s conversions were taken back.", len(taken)
        )
        self.message_user(request, done % {"n": len(taken)}, messages.SUCCESS)
        if before := len(rows) - len(taken):
            had = ngettext("%(n)s had been before.", "%(n)s had been before.", before)
            self.message_user(request, had % {"n": before}, messages.WARNING)
        return None

    @admin.action(description=gettext_lazy("Take a part back"), permissions=["act"])
    def take_part_back(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        rows = self.selected(request, queryset)
        if not rows:
            return None
        if len(rows) > 1 or not self.offers("take_part_back", rows[0]):
            text = _("Please select one conversion of which there is an amount left.")
            self.message_user(request, text, messages.ERROR)
            return None
        [row] = rows
        form = PartForm(row, data=request.POST if request.POST.get("confirmed") else None)
        if form.is_valid():
            try:
                done = services.reverse_conversion(
                    row, form.cleaned_data["amount"], reference=form.cleaned_data["reference"]
                )
            except AffiliationsError as error:
                name, _colon, text = str(error).partition(": ")
                form.add_error("reference" if name == "reference" else "amount", text)
            else:
                self._tell_of_part(request, row, form.cleaned_data, done)
                return None
        return self.question(
            request,
            rows,
            "take_part_back",
            title=_("Take a part of this conversion back?"),
            text=_("For a refund of a part. It counts for less from then on."),
            form=form,
        )

    def _tell_of_part(
        self, request: HttpRequest, row: Conversion, given: dict[str, Any], done: bool
    ) -> None:
        if not done:
            text = _("This reference had been taken back before.")
            self.message_user(request, text, messages.WARNING)
            return
        self.log_change(request, row, _("%(part)s taken back.") % {"part": given["amount"]})
        text = _("%(part)s of the conversion was taken back.") % {"part": given["amount"]}
        self.message_user(request, text, messages.SUCCESS)
