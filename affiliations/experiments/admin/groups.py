"""A group's page: who is meant, and the variations that they may get to see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import router
from django.db.models import Max
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...admin.lists import NOTHING, RecordAdmin, link
from .. import modifications
from ..exceptions import InvalidModifications
from ..models import Campaign, Variation, VariationGroup
from ..models.campaigns import everybody
from . import audiences, wording
from .conditions import MOST_ROWS, ConditionsField, rows_of
from .parts import may

#: Groups of a property whose keys are offered, the latest, and keys that are.
MOST_GROUPS, MOST_KEYS = 200, 100


class GroupForm(forms.ModelForm):  # type: ignore[type-arg]
    """A group, for people."""

    targeting = ConditionsField(
        label=gettext_lazy("Who is meant"),
        required=False,
        help_text=gettext_lazy(
            "Without any condition: everybody. All conditions of a block have to hold; where there "
            "are several blocks, one of them is enough. “What” is what is known of a visitor, such "
            "as plan; fs_users is the visitor’s id. Of several values, one a line, one is enough; "
            "of “is not” and “does not contain”, none may be it. Rows that are empty do not count; "
            "save to get more of them."
        ),
    )

    class Meta:
        model = VariationGroup
        fields = ("name", "position", "targeting")
        help_texts = {
            "name": gettext_lazy("As “Everybody” or “Customers with the gold plan”."),
            "position": gettext_lazy(
                "Whoever is meant by several groups belongs to the one with the lowest number."
            ),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "targeting" not in self.fields:
            return
        if len(rows_of(self.instance.targeting)) > MOST_ROWS:
            # It stays as it is.
            del self.fields["targeting"]
        elif self.instance.campaign_id is not None:
            self.fields["targeting"].widget.keys = _keys(self.instance.campaign)

    def clean(self) -> None:
        """Keep what was not touched as it is, however else it could be written."""
        super().clean()
        data: Any = self.cleaned_data
        if "targeting" in data and self.instance.pk and "targeting" not in self.changed_data:
            data["targeting"] = self.instance.targeting


def _keys(campaign: Campaign) -> list[str]:
    """Return what other conditions of a property ask for."""
    rows = VariationGroup.objects.filter(campaign__property=campaign.property_id).order_by("-pk")
    keys = {
        row.key
        for targeting in rows.values_list("targeting", flat=True)[:MOST_GROUPS]
        for row in rows_of(targeting)
    }
    return sorted(key for key in keys if not key.startswith("fs_"))[:MOST_KEYS]


class VariationForm(forms.ModelForm):  # type: ignore[type-arg]
    """A variation, for people."""

    class Meta:
        model = Variation
        fields = (
            "name",
            "allocation",
            "is_reference",
            "kind",
            "modifications",
            "position",
            "retired",
        )
        widgets = {
            "modifications": forms.Textarea(
                attrs={"rows": 3, "class": "vLargeTextField aff-json", "spellcheck": "false"}
            )
        }


class VariationFormSet(BaseInlineFormSet):  # type: ignore[type-arg]
    """The variations of a group, held against each other."""

    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        if form.instance.uid in self._published and "DELETE" in form.fields:
            # Retired it can be; what people have seen stays to be told.
            form.fields["DELETE"].disabled = True
            form.fields["DELETE"].widget.attrs["title"] = _("It has been in force: retire it.")
        if form.instance.pk is None and "position" in form.fields:
            # What is left over at the end of the others.
            there = self._there
            after = self.extra if index is None else index - self.initial_form_count()
            form.initial["position"] = len(there) + after
            if there:
                left = 100 - sum(each.allocation for each in there if not each.retired)
                form.initial["allocation"] = max(left, 0)

    @cached_property
    def _there(self) -> list[Variation]:
        group: Any = self.instance
        return [] if group.pk is None else list(group.variations.all())

    @cached_property
    def _published(self) -> set[str]:
        uids = [each.uid for each in self._there]
        return audiences.published(self.instance.campaign, uids) if uids else set()

    def clean(self) -> None:
        """Refuse more than a hundred percent, and two references."""
        super().clean()
        if any(self.errors):
            return
        given = [
            form.cleaned_data
            for form in self.forms
            if form.cleaned_data and not form.cleaned_data.get("DELETE")
        ]
        shown = [each for each in given if not each["retired"]]
        total = sum(each["allocation"] for each in shown)
        if total > 100:
            text = _("The shares come to %(total)s %%, and there are 100.")
            raise ValidationError(text % {"total": total}, code="invalid")
        if sum(each["is_reference"] for each in shown) > 1:
            raise ValidationError(_("Only one variation can be the reference."), code="invalid")


#: Variations of a group that a page has: more than there are buckets, for the retired ones.
MOST = 250


class VariationInline(admin.StackedInline):  # type: ignore[type-arg]
    model = Variation
    form = VariationForm
    formset = VariationFormSet
    extra = 0
    verbose_name_plural = gettext_lazy("Variations")
    fields = (
        "name",
        ("allocation", "is_reference"),
        "modifications",
        "preview",
        ("kind", "position"),
        "retired",
    )
    readonly_fields = ("preview",)

    def get_extra(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> int:
        return 2 if obj is None else 1

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        """Return the formset; whatever number a form claims to have, a page has no more of them."""
        formset = super().get_formset(request, obj, **kwargs)
        formset.absolute_max = MOST
        return formset

    @admin.display(description=gettext_lazy("What it sets"))
    def preview(self, variation: Variation) -> Any:
        """Show the flags as they were saved last, with the kind of each."""
        if variation.pk is None:
            return _("Shown once it is saved.")
        try:
            return flag_table(wording.flags(modifications.read(variation.modifications)))
        except InvalidModifications:
            return NOTHING

    # Whoever may see or change a group may do so with its variations: each asks for the campaign's.

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, "view") or may(request, "change")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_editable(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_editable(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_editable(request, obj)


def flag_table(flags: Sequence[wording.Flag]) -> Any:
    """Return a table of flags."""
    if not flags:
        return _("nothing")
    return format_html(
        '<table class="aff-flags"><thead><tr><th scope="col">{}</th><th scope="col">{}</th>'
        '<th scope="col">{}</th></tr></thead><tbody>{}</tbody></table>',
        _("Flag"),
        _("Value"),
        _("Kind"),
        format_html_join(
            "",
            '<tr><th scope="row">{}</th><td><code>{}</code></td><td>{}</td></tr>',
            ((each.name, each.text, each.kind) for each in flags),
        ),
    )


def _is_editable(request: HttpRequest, group: Any = None) -> bool:
    if not may(request, "change"):
        return False
    # An inline may be given the form's own row.
    campaign = getattr(group, "campaign", None) if group and group.campaign_id else None
    return campaign is None or campaign.state != Campaign.State.ARCHIVED


@admin.register(VariationGroup)
class VariationGroupAdmin(RecordAdmin):
    form = GroupForm
    inlines = (VariationInline,)
    list_display = ("name", "campaign_", "position")
    ordering = ("-pk",)
    list_per_page = 50
    search_fields = ("name",)
    search_help_text = gettext_lazy("Part of the name.")
    fields = ("name", "position", "targeting")
    readonly_fields = ("in_words",)

    # Who may do what: a group is part of its campaign.

    def has_module_permission(self, request: HttpRequest) -> bool:
        # It is found by its campaign.
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, "view") or may(request, "change")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, "change")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_editable(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is None or not _is_editable(request, obj):
            return False
        return not audiences.published(obj.campaign, [obj.uid])

    # The list

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("campaign__property")

    @admin.display(description=gettext_lazy("campaign"))
    def campaign_(self, group: VariationGroup) -> Any:
        return link(self.admin_site, group.campaign)

    # Its page

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        is_long = obj is not None and len(rows_of(obj.targeting)) > MOST_ROWS
        if is_long or (obj is not None and not self.has_change_permission(request, obj)):
            return ("name", "position", "in_words")
        return self.fields

    @admin.display(description=gettext_lazy("Who is meant"))
    def in_words(self, group: VariationGroup) -> Any:
        return wording.whom_of(group.targeting)

    def get_form(self, request: HttpRequest, obj: Any = None, *args: Any, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, *args, **kwargs)
        campaign = getattr(request, "aff_campaign", None)
        if obj is not None or campaign is None:
            return form

        class OfCampaign(form):  # type: ignore[misc,valid-type]
            """The form of a group that is added to a campaign."""

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                kwargs["instance"] = VariationGroup(campaign=campaign, targeting=everybody())
                super().__init__(*args, **kwargs)

        return OfCampaign

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Ask for a campaign's new group; without a campaign there is none."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        campaign = _campaign(request.GET.get("campaign", ""))
        if campaign is None:
            text = _("A group is added on the page of its campaign.")
            self.message_user(request, text, messages.WARNING)
            return HttpResponseRedirect(self._list())
        if campaign.state == Campaign.State.ARCHIVED:
            raise PermissionDenied
        request.aff_campaign = campaign  # type: ignore[attr-defined]
        buttons = {"show_save_and_add_another": False}
        return super().add_view(request, form_url, {**buttons, **(extra_context or {})})

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        campaign = request.aff_campaign  # type: ignore[attr-defined]
        last = campaign.groups.aggregate(last=Max("position"))["last"]
        return {"position": 0 if last is None else min(last + 1, 32767)}

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> Any:
        group = kwargs.get("obj")
        campaign: Any = group.campaign if group else getattr(request, "aff_campaign", None)
        context["campaign"] = campaign
        if group is not None:
            stored = self.get_object(request, group.pk)
            context["audience"] = stored and next(
                each for each in audiences.of_rows(campaign) if each["row"].pk == stored.pk
            )
        context["show_save_and_add_another"] = False
        return super().render_change_form(request, context, *args, **kwargs)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Save the variations; what somebody has put into force meanwhile is not deleted."""
        campaign = form.instance.campaign
        using = router.db_for_write(Campaign)
        # Whoever publishes it waits here, or has published it.
        Campaign.objects.using(using).select_for_update().get(pk=campaign.pk)
        formset.save(commit=False)
        gone = [each.uid for each in formset.deleted_objects]
        if audiences.published(campaign, gone):
            raise PermissionDenied
        formset.save()

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Delete a group, unless somebody has put it into force meanwhile."""
        using = router.db_for_write(Campaign)
        Campaign.objects.using(using).select_for_update().get(pk=obj.campaign_id)
        if audiences.published(obj.campaign, [obj.uid]):
            raise PermissionDenied
        request.aff_campaign_url = self._page(obj.campaign_id)  # type: ignore[attr-defined]
        super().delete_model(request, obj)

    def delete_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> Any:
        """Say what to do instead where it has been in force."""
        group = self.get_object(request, unquote(object_id))
        if group is None or not _is_editable(request, group):
            return super().delete_view(request, object_id, *args, **kwargs)
        if self.has_delete_permission(request, group):
            return super().delete_view(request, object_id, *args, **kwargs)
        text = _(
            "The group has been in force, and people may have seen it: it cannot be deleted. Give "
            "its variations no share, and nobody new comes to see any of them."
        )
        self.message_user(request, text, messages.ERROR)
        return HttpResponseRedirect(self._url("change", group.pk))

    # Where it goes on

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        if "_continue" in request.POST:
            return super().response_add(request, obj, post_url_continue)
        return self._back(request, obj.campaign)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        if "_continue" in request.POST:
            return super().response_change(request, obj)
        return self._back(request, obj.campaign)

    def response_delete(self, request: HttpRequest, obj_display: str, obj_id: Any) -> HttpResponse:
        super().response_delete(request, obj_display, obj_id)
        return HttpResponseRedirect(request.aff_campaign_url)  # type: ignore[attr-defined]

    def _back(self, request: HttpRequest, campaign: Campaign) -> HttpResponse:
        if campaign.state == Campaign.State.LIVE:
            text = _("Saved. Nobody sees it before you put the changes into force.")
        else:
            text = _("Saved.")
        self.message_user(request, text, messages.SUCCESS)
        return HttpResponseRedirect(self._page(campaign.pk))

    def _page(self, campaign_id: int) -> str:
        name = "admin:affiliations_experiments_campaign_change"
        return reverse(name, args=[campaign_id], current_app=self.admin_site.name)

    def _list(self) -> str:
        name = "admin:affiliations_experiments_campaign_changelist"
        return reverse(name, current_app=self.admin_site.name)

    def _url(self, name: str, *args: Any) -> str:
        name = f"admin:affiliations_experiments_variationgroup_{name}"
        return reverse(name, args=args, current_app=self.admin_site.name)


def _campaign(key: str) -> Campaign | None:
    if not (key.isascii() and key.isdecimal() and len(key) < 19):
        return None
    return Campaign.objects.select_related("property").filter(pk=int(key)).first()
