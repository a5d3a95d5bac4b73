"""The versions of a campaign: what was in force when, by whom, and what that changed."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, OuterRef
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils.translation import gettext as _

from ...admin.acting import ActingAdmin
from ...admin.lists import NOTHING
from ...admin.pages import page
from .. import bucketing
from ..models import Campaign, CampaignVersion, Exclusion
from ..rules import of_version
from . import audiences, wording
from .changes import changes

__all__ = ["VersionsMixin", "listed"]

#: Of a campaign's page, the latest.
MOST_VERSIONS = 50
NAME = "affiliations_experiments_campaign_version"


def listed(model_admin: Any, campaign: Campaign) -> list[dict[str, Any]]:
    """Return the latest versions of a campaign: one query."""
    rows = campaign.versions.order_by("-number").defer("rules").select_related("created_by")
    return [
        {
            "number": each.number,
            "when": wording.moment(each.created_on),
            "who": each.created_by or NOTHING,
            "is_current": each.pk == campaign.current_id,
            "url": _url(model_admin, campaign, each.number),
        }
        for each in rows[:MOST_VERSIONS]
    ]


def _url(model_admin: Any, campaign: Campaign, number: int) -> str:
    args = (campaign.pk, number)
    return reverse(f"admin:{NAME}", args=args, current_app=model_admin.admin_site.name)


class VersionsMixin(ActingAdmin):
    """Campaigns, with a page for each of their versions."""

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.version_view)
        return [
            path("<path:object_id>/version/<str:number>/", view, name=NAME),
            *super().get_urls(),
        ]

    def version_view(self, request: HttpRequest, object_id: str, number: str) -> HttpResponse:
        """Say who sees what by a version, and what it has changed."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        campaign = self.get_object(request, unquote(object_id))
        is_number = number.isascii() and number.isdecimal() and len(number) < 10
        if campaign is None or not is_number:
            raise Http404
        # It, and the one before.
        rows = CampaignVersion.objects.filter(campaign=campaign, number__lte=int(number))
        later = CampaignVersion.objects.filter(
            campaign=OuterRef("campaign"), number=OuterRef("number") + 1
        )
        rows = rows.select_related("created_by").annotate(has_later=Exists(later))
        found = list(rows.order_by("-number")[:2])
        if not found or found[0].number != int(number):
            raise Http404
        version = found[0]
        rules = json.loads(version.rules)
        before = json.loads(found[1].rules) if len(found) > 1 else None
        context = {
            "title": _("Version %(number)s") % {"number": version.number},
            "campaign": campaign,
            "version": version,
            "when": wording.moment(version.created_on),
            "is_current": version.pk == campaign.current_id,
            "rules": rules,
            "type": dict(Campaign.Type.choices).get(rules["type"], rules["type"]),
            "exclusion": _exclusion(rules["exclusion"]),
            "groups": audiences.of_rules(rules),
            "changes": None if before is None else changes(before, rules),
            "unservable": bucketing.unservable(of_version(rules, version.number)),
            "before_url": _url(self, campaign, found[1].number) if before else "",
            "after_url": (_url(self, campaign, version.number + 1) if version.has_later else ""),
        }
        return page(self, request, "campaign/version.html", **context)


def _exclusion(told: Any) -> str:
    if told is None:
        return ""
    named = Exclusion.objects.filter(uid=told["id"]).values_list("name", flat=True).first()
    words = {"name": named or told["id"], "n": len(told["buckets"])}
    return _("“%(name)s”: %(n)s %% of all visitors may take part.") % words
