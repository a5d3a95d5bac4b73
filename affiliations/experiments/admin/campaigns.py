"""Campaigns: to draft, to put into force, and to look at."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.options import IS_POPUP_VAR
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import router
from django.db.models import Prefetch
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...admin.fields import MomentField
from ...admin.lists import NOTHING, link, list_link
from .. import publishing
from ..models import (
    Assignment,
    Campaign,
    CampaignVersion,
    Exclusion,
    Variation,
    VariationGroup,
)
from . import audiences, wording
from .explain import ExplainMixin
from .results import ResultsMixin
from .standing import in_panic, standing
from .steps import StepsMixin
from .versions import VersionsMixin, listed

State = Campaign.State


class CampaignForm(forms.ModelForm):  # type: ignore[type-arg]
    """A campaign, for people."""

    starts_on = MomentField(
        label=gettext_lazy("Starts on"),
        required=False,
        help_text=gettext_lazy("Empty: as soon as it is live. Holds as soon as it is saved."),
    )
    ends_on = MomentField(
        label=gettext_lazy("Ends on"),
        required=False,
        help_text=gettext_lazy("Empty: when it is paused. Holds as soon as it is saved."),
    )

    class Meta:
        model = Campaign
        fields = (
            "name",
            "property",
            "slug",
            "type",
            "starts_on",
            "ends_on",
            "exclusion",
            "exclusion_share",
        )
        help_texts = {
            "name": gettext_lazy("As “Checkout: a green button”."),
            "property": gettext_lazy("Of which site. It stays."),
            "type": gettext_lazy("Told to programs; who sees what does not depend on it."),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        exclusion: Any = self.fields.get("exclusion")
        if exclusion is not None and self.instance.property_id is not None:
            exclusion.queryset = Exclusion.objects.filter(property=self.instance.property_id)


@admin.register(Campaign)
class CampaignAdmin(StepsMixin, VersionsMixin, ExplainMixin, ResultsMixin):
    form = CampaignForm
    list_display = ("name", "slug_", "badge", "property_", "type", "schedule", "version")
    list_filter = ("state", "type", "property")
    ordering = ("-pk",)
    list_per_page = 50
    search_fields = ("name", "slug")
    search_help_text = gettext_lazy("Part of the name, or of the slug.")
    fieldsets = (
        (None, {"fields": ("name", "property", "slug", "type")}),
        (gettext_lazy("When it is shown"), {"fields": ("starts_on", "ends_on")}),
        (
            gettext_lazy("Beside other campaigns"),
            {"fields": ("exclusion", "exclusion_share")},
        ),
    )

    # Who may do what

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Allow it but for what has ended."""
        if obj is not None and obj.state == State.ARCHIVED:
            return False
        return admin.ModelAdmin.has_change_permission(self, request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Allow it for what has never been in force: nobody has seen it."""
        if obj is None or obj.current_id is not None:
            return False
        return admin.ModelAdmin.has_delete_permission(self, request, obj)

    # The list

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request)
        # The rules of fifty versions may be megabytes.
        current = Prefetch("current", CampaignVersion.objects.defer("rules"))
        return rows.prefetch_related("property", "exclusion", current)

    @admin.display(description=gettext_lazy("slug"))
    def slug_(self, campaign: Campaign) -> Any:
        return campaign.slug

    @admin.display(description=gettext_lazy("state"))
    def badge(self, campaign: Campaign) -> Any:
        return wording.badge(campaign)

    @admin.display(description=gettext_lazy("property"))
    def property_(self, campaign: Campaign) -> Any:
        return link(self.admin_site, campaign.property)

    @admin.display(description=gettext_lazy("shown"))
    def schedule(self, campaign: Campaign) -> str:
        return wording.schedule(campaign)

    @admin.display(description=gettext_lazy("version"))
    def version(self, campaign: Campaign) -> Any:
        return campaign.current.number if campaign.current else NOTHING

    # A campaign's page

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # What was seen in one property means nothing in another.
        return () if obj is None else ("property",)

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> Any:
        campaign = kwargs.get("obj")
        if campaign is not None:
            # As it is stored: a form with errors has put what was typed into the other one.
            stored = self.get_object(request, campaign.pk)
            context["panel"] = stored and self._panel(request, stored)
        # Whoever saves it stays on its page.
        context |= {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().render_change_form(request, context, *args, **kwargs)

    def _panel(self, request: HttpRequest, campaign: Campaign) -> dict[str, Any]:
        may_change = self.has_change_permission(request, campaign)
        groups = audiences.of_rows(campaign)
        for each in groups:
            each["url"] = self._group("change", each["row"].pk)
        add = f"{self._group('add')}?campaign={campaign.pk}" if may_change else ""
        is_live = campaign.state == State.LIVE
        found = standing(campaign)
        return {
            "badge": wording.badge(campaign),
            "is_live": is_live,
            "is_draft": campaign.state == State.DRAFT,
            "is_over": campaign.state == State.ARCHIVED,
            "in_panic": in_panic(campaign.property_id),
            "schedule": wording.schedule(campaign),
            "version": campaign.current.number if campaign.current else None,
            "standing": found,
            "is_pending": found.is_pending and campaign.state != State.ARCHIVED,
            "groups": groups,
            "add_url": add,
            "may_change": may_change,
            "versions": listed(self, campaign),
            "assignments": list_link(
                self.admin_site, Assignment, _("Who has seen it"), campaign__id__exact=campaign.pk
            ),
            "explain_url": self._url("explain", campaign.pk),
            "results_url": self._url("results", campaign.pk),
        }

    def _url(self, name: str, *args: Any) -> str:
        name = f"admin:affiliations_experiments_campaign_{name}"
        return reverse(name, args=args, current_app=self.admin_site.name)

    def _group(self, page: str, *args: Any) -> str:
        name = f"admin:affiliations_experiments_variationgroup_{page}"
        try:
            return reverse(name, args=args, current_app=self.admin_site.name)
        except NoReverseMatch:
            return ""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            # Nothing else: a colleague may put it into force, or pause it, at this moment.
            obj.save(update_fields=list(form.fields))
        else:
            super().save_model(request, obj, form, change)
            using = router.db_for_write(Campaign)
            _first_group(obj, using)
            publishing.environment_of(obj.property, using)
        if change and {"starts_on", "ends_on"} & set(form.changed_data):
            # When it is shown is no part of a version.
            publishing.reschedule(campaign=obj, starts_on=obj.starts_on, ends_on=obj.ends_on)

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        elsewhere = {"_addanother", IS_POPUP_VAR} & request.POST.keys()
        if elsewhere or not self.has_view_or_change_permission(request, obj):
            return super().response_add(request, obj, post_url_continue)
        text = _(
            "The draft was saved, with a group for everybody. Now say what its variations set; "
            "nobody sees any of it before you start it."
        )
        self.message_user(request, text, messages.SUCCESS)
        return HttpResponseRedirect(self._url("change", obj.pk))

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        if {"_addanother", "_saveasnew"} & request.POST.keys():
            return super().response_change(request, obj)
        if obj.state == State.LIVE and standing(obj).is_pending:
            text = _("Saved. Nobody sees the changes before you put them into force.")
            self.message_user(request, text, messages.WARNING)
        else:
            self.message_user(request, _("Saved."), messages.SUCCESS)
        return HttpResponseRedirect(self._url("change", obj.pk))

    def delete_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> Any:
        """Say what to do instead where it has been in force."""
        campaign = self.get_object(request, unquote(object_id))
        is_remover = admin.ModelAdmin.has_delete_permission(self, request)
        if campaign is None or campaign.current_id is None or not is_remover:
            return super().delete_view(request, object_id, *args, **kwargs)
        text = _(
            "The campaign has been in force, and people may have seen it: it cannot be deleted. "
            "Archive it, and it ends for good."
        )
        self.message_user(request, text, messages.ERROR)
        return HttpResponseRedirect(self._url("change", campaign.pk))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Delete a draft, unless somebody has started it meanwhile."""
        using = router.db_for_write(Campaign)
        locked = Campaign.objects.using(using).select_for_update().get(pk=obj.pk)
        if locked.current_id is not None:
            raise PermissionDenied
        super().delete_model(request, obj)


def _first_group(campaign: Campaign, using: str) -> None:
    """Give a new campaign what nearly every one begins with."""
    group = VariationGroup.objects.using(using).create(campaign=campaign, name=_("Everybody"))
    names = ((_("Original"), True), (_("Variation 1"), False))
    Variation.objects.using(using).bulk_create(
        [
            Variation(group=group, name=name, position=position, is_reference=is_reference)
            for position, (name, is_reference) in enumerate(names)
        ]
    )
