"""Start campaigns, put changes into force, pause and archive: asked before, and all or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db import router, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...admin.acting import ActingAdmin
from ...exceptions import InvalidTransition
from .. import publishing
from ..exceptions import InvalidCampaign
from ..models import Campaign
from . import audiences, wording
from .standing import Standing, digest, in_panic, standing

__all__ = ["StepsMixin"]

State = Campaign.State
#: In which states a campaign's page has a button.
OFFERED = {
    "start": (State.DRAFT, State.PAUSED),
    "put_into_force": (State.LIVE,),
    "pause": (State.LIVE,),
    "archive": (State.DRAFT, State.LIVE, State.PAUSED),
}


class Stale(Exception):
    """A campaign is not as it was when somebody agreed."""


class StepsMixin(ActingAdmin):
    """Campaigns, and what is done with them."""

    actions = ("start", "put_into_force", "pause", "archive")

    def offers(self, action: str, row: Campaign) -> bool:
        if row.state not in OFFERED.get(action, ()):
            return False
        return action != "put_into_force" or standing(row).is_pending

    @admin.action(description=gettext_lazy("Start"), permissions=["act"])
    def start(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        return self._put(request, queryset, "start", publishing.start)

    @admin.action(description=gettext_lazy("Put changes into force"), permissions=["act"])
    def put_into_force(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        return self._put(request, queryset, "put_into_force", publishing.publish)

    @admin.action(description=gettext_lazy("Pause"), permissions=["act"])
    def pause(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        text = _(
            "Nobody sees any of its variations until it is started again. Whoever has seen one "
            "then sees the same again."
        )
        title = _("Pause this campaign?")
        said = _("Paused.")
        return self._end(request, queryset, "pause", publishing.pause, title, text, said)

    @admin.action(description=gettext_lazy("Archive"), permissions=["act"])
    def archive(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        text = _(
            "It ends for good: nobody sees any of its variations any more, and it can be neither "
            "changed nor started again. Who has seen what stays."
        )
        title = _("Archive this campaign?")
        said = _("Archived.")
        return self._end(request, queryset, "archive", publishing.archive, title, text, said)

    def _one(self, request: HttpRequest, queryset: Any, action: str) -> Campaign | None:
        """Return the campaign that was selected; None, and the user told, where there is none."""
        rows: list[Campaign] = list(queryset[:2])
        if len(rows) == 1:
            return rows[0]
        self.message_user(request, _("Please select one campaign at a time."), messages.ERROR)
        return None

    def _said(
        self, request: HttpRequest, campaign: Campaign, text: str, level: int
    ) -> HttpResponse:
        self.message_user(request, text, level)
        return HttpResponseRedirect(self._url("change", campaign.pk))

    def _url(self, name: str, *args: Any) -> str:
        raise NotImplementedError

    def _not_now(self, request: HttpRequest, campaign: Campaign) -> HttpResponse:
        text = _("“%(campaign)s” is %(state)s: nothing was done.")
        words = {"campaign": campaign, "state": campaign.get_state_display()}
        return self._said(request, campaign, text % words, messages.WARNING)

    # What changes who sees what

    def _put(
        self, request: HttpRequest, queryset: Any, action: str, service: Callable[..., Campaign]
    ) -> HttpResponse | None:
        campaign = self._one(request, queryset, action)
        if campaign is None:
            return None
        if campaign.state not in OFFERED[action]:
            return self._not_now(request, campaign)
        found = standing(campaign)
        if found.rules is None:
            return self._invalid(request, campaign, found.problem)
        if action == "put_into_force" and not found.is_pending:
            text = _("All of it is in force already: nothing was done.")
            return self._said(request, campaign, text, messages.INFO)
        if not request.POST.get("confirmed"):
            return self._ask(request, campaign, action, found)
        try:
            with transaction.atomic(using=router.db_for_write(Campaign)):
                service(campaign=campaign, by=request.user)
                current: Any = campaign.current
                if request.POST.get("seen") != digest(current.rules):
                    raise Stale
                words = {"number": current.number}
                self.log_change(request, campaign, _("Put into force: version %(number)s.") % words)
        except Stale:
            text = _("A colleague has changed it meanwhile. Please look at it again.")
            self.message_user(request, text, messages.WARNING)
            campaign = Campaign.objects.select_related("current").get(pk=campaign.pk)
            return self._ask(request, campaign, action, standing(campaign))
        except InvalidCampaign as error:
            return self._invalid(request, campaign, wording.problem(error))
        except InvalidTransition:
            campaign.refresh_from_db()
            return self._not_now(request, campaign)
        text = _("Version %(number)s of “%(campaign)s” is in force.")
        words = {"number": current.number, "campaign": campaign}
        return self._said(request, campaign, text % words, messages.SUCCESS)

    def _invalid(self, request: HttpRequest, campaign: Campaign, problem: str) -> HttpResponse:
        text = _("Nothing was done: it cannot be shown like this. %(problem)s.")
        return self._said(request, campaign, text % {"problem": problem}, messages.ERROR)

    def _ask(
        self, request: HttpRequest, campaign: Campaign, action: str, found: Standing
    ) -> HttpResponse:
        is_start = action == "start"
        context: dict[str, Any] = {
            "title": _("Start this campaign?") if is_start else _("Put the changes into force?"),
            "text": _started(campaign) if is_start else _published(campaign),
            "changes": found.changes,
            "in_panic": in_panic(campaign.property_id),
            "groups": audiences.of_rules(found.rules or {"groups": []}),
            "seen": digest(json.dumps(found.rules)),
            "back_url": self._url("change", campaign.pk),
        }
        return self.question(request, [campaign], action, **context)

    # What ends it

    def _end(
        self,
        request: HttpRequest,
        queryset: Any,
        action: str,
        service: Callable[..., Campaign],
        title: str,
        text: str,
        said: str,
    ) -> HttpResponse | None:
        campaign = self._one(request, queryset, action)
        if campaign is None:
            return None
        if campaign.state not in OFFERED[action]:
            return self._not_now(request, campaign)
        more: dict[str, Any] = {"back_url": self._url("change", campaign.pk)}
        asked = self.confirmation(request, [campaign], action, title=title, text=text, **more)
        if asked:
            return asked
        try:
            with transaction.atomic(using=router.db_for_write(Campaign)):
                service(campaign=campaign)
                self.log_change(request, campaign, said)
        except InvalidCampaign as error:
            return self._invalid(request, campaign, wording.problem(error))
        except InvalidTransition:
            campaign.refresh_from_db()
            return self._not_now(request, campaign)
        text = _("“%(campaign)s” is %(state)s.")
        words = {"campaign": campaign, "state": campaign.get_state_display()}
        return self._said(request, campaign, text % words, messages.SUCCESS)


def _started(campaign: Campaign) -> str:
    words = {"schedule": wording.schedule(campaign)}
    if campaign.starts_on or campaign.ends_on:
        return _("It is shown %(schedule)s, to whom and how is written below.") % words
    return _("Within seconds of your answer it is shown as written below.")


def _published(campaign: Campaign) -> str:
    number = campaign.current.number + 1 if campaign.current else 1
    text = _(
        "It becomes version %(number)s, within seconds of your answer. Whoever has seen a "
        "variation goes on seeing it as long as they are meant, unless it is retired."
    )
    return text % {"number": number}
