"""Exclusion groups: campaigns of which nobody takes part in more than one."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db.models import ProtectedError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...admin.lists import NOTHING, LargeChangeList, RecordAdmin, link
from ..allocation import shares
from ..models import Campaign, Exclusion
from . import wording
from .shares import bar, legend

#: Campaigns that a page names.
MOST_CAMPAIGNS = 100


class ExclusionChangeList(LargeChangeList):
    """The list of exclusion groups, each with its campaigns: as many queries as for one."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        found = list(self.result_list)
        uids = {uid for each in found for uid in shares(each.runs)}
        names = dict(Campaign.objects.filter(uid__in=uids).values_list("uid", "name"))
        for each in found:
            each.named = _named(each, names)
        self.result_list = found


def _named(exclusion: Exclusion, names: dict[str, str]) -> list[tuple[str, int]]:
    return [(names.get(uid, uid), share) for uid, share in shares(exclusion.runs).items()]


@admin.register(Exclusion)
class ExclusionAdmin(RecordAdmin):
    list_display = ("name", "property_", "held", "left_")
    list_filter = ("property",)
    ordering = ("name", "pk")
    list_per_page = 50
    search_fields = ("name",)
    search_help_text = gettext_lazy("Part of the name.")

    # Who may do what

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_change_permission(self, request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # One by one, on a page that says what stands against it.
        return obj is not None and admin.ModelAdmin.has_delete_permission(self, request, obj)

    # The list

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[LargeChangeList]:
        return ExclusionChangeList

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("property")

    @admin.display(description=gettext_lazy("property"))
    def property_(self, exclusion: Exclusion) -> Any:
        return link(self.admin_site, exclusion.property)

    @admin.display(description=gettext_lazy("shares"))
    def held(self, exclusion: Any) -> Any:
        return bar(exclusion.named, title=exclusion.name)

    @admin.display(description=gettext_lazy("left over"))
    def left_(self, exclusion: Exclusion) -> str:
        return f"{exclusion.left()} %"

    # A group's page

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("property", "name") if obj is None else ("property", "name", "who")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if obj is None else ("property", "who")

    @admin.display(description=gettext_lazy("who holds what"))
    def who(self, exclusion: Exclusion) -> Any:
        """Show the bar, and of each campaign what it holds and what it would like."""
        rows = list(Campaign.objects.filter(exclusion=exclusion).order_by("-pk")[:MOST_CAMPAIGNS])
        counted = shares(exclusion.runs)
        names = dict(Campaign.objects.filter(uid__in=counted).values_list("uid", "name"))
        named = _named(exclusion, names)
        parts = legend(named, _("nobody’s"))
        drawn = format_html(
            '{}<ul class="aff-legend">{}</ul>',
            bar(named, title=exclusion.name),
            format_html_join(
                "", "<li>{} {}: {} %</li>", ((p.swatch, p.name, p.share) for p in parts)
            ),
        )
        if not rows:
            return format_html("{}<p>{}</p>", drawn, _("No campaign is in it."))
        table = format_html_join(
            "",
            '<tr><th scope="row">{}</th><td>{}</td><td class="aff-number">{}</td>'
            '<td class="aff-number">{} %</td></tr>',
            (
                (
                    link(self.admin_site, each),
                    wording.badge(each),
                    f"{counted[each.uid]} %" if each.uid in counted else NOTHING,
                    each.exclusion_share,
                )
                for each in rows
            ),
        )
        return format_html(
            '{}<div class="aff-scroll"><table class="aff-lines"><thead><tr>'
            '<th scope="col">{}</th>'
            '<th scope="col">{}</th><th scope="col" class="aff-number">{}</th>'
            '<th scope="col" class="aff-number">{}</th></tr></thead><tbody>{}</tbody>'
            "</table></div>",
            drawn,
            _("Campaign"),
            _("State"),
            _("Holds"),
            _("On its page"),
            table,
        )

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            # Nothing else: a campaign may be given its buckets at this moment.
            obj.save(update_fields=list(form.fields))
        else:
            super().save_model(request, obj, form, change)

    # Its end

    def delete_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> Any:
        """Say so where campaigns are in it."""
        exclusion = self.get_object(request, unquote(object_id))
        is_used = exclusion is not None and exclusion.campaigns.exists()
        if is_used and self.has_delete_permission(request, exclusion):
            return self._stays(request, object_id)
        try:
            return super().delete_view(request, object_id, *args, **kwargs)
        except ProtectedError:
            # A campaign has joined it since the page was opened.
            return self._stays(request, object_id)

    def _stays(self, request: HttpRequest, object_id: str) -> HttpResponse:
        text = _("Campaigns are in the group, also such as have ended: it cannot be deleted.")
        self.message_user(request, text, messages.ERROR)
        name = "admin:affiliations_experiments_exclusion_change"
        url = reverse(name, args=[object_id], current_app=self.admin_site.name)
        return HttpResponseRedirect(url)
