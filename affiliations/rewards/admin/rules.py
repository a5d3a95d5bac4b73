"""Commission rules: to draft, to try out on the past, to publish and to end."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.options import IS_POPUP_VAR
from django.contrib.admin.utils import unquote
from django.db import router, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...admin.acting import ActingAdmin
from ...admin.lists import BOUND, NOTHING, PartnerFilter, link
from ...exceptions import InvalidTransition
from .. import rules
from ..models import CommissionRule
from ..models.rules import LEAD
from . import wording
from .publishing import SeenForm, consequences, lines, not_publishable, seen, successor
from .rule_forms import RuleForm
from .whatif import WhatIfMixin

#: As many rules of a lineage as its history shows, the latest.
MOST_OF_LINEAGE = 50


class StateFilter(admin.SimpleListFilter):
    """Keeps the rules that are in a state."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [*wording.STATES.items()]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() not in wording.STATES:
            return queryset
        return queryset.filter(wording.in_state(str(self.value()), timezone.now()))


class TriggerFilter(admin.SimpleListFilter):
    """Keeps the rules of a trigger, or those of any."""

    title = gettext_lazy("trigger")
    parameter_name = "trigger"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        named = CommissionRule.objects.order_by("trigger").values_list("trigger", flat=True)
        return [(name, name or _("any")) for name in named.distinct()]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset if self.value() is None else queryset.filter(trigger=self.value())


class Stale(Exception):
    """A draft is not as it was when somebody agreed to publish it."""


@admin.register(CommissionRule)
class CommissionRuleAdmin(WhatIfMixin, ActingAdmin):
    form = RuleForm
    autocomplete_fields = ("partner", "group")
    list_display = ("name", "badge", "whose", "trigger_", "pays")
    list_filter = (StateFilter, PartnerFilter, TriggerFilter)
    ordering = ("-pk",)
    list_per_page = 50
    search_fields = ("name",)
    search_help_text = gettext_lazy("Part of the name.")
    readonly_fields = ()
    fieldsets = (
        (None, {"fields": ("name", "partner", "group", "trigger")}),
        (gettext_lazy("What it pays"), {"fields": ("percent", "flat_minor", "currency")}),
        (gettext_lazy("Tiers"), {"fields": ("tiers", "tiers_by", "period")}),
        (
            gettext_lazy("Limits"),
            {"fields": ("minimum_minor", "cap_minor", "period_cap_minor", "times", "months")},
        ),
        (
            gettext_lazy("When it holds"),
            {"fields": ("valid_from", "valid_until", "priority")},
        ),
    )
    published_fields = (
        "name",
        "badge",
        "whose",
        "trigger_",
        "pays",
        "priority",
        "valid_from",
        "valid_until",
        "published_on",
        "created_on",
    )
    actions = ("publish", "change_it", "let_it_end")

    # Who may do what

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Allow it for drafts: what is published never changes."""
        if obj is not None and obj.is_published:
            return False
        return admin.ModelAdmin.has_change_permission(self, request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is None or obj.is_published:
            return False
        return admin.ModelAdmin.has_delete_permission(self, request, obj)

    def has_redraft_permission(self, request: HttpRequest) -> bool:
        """Tell whether somebody may draft what replaces a rule."""
        return self.has_act_permission(request) and self.has_add_permission(request)

    # The list

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("partner", "group")

    @admin.display(description=gettext_lazy("for"))
    def whose(self, rule: CommissionRule) -> Any:
        if rule.partner_id is not None:
            return link(self.admin_site, rule.partner)
        if rule.group_id is not None:
            return link(self.admin_site, rule.group, wording.whose(rule))
        return wording.whose(rule)

    @admin.display(description=gettext_lazy("trigger"))
    def trigger_(self, rule: CommissionRule) -> str:
        return rule.trigger or _("any")

    @admin.display(description=gettext_lazy("pays"))
    def pays(self, rule: CommissionRule) -> str:
        return wording.pays(rule)

    @admin.display(description=gettext_lazy("state"))
    def badge(self, rule: CommissionRule) -> Any:
        return wording.badge(rule)

    # A rule's page

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is not None and not self.has_change_permission(request, obj):
            return [(None, {"fields": self.published_fields})]
        return super().get_fieldsets(request, obj)

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Say so where a draft was published since its form was opened."""
        try:
            if request.method == "POST" and object_id is not None:
                rule = self.get_object(request, unquote(object_id))
                is_editor = admin.ModelAdmin.has_change_permission(self, request)
                if rule is not None and rule.is_published and is_editor:
                    raise InvalidTransition("rule: is published")
            return super().changeform_view(request, object_id, *args, **kwargs)
        except InvalidTransition:
            return self._was_published(request, object_id)

    def delete_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> Any:
        """Say so likewise where it was to be deleted."""
        rule = self.get_object(request, unquote(object_id))
        is_remover = admin.ModelAdmin.has_delete_permission(self, request)
        if rule is not None and rule.is_published and is_remover:
            return self._was_published(request, object_id)
        try:
            return super().delete_view(request, object_id, *args, **kwargs)
        except InvalidTransition:
            return self._was_published(request, object_id)

    def _was_published(self, request: HttpRequest, object_id: str | None) -> HttpResponse:
        text = _("The rule is published: it never changes, and stays. Nothing was done.")
        self.message_user(request, text, messages.ERROR)
        return HttpResponseRedirect(self._url("change", object_id))

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        # Whoever has drafted one wants to see what it would pay.
        elsewhere = {"_addanother", IS_POPUP_VAR} & request.POST.keys()
        if elsewhere or not self.has_view_or_change_permission(request, obj):
            return super().response_add(request, obj, post_url_continue)
        text = _("The draft was saved. It pays nothing before it is published.")
        self.message_user(request, text, messages.SUCCESS)
        return HttpResponseRedirect(self._url("change", obj.pk))

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> Any:
        rule = kwargs.get("obj")
        if rule is not None:
            # As it is stored: a form with errors has put what was typed into the other one.
            stored = self.get_object(request, rule.pk)
            context["panel"] = stored and self._panel(stored)
            if not rule.is_published:
                context["what_if_url"] = f"{self._url('what_if')}?rule={rule.pk}"
        return super().render_change_form(request, context, *args, **kwargs)

    def _panel(self, rule: CommissionRule) -> dict[str, Any]:
        earned = rule.commissions.order_by()[: BOUND + 1].count() if rule.is_published else 0
        lineage = CommissionRule.objects.filter(lineage=rule.lineage).select_related("replaces")
        latest = list(lineage.order_by("-pk")[:MOST_OF_LINEAGE])
        return {
            "pays": wording.pays(rule),
            "preview": wording.preview(rule),
            "is_published": rule.is_published,
            "earned": f"{wording.number(min(earned, BOUND))}{'+' if earned > BOUND else ''}",
            "earned_url": self._commissions(rule),
            "lineage": [
                {
                    "link": each.name if each.pk == rule.pk else link(self.admin_site, each),
                    "is_this": each.pk == rule.pk,
                    "badge": wording.badge(each),
                    "pays": wording.pays(each),
                    "began": wording.moment(began) if (began := wording.begins(each)) else NOTHING,
                    "ended": wording.moment(each.valid_until) if each.valid_until else NOTHING,
                    "replaces": each.replaces.name if each.replaces else NOTHING,
                }
                for each in latest
            ],
        }

    def _commissions(self, rule: CommissionRule) -> str:
        name = "admin:affiliations_rewards_commission_changelist"
        try:
            url = reverse(name, current_app=self.admin_site.name)
        except NoReverseMatch:
            return ""
        return f"{url}?rule={rule.pk}"

    def _url(self, name: str, *args: Any) -> str:
        name = f"admin:affiliations_rewards_commissionrule_{name}"
        return reverse(name, args=args, current_app=self.admin_site.name)

    # What is done with one

    def offers(self, action: str, row: CommissionRule) -> bool:
        if action == "publish":
            return not row.is_published
        if action == "change_it":
            return row.is_published and successor(row) is None
        return row.is_published and wording.state(row, timezone.now()) != "ended"

    def _one(self, request: HttpRequest, queryset: Any) -> CommissionRule | None:
        """Return the rule that was selected; None, and the user told, where it is not one."""
        rows: list[CommissionRule] = list(queryset[:2])
        if len(rows) == 1:
            return rows[0]
        text = _("Please select one rule at a time.")
        self.message_user(request, text, messages.ERROR)
        return None

    def _back(
        self, request: HttpRequest, rule: CommissionRule, text: str, level: int
    ) -> HttpResponse:
        self.message_user(request, text, level)
        return HttpResponseRedirect(self._url("change", rule.pk))

    @admin.action(description=gettext_lazy("Publish"), permissions=["act"])
    def publish(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        rule = self._one(request, queryset)
        if rule is None:
            return None
        if problem := not_publishable(rule):
            return self._back(request, rule, problem, messages.WARNING)
        if not request.POST.get("confirmed"):
            return self._ask_to_publish(request, rule)
        try:
            with transaction.atomic(using=router.db_for_write(CommissionRule)):
                rules.publish(rule)
                if request.POST.get("seen") != seen(rule):
                    raise Stale
                self.log_change(request, rule, _("Published."))
        except Stale:
            text = _("A colleague has changed it meanwhile. Please look at it again.")
            self.message_user(request, text, messages.WARNING)
            return self._ask_to_publish(request, CommissionRule.objects.get(pk=rule.pk))
        except InvalidTransition as error:
            rule.refresh_from_db()
            problem = not_publishable(rule) or str(error)
            return self._back(request, rule, problem, messages.WARNING)
        begins = wording.begins(rule)
        text = _("“%(rule)s” is published. It holds from %(when)s on.")
        words = {"rule": rule, "when": wording.moment(begins) if begins else NOTHING}
        return self._back(request, rule, text % words, messages.SUCCESS)

    def _ask_to_publish(self, request: HttpRequest, rule: CommissionRule) -> HttpResponse:
        return self.question(
            request,
            [rule],
            "publish",
            title=_("Publish this rule?"),
            text=lines(consequences(rule)),
            form=SeenForm(initial={"seen": seen(rule)}),
        )

    @admin.action(description=gettext_lazy("Change it"), permissions=["redraft"])
    def change_it(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        """Open the draft of what replaces a rule; there is one at a time, whoever asks."""
        rule = self._one(request, queryset)
        if rule is None:
            return None
        using = router.db_for_write(CommissionRule)
        with transaction.atomic(using=using):
            rows = CommissionRule.objects.using(using)
            # Whoever else has clicked waits here, and finds the draft.
            locked = rows.select_for_update().get(pk=rule.pk)
            if not locked.is_published:
                return HttpResponseRedirect(self._url("change", rule.pk))
            if (other := successor(locked)) is not None:
                text = _("It was replaced by “%(rule)s”: change that one.") % {"rule": other}
                return self._back(request, other, text, messages.WARNING)
            draft = rows.filter(replaces=locked, published_on=None).order_by("pk").first()
            is_new = draft is None
            if draft is None:
                draft = rules.draft_replacement(locked)
                said = _("Drafted in place of “%(rule)s”.") % {"rule": locked}
                self.log_addition(request, draft, said)
        if is_new:
            text = _("This draft replaces “%(rule)s” once it is published. Until then that holds.")
        else:
            text = _("There is a draft that replaces “%(rule)s” already: this one.")
        return self._back(request, draft, text % {"rule": rule}, messages.INFO)

    @admin.action(description=gettext_lazy("Let it end"), permissions=["act"])
    def let_it_end(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        rule = self._one(request, queryset)
        if rule is None:
            return None
        if not self.offers("let_it_end", rule):
            text = _("It is a draft, or has ended: nothing was done.")
            return self._back(request, rule, text, messages.WARNING)
        text = lines(
            [
                _("It ends %(n)s seconds after you have confirmed, with nothing in its place.")
                % {"n": LEAD.seconds},
                _("What was earned by it stays. There is no way back."),
            ]
        )
        title = _("Let this rule end?")
        if asked := self.confirmation(request, [rule], "let_it_end", title=title, text=text):
            return asked
        try:
            with transaction.atomic(using=router.db_for_write(CommissionRule)):
                rules.retire(rule)
                self.log_change(request, rule, _("Let end."))
        except InvalidTransition:
            text = _("It had ended already: nothing was done.")
            return self._back(request, rule, text, messages.WARNING)
        text = _("“%(rule)s” ends in %(n)s seconds.") % {"rule": rule, "n": LEAD.seconds}
        return self._back(request, rule, text, messages.SUCCESS)
