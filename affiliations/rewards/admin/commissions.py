"""Commissions: what was earned, by which rule and why, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...admin import conversions, sections
from ...admin.amounts import amount, told
from ...admin.exports import ExportMixin, moment
from ...admin.lists import (
    NOTHING,
    LargeChangeList,
    PartnerFilter,
    RecordAdmin,
    RecordInline,
    TextFilter,
    link,
    marked,
    number,
    recent,
    short,
    with_uid,
)
from ...models import Conversion
from ...models.conversions import conversion_key
from ..explaining import explain
from ..models import Commission, CommissionRule, Entry
from . import entries
from .fates import Fate, fates

#: As many rules as a name may fit, and conversions as a reference.
FEW = 100
EXPORTED_AT_ONCE = 500
VIEW_REVIEWS = "affiliations_rewards.view_review"


class RuleFilter(TextFilter):
    """Keeps what was earned by a rule."""

    title = gettext_lazy("rule")
    label = gettext_lazy("Number, or part of the name")
    parameter_name = "rule"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if not self.text:
            return queryset
        if (pk := number(self.text)) is not None:
            return queryset.filter(rule=pk)
        named = CommissionRule.objects.filter(name__icontains=self.text).order_by("-pk")
        return queryset.filter(rule__in=list(named.values_list("pk", flat=True)[:FEW]))


class TriggerFilter(conversions.TriggerFilter):
    """Keeps what was earned by conversions of a trigger."""

    title = gettext_lazy("trigger (of the last 30 days, or of the period you choose)")

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if not self.value():
            return queryset
        rows = queryset.filter(conversion__trigger=self.value())
        return recent(request, rows, "converted_on")


class CommissionChangeList(LargeChangeList):
    """The list of commissions, each with what became of it; three queries, however long it is."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        found = fates(self.result_list)
        for commission in self.result_list:
            commission.fate = found[commission.pk]


class EntryInline(RecordInline):
    model = Entry
    fk_name = "commission"
    fields = readonly_fields = ("created_on", "what", "amount", "account_", "standing")
    ordering = ("pk",)

    def get_queryset(self, request: HttpRequest) -> Any:
        # One of these is made for each request.
        self.may_review = request.user.has_perm(VIEW_REVIEWS)
        rows = super().get_queryset(request)
        return rows.prefetch_related("account__partner", "commission__conversion", "reverses")

    @admin.display(description=gettext_lazy("what for"))
    def what(self, entry: Entry) -> str:
        return entries.words(entry)

    @admin.display(description=gettext_lazy("amount"))
    def amount(self, entry: Entry) -> str:
        return amount(entry.minor, entry.account.currency)

    @admin.display(description=gettext_lazy("account"))
    def account_(self, entry: Entry) -> Any:
        return link(self.admin_site, entry.account)

    # Of a commission there are one entry and its reversals: few.
    @admin.display(description=gettext_lazy("state"))
    def standing(self, entry: Entry) -> Any:
        found = entries.standings(self.admin_site, [entry], may_review=self.may_review)
        return found[entry.pk]


@admin.register(Commission)
class CommissionAdmin(ExportMixin, RecordAdmin):
    list_display = (
        "conversion_name",
        "whose",
        "sums",
        "state",
    )
    list_filter = (PartnerFilter, RuleFilter, TriggerFilter, "converted_on")
    date_hierarchy = "converted_on"
    list_per_page = 50
    search_fields = ("conversion__reference",)
    search_help_text = gettext_lazy("A conversion’s whole reference, or a partner’s id in links.")
    readonly_fields = (
        "conversion_",
        "partner_",
        "visitor_",
        "base",
        "rule_",
        "earned",
        "left",
        "state",
        "converted_on",
        "created_on",
        "why",
    )
    fieldsets = (
        (None, {"fields": readonly_fields[:-1]}),
        (gettext_lazy("Why was this earned?"), {"fields": ("why",)}),
    )
    inlines = (EntryInline,)

    def named(self, row: Any) -> str:
        return f"{self.earned(row)}, {row.conversion}, {row.partner}"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[LargeChangeList]:
        return CommissionChangeList

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Show the latest first: of a rule by their numbers, as its index has them."""
        return ("-pk",) if request.GET.get(RuleFilter.parameter_name) else ("-converted_on",)

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("conversion", "partner", "rule")

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        term = search_term.replace("\0", "").strip()
        if not term:
            return queryset, False
        if partner := with_uid(term):
            return PartnerFilter.of(queryset, [partner]), False
        # No index has references, but one has the keys that they make with the triggers.
        keys = [conversion_key(trigger, term) for trigger in conversions.triggers()]
        found = Conversion.objects.filter(key__in=keys).values_list("pk", flat=True)
        return queryset.filter(conversion__in=list(found[:FEW])), False

    @admin.display(description=gettext_lazy("conversion"))
    def conversion_name(self, commission: Commission) -> Any:
        name = Truncator(str(commission.conversion)).chars(60)
        return format_html("{}<br>{}", name, short(commission.converted_on))

    @admin.display(description=gettext_lazy("conversion"))
    def conversion_(self, commission: Commission) -> Any:
        return link(self.admin_site, commission.conversion)

    @admin.display(description=gettext_lazy("partner"))
    def partner_(self, commission: Commission) -> Any:
        return link(self.admin_site, commission.partner)

    @admin.display(description=gettext_lazy("visitor"))
    def visitor_(self, commission: Commission) -> Any:
        return link(self.admin_site, commission.visitor, commission.visitor_id)

    @admin.display(description=gettext_lazy("its part of the amount"))
    def base(self, commission: Commission) -> str:
        conversion = commission.conversion
        if conversion.money is None:
            return NOTHING
        return amount(commission.base_minor, conversion.currency)

    @admin.display(description=gettext_lazy("rule"))
    def rule_(self, commission: Commission) -> Any:
        return link(self.admin_site, commission.rule) if commission.rule else NOTHING

    @admin.display(description=gettext_lazy("partner and rule"))
    def whose(self, commission: Commission) -> Any:
        return format_html("{}<br>{}", self.partner_(commission), self.rule_(commission))

    @admin.display(description=gettext_lazy("earned"))
    def sums(self, commission: Any) -> Any:
        earned, left = self.earned(commission), self.left(commission)
        if earned == left:
            return earned
        return format_html("{}<br>{}", earned, _("%(sum)s left") % {"sum": left})

    @admin.display(description=gettext_lazy("earned"))
    def earned(self, commission: Commission) -> str:
        return told(commission.money)

    @admin.display(description=gettext_lazy("left of it"))
    def left(self, commission: Any) -> str:
        return told(self._fate(commission).left)

    @admin.display(description=gettext_lazy("state"))
    def state(self, commission: Any) -> Any:
        fate = self._fate(commission)
        shown = marked(fate.colour, fate.text)
        if fate.payout is None:
            return shown
        number = entries.payout_link(self.admin_site, fate.payout)
        if fate.left is not None and not fate.left.minor:
            return format_html(_("{} after it was in {}"), shown, number)
        return format_html(_("{} in {}"), shown, number)

    def _fate(self, commission: Any) -> Fate:
        if not hasattr(commission, "fate"):
            commission.fate = fates([commission])[commission.pk]
        found: Fate = commission.fate
        return found

    @admin.display(description=gettext_lazy("decision"))
    def why(self, commission: Commission) -> Any:
        return explained(commission.conversion)

    def heading(self) -> list[str]:
        zone = timezone.get_current_timezone_name()
        return [
            _("number"),
            _("trigger"),
            _("reference"),
            _("partner"),
            _("id in links"),
            _("rule"),
            _("number of the rule"),
            _("earned"),
            _("left of it"),
            _("currency"),
            _("state"),
            _("payout"),
            _("converted on (%(zone)s)") % {"zone": zone},
            _("posted on (%(zone)s)") % {"zone": zone},
        ]

    def cells(self, request: HttpRequest, rows: Iterator[Commission]) -> Iterator[list[Any]]:
        while some := list(islice(rows, EXPORTED_AT_ONCE)):
            found = fates(some)
            for row in some:
                fate = found[row.pk]
                yield [
                    row.pk,
                    row.conversion.trigger,
                    row.conversion.reference,
                    row.partner.name,
                    row.partner.uid,
                    row.rule and row.rule.name,
                    row.rule_id,
                    row.money and row.money.amount,
                    fate.left and fate.left.amount,
                    row.currency,
                    fate.text,
                    fate.payout and fate.payout.pk,
                    moment(row.converted_on),
                    moment(row.created_on),
                ]


def explained(conversion: Conversion) -> SafeString:
    """Return why a conversion has earned what it has, a paragraph for each partner."""
    parts: list[tuple[str, list[str]]] = []
    for line in explain(conversion).splitlines():
        if line.startswith("- ") and parts:
            parts[-1][1].append(line.removeprefix("- "))
        else:
            parts.append((line, []))
    shown = format_html_join(
        "",
        "<p>{}</p><ul>{}</ul>",
        (
            (part, format_html_join("", "<li>{}</li>", ([each] for each in why)))
            for part, why in parts
        ),
    )
    return format_html('<div class="aff-why">{}</div>', shown)


def earned_by(request: HttpRequest, site: admin.AdminSite, conversion: Any) -> Any:
    """Return the section of a conversion's page that says what it has earned, and why."""
    if not request.user.has_perm("affiliations_rewards.view_commission"):
        return None
    rows = Commission.objects.filter(conversion=conversion).select_related("partner").order_by("pk")
    links = format_html_join(
        "",
        "<li>{}: {}</li>",
        ((link(site, row, row.partner), told(row.money)) for row in rows),
    )
    return sections.Section(
        _("What was earned by this, and why?"),
        format_html('<ul class="aff-rows">{}</ul>{}', links, explained(conversion)),
    )


sections.CONVERSION.append(earned_by)
