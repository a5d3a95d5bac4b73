"""Destinations: where the holders of accounts are paid."""

from __future__ import annotations

from copy import deepcopy
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...admin import sections
from ...admin.fields import PickOne
from ...admin.lists import LargeChangeList, RecordAdmin, link, number, with_uid
from ...models import Partner
from ..ledger import holder_of
from ..models import Account, Method, PayoutDestination
from ..models.ledger import SITE
from .payout_filters import MethodFilter

OF_PARTNERS = holder_of(0).removesuffix("0")


def add_url(site: admin.AdminSite, account: Account) -> str:
    """Return the address of the form for where an account's holder is paid."""
    if account.partner_id:
        return _add_url(site, partner=account.partner_id)
    return _add_url(site, other=account.holder)


def _add_url(site: admin.AdminSite, **whose: Any) -> str:
    name = "admin:affiliations_rewards_payoutdestination_add"
    return f"{reverse(name, current_app=site.name)}?{urlencode(whose)}"


class DestinationForm(forms.ModelForm):  # type: ignore[type-arg]
    """Where a partner is paid, or another holder of accounts."""

    partner = forms.ModelChoiceField(
        label=gettext_lazy("Partner"), queryset=Partner.objects.all(), required=False
    )
    other = forms.CharField(
        label=gettext_lazy("Or another holder"),
        required=False,
        max_length=100,
        help_text=gettext_lazy("As their account names them; only where it is no partner."),
    )

    class Meta:
        model = PayoutDestination
        fields = ("method", "name", "email")

    def clean(self) -> None:
        """Find out whose it is; raises ValidationError where it is nobody's, or there is one."""
        super().clean()
        if self.instance.pk is not None or "partner" not in self.fields:
            return
        partner, other = self.cleaned_data.get("partner"), self.cleaned_data.get("other") or ""
        if "partner" in self.errors or "other" in self.errors:
            return
        if bool(partner) == bool(other):
            self.add_error("partner", _("Choose a partner, or name another holder, and not both."))
            return
        name = "partner" if partner else "other"
        holder = holder_of(partner.pk) if partner else other
        if other and (holder.startswith((SITE, OF_PARTNERS)) or not _is_holder(holder)):
            self.add_error(name, _("There is no account of such a holder."))
        elif PayoutDestination.objects.filter(holder=holder).exists():
            self.add_error(name, _("There is a destination already: change that one."))
        else:
            self.instance.holder = holder


def _is_holder(holder: str) -> bool:
    return holder.isprintable() and Account.objects.filter(holder=holder).exists()


class DestinationChangeList(LargeChangeList):
    """The list, each row with its partner; as many queries for all as for one."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows = list(self.result_list)
        pks = {row.pk: _partner_key(row.holder) for row in rows}
        partners = Partner.objects.in_bulk([pk for pk in pks.values() if pk])
        for row in rows:
            row.partner = partners.get(pks[row.pk])
        self.result_list = rows


def _partner_key(holder: str) -> int | None:
    return number(holder.removeprefix(OF_PARTNERS)) if holder.startswith(OF_PARTNERS) else None


def _partner_of(destination: Any) -> Partner | None:
    """Return the partner who is paid there, asked for once unless the list knows them."""
    if not hasattr(destination, "partner"):
        key = _partner_key(destination.holder)
        destination.partner = Partner.objects.filter(pk=key).first() if key else None
    found: Partner | None = destination.partner
    return found


@admin.register(PayoutDestination)
class DestinationAdmin(RecordAdmin):
    form = DestinationForm
    list_display = ("holder_", "method", "name", "email")
    list_filter = (MethodFilter,)
    ordering = ("-pk",)
    list_per_page = 50
    search_fields = ("email",)
    search_help_text = gettext_lazy("A whole e-mail address, holder, or a partner’s id in links.")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return DestinationChangeList

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_change_permission(self, request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_delete_permission(self, request, obj)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Say whose it is once: a destination is never given to somebody else."""
        whose = ("holder_",) if obj is not None else ("partner", "other")
        return (*whose, "method", "name", "email")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("holder_",) if obj is not None else ()

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        # A copy: the field itself is shared with other sites.
        field = form.base_fields["partner"] = deepcopy(form.base_fields["partner"])
        field.widget = PickOne(Account._meta.get_field("partner"), self.admin_site)
        field.widget.choices = field.choices
        return form

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, str | list[str]]:
        """Return whose it is to be, as the page of a batch says."""
        found = super().get_changeform_initial_data(request)
        return {name: text for name, text in found.items() if name in ("partner", "other")}

    def construct_change_message(
        self, request: HttpRequest, form: Any, formsets: Any, add: bool = False
    ) -> Any:
        """Say also from what to what: it is money that goes elsewhere from then on."""
        if add:
            return super().construct_change_message(request, form, formsets, add)
        return "; ".join(
            f"{form.fields[name].label}: {_shown(name, form.initial[name])} → "
            f"{_shown(name, form.cleaned_data[name])}"
            for name in form.changed_data
            if name in self.form.Meta.fields
        )

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        term = search_term.replace("\0", "").strip()
        if not term:
            return queryset, False
        if partner := with_uid(term):
            return queryset.filter(holder=holder_of(partner)), False
        field = "email" if "@" in term else "holder"
        return queryset.filter(**{field: term}), False

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> Any:
        answer = super().render_change_form(request, context, *args, **kwargs)
        if (destination := kwargs.get("obj")) is not None:
            context["subtitle"] = _partner_of(destination) or destination.holder
        return answer

    @admin.display(description=gettext_lazy("holder"))
    def holder_(self, destination: Any) -> Any:
        partner = _partner_of(destination)
        return link(self.admin_site, partner) if partner else destination.holder


def _shown(name: str, value: str) -> str:
    return str(dict(Method.choices).get(value, value)) if name == "method" else value


def paid_to(request: HttpRequest, site: admin.AdminSite, partner: Any) -> Any:
    """Return the section of a partner's page that says where it is paid, or leads to the form."""
    may = request.user.has_perm
    if not may("affiliations_rewards.view_payoutdestination"):
        return None
    found = PayoutDestination.objects.filter(holder=holder_of(partner.pk)).first()
    if found is not None:
        text = f"{found.get_method_display()}: {found.name}, {found.email}"
        shown = link(site, found, text, most=200)
    else:
        shown = _("Nobody has said where it is paid.")
        if may("affiliations_rewards.add_payoutdestination"):
            url = _add_url(site, partner=partner.pk)
            shown = format_html('{} <a href="{}">{}</a>', shown, url, _("Say where"))
    return sections.Section(_("Paid to"), format_html("<p>{}</p>", shown))


sections.PARTNER.append(paid_to)
