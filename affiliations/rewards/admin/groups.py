"""Groups of partners with the same terms, of which there may be a hundred thousand."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Count, ProtectedError
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ...admin.fields import PickMany, RowsField
from ...admin.lists import NOTHING, LargeChangeList, RecordAdmin, link
from ...models import Partner
from ..models import CommissionRule, PartnerGroup
from . import wording

#: Members, and rules, that a group's page names.
MOST_NAMED = 100
MEMBERS = PartnerGroup._meta.get_field("partners")
Membership: Any = PartnerGroup.partners.through


class GroupForm(forms.ModelForm):  # type: ignore[type-arg]
    """A group, and who comes into it and leaves it.

    Not all of its members: a form with a thousand of them is more than Django takes.
    """

    come = RowsField(
        label=gettext_lazy("Add partners"), queryset=Partner.objects.all(), required=False
    )
    leave = RowsField(
        label=gettext_lazy("Take partners out"), queryset=Partner.objects.all(), required=False
    )

    class Meta:
        model = PartnerGroup
        fields = ("name",)

    def clean_leave(self) -> Any:
        """Refuse whoever is no member."""
        leave = self.cleaned_data["leave"]
        members = Membership.objects.filter(partnergroup=self.instance.pk, partner__in=leave)
        known = set(members.values_list("partner", flat=True))
        others = [str(partner) for partner in leave if partner.pk not in known]
        if others:
            text = ngettext("%(names)s is no member.", "%(names)s are no members.", len(others))
            raise ValidationError(text % {"names": ", ".join(others)}, code="invalid")
        return leave

    def clean(self) -> None:
        """Refuse whoever comes and leaves at once."""
        super().clean()
        come, leave = (self.cleaned_data.get(name) or () for name in ("come", "leave"))
        if both := {*come} & {*leave}:
            names = ", ".join(sorted(map(str, both)))
            self.add_error("leave", _("Both added and taken out: %(names)s.") % {"names": names})


class GroupChangeList(LargeChangeList):
    """The list of groups with what is in each; as many queries for a hundred as for one."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        groups = list(self.result_list)
        pks = [group.pk for group in groups]
        members = _counted(Membership.objects.filter(partnergroup__in=pks), "partnergroup")
        rules = _counted(CommissionRule.objects.filter(group__in=pks), "group")
        for group in groups:
            group.member_count = members.get(group.pk, 0)
            group.rule_count = rules.get(group.pk, 0)
        self.result_list = groups


def _counted(rows: Any, by: str) -> dict[int, int]:
    return dict(rows.order_by().values(by).annotate(n=Count("pk")).values_list(by, "n"))


@admin.register(PartnerGroup)
class PartnerGroupAdmin(RecordAdmin):
    form = GroupForm
    list_display = ("name", "members_", "rules_")
    ordering = ("name", "pk")
    list_per_page = 50
    search_fields = ("name",)
    search_help_text = gettext_lazy("Part of the name.")
    readonly_fields = ("members", "rules")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_change_permission(self, request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # One by one, on a page that says which rules stand against it.
        return obj is not None and admin.ModelAdmin.has_delete_permission(self, request, obj)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[LargeChangeList]:
        return GroupChangeList

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ("name", "come")
        if not self.has_change_permission(request, obj):
            return ("name", "members", "rules")
        return ("name", "come", "leave", "members", "rules")

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        for name in ("come", "leave"):
            field: Any = form.base_fields.get(name)
            if field is not None:
                field.widget = PickMany(MEMBERS, self.admin_site)
                field.widget.choices = field.choices
        return form

    def save_related(self, request: HttpRequest, form: Any, *args: Any, **kwargs: Any) -> None:
        super().save_related(request, form, *args, **kwargs)
        form.instance.partners.add(*form.cleaned_data["come"])
        form.instance.partners.remove(*form.cleaned_data.get("leave", ()))

    def delete_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> Any:
        """Say so where a rule was made for the group since its page was opened."""
        try:
            return super().delete_view(request, object_id, *args, **kwargs)
        except ProtectedError:
            text = _("There are rules for the group: nothing was done.")
            self.message_user(request, text, messages.ERROR)
            name = "admin:affiliations_rewards_partnergroup_change"
            return HttpResponseRedirect(
                reverse(name, args=[object_id], current_app=self.admin_site.name)
            )

    @admin.display(description=gettext_lazy("members"))
    def members_(self, group: Any) -> str:
        return wording.number(group.member_count)

    @admin.display(description=gettext_lazy("rules"))
    def rules_(self, group: Any) -> Any:
        text = wording.number(group.rule_count)
        return format_html('<a href="{}">{}</a>', self._rules_url(group), text)

    @admin.display(description=gettext_lazy("members"))
    def members(self, group: PartnerGroup) -> Any:
        number = Membership.objects.filter(partnergroup=group).count()
        first = group.partners.order_by("name", "pk")[:MOST_NAMED]
        said = wording.number(number)
        if number > MOST_NAMED:
            said = _("%(number)s, of whom the first %(most)s are:") % {
                "number": said,
                "most": MOST_NAMED,
            }
        named = format_html_join(", ", "{}", ([link(self.admin_site, each)] for each in first))
        return format_html('<p class="aff-line">{}</p><p class="aff-line">{}</p>', said, named)

    @admin.display(description=gettext_lazy("rules"))
    def rules(self, group: PartnerGroup) -> Any:
        rows = group.commission_rules.order_by("-pk")[:MOST_NAMED]
        shown = format_html_join(
            "",
            "<li>{} {} {}</li>",
            (
                (link(self.admin_site, each), wording.badge(each), wording.pays(each))
                for each in rows
            ),
        )
        return format_html('<ul class="aff-rows">{}</ul>', shown) if shown else NOTHING

    def _rules_url(self, group: PartnerGroup) -> str:
        name = "admin:affiliations_rewards_commissionrule_changelist"
        url = reverse(name, current_app=self.admin_site.name)
        return f"{url}?group__id__exact={group.pk}"
