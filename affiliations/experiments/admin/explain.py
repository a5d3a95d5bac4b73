"""Who sees what? A page that says for one visitor how a campaign decides, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...admin.acting import ActingAdmin
from ...admin.lists import NOTHING
from ...admin.pages import page
from ..explaining import Because, Explanation, Stored, explain
from ..models import Campaign
from ..rules import Choice, Considered
from . import wording
from .groups import flag_table

__all__ = ["ExplainForm", "ExplainMixin"]

NAME = "affiliations_experiments_campaign_explain"
MAX_ID, MAX_CONTEXT, MAX_LINES = 500, 20_000, 200
NOT_SHOWN = {
    Because.DRAFT: gettext_lazy("It is a draft: nobody sees it. This is what would be."),
    Because.PAUSED: gettext_lazy("It is paused: nobody sees it. This is what would be."),
    Because.ARCHIVED: gettext_lazy("It has ended: nobody sees it. This is what would have been."),
    Because.PANIC: gettext_lazy(
        "Panic is switched on: nobody sees any variation. This is what would be."
    ),
    Because.EARLY: gettext_lazy("It has not begun yet: nobody sees it. This is what will be."),
    Because.LATE: gettext_lazy("Its time is over: nobody sees it. This is what was."),
}


class ContextField(forms.CharField):
    """What is known of a visitor, a line each."""

    widget = forms.Textarea(attrs={"rows": 4, "spellcheck": "false", "class": "vLargeTextField"})

    def clean(self, value: Any) -> dict[str, Any]:
        """Return values by keys; raises ValidationError, naming the line."""
        found: dict[str, Any] = {}
        lines = [each for each in super().clean(value).splitlines() if each.strip()]
        if len(lines) > MAX_LINES:
            text = _("At most %(n)s lines, please.") % {"n": MAX_LINES}
            raise ValidationError(text, code="invalid")
        for line in lines:
            key, separator, typed = (part.strip() for part in line.partition("="))
            if not (key and separator):
                text = _("“%(line)s” is not such as plan = gold.") % {"line": line[:40]}
                raise ValidationError(text, code="invalid")
            found[key] = _value(typed)
        return found


def _value(typed: str) -> Any:
    """Return a number, true, false or a text in quotes as JSON has it, and anything else as is."""
    try:
        value = json.loads(typed, parse_constant=lambda name: None)
    except (ValueError, RecursionError):
        return typed
    return value if isinstance(value, str | int | float) else typed


class ExplainForm(forms.Form):
    """For whom it is asked."""

    visitor = forms.CharField(
        label=gettext_lazy("Visitor’s id"),
        max_length=MAX_ID,
        strip=False,
        help_text=gettext_lazy("What the program calls them by."),
    )
    anonymous = forms.CharField(
        label=gettext_lazy("Before they logged in"),
        max_length=MAX_ID,
        strip=False,
        required=False,
        help_text=gettext_lazy("What they were called by until then. Empty: nothing else."),
    )
    known = ContextField(
        label=gettext_lazy("What is known of them"),
        max_length=MAX_CONTEXT,
        required=False,
        help_text=gettext_lazy(
            'One a line, as plan = gold or age = 42. A number in quotes, as "42", is a text.'
        ),
    )


class ExplainMixin(ActingAdmin):
    """Campaigns, with a page that explains their decisions."""

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.explain_view)
        return [path("<path:object_id>/explain/", view, name=NAME), *super().get_urls()]

    def explain_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for whom, and answer; nothing is written, so all by GET."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        campaign = self.get_object(request, unquote(object_id))
        if campaign is None:
            raise Http404
        is_asked = "visitor" in request.GET
        form = ExplainForm(request.GET) if is_asked else ExplainForm()
        answer = None
        if is_asked and form.is_valid():
            data = form.cleaned_data
            found = explain(
                data["visitor"],
                campaign,
                context=data["known"],
                anonymous_id=data["anonymous"],
            )
            answer = _answer(self, campaign, found, data["known"])
        context = {
            "title": _("Who sees what?"),
            "campaign": campaign,
            "form": form,
            "answer": answer,
        }
        return page(self, request, "campaign/explain.html", **context)


def _answer(
    model_admin: Any, campaign: Campaign, found: Explanation, known: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "problem": found.problem.partition(": ")[2],
        "sentence": _sentence(found),
        "notice": NOT_SHOWN.get(found.because, ""),
        "is_shown": found.sees is not None,
        "version": found.version,
        "takes_part": found.takes_part,
        "is_exclusive": found.campaign is not None and found.campaign.exclusion is not None,
        "hashed_id": found.hashed_id,
        "flags": flag_table(wording.flags(found.choice.value)) if found.choice else "",
        "groups": [_considered(each, found) for each in found.groups],
        "unasked": _unasked(found),
        "stored": [_stored(model_admin, campaign, each) for each in found.stored],
        "known": [(key, wording.literal(value)) for key, value in known.items()],
    }


def _sentence(found: Explanation) -> str:
    """Answer in one sentence."""
    if found.campaign is None:
        return _("Nobody sees anything of it: it cannot be shown as it is.")
    last = found.groups[-1] if found.groups and found.groups[-1].is_last else None
    if last is None:
        if not any(each.is_meant for each in found.groups):
            return _("Sees nothing of it, as no group is meant for them.")
        if not found.takes_part:
            return _("Sees nothing of it, as their share belongs to another campaign, or to none.")
        return _("Sees nothing of it, as their bucket is no variation’s.")
    words = {"group": last.group.name, "bucket": last.bucket}
    if last.choice is None:
        if last.is_kept:
            return (
                _("Sees nothing of it, as what they have seen in “%(group)s” is retired.") % words
            )
        return _("Sees nothing of it, as bucket %(bucket)s of “%(group)s” is nobody’s.") % words
    words["name"] = last.choice.variation_name
    if last.is_kept:
        return _("Sees “%(name)s” of “%(group)s”, as they have seen it before.") % words
    return _("Sees “%(name)s” of “%(group)s”, whose bucket %(bucket)s is theirs.") % words


def _considered(each: Considered, found: Explanation) -> dict[str, Any]:
    owner: Any = each.group.owners[each.bucket]
    is_everybody = each.group.test is None
    return {
        "name": each.group.name,
        "is_meant": each.is_meant,
        "is_everybody": is_everybody,
        "blocks": []
        if is_everybody
        else [
            [(wording.condition(one), holds) for one, holds in listed] for listed in each.conditions
        ],
        "bucket": each.bucket,
        "owner": owner.variation_name if isinstance(owner, Choice) else "",
        "is_kept": each.is_kept,
        "kept": each.choice.variation_name if each.choice and each.is_kept else "",
        "is_last": each.is_last,
        "takes_part": found.takes_part,
    }


def _unasked(found: Explanation) -> list[str]:
    """Return the groups that nobody asked any more."""
    if found.campaign is None:
        return []
    return [each.name for each in found.campaign.groups[len(found.groups) :]]


def _stored(model_admin: Any, campaign: Campaign, each: Stored) -> dict[str, Any]:
    row = each.row
    url = ""
    whom = ""
    if each.by is not None:
        name = "admin:affiliations_experiments_campaign_version"
        site = model_admin.admin_site
        url = reverse(name, args=[campaign.pk, row.version], current_app=site.name)
        group = next((one for one in each.by.groups if one.id == row.group.uid), None)
        whom = wording.whom(group.targeting) if group else ""
    return {
        "name": row.identity.value,
        "is_own": each.is_own,
        "group": row.group.name,
        "variation": row.variation.name,
        "version": row.version,
        "url": url,
        "whom": whom,
        "assigned": wording.moment(row.assigned_on),
        "seen": wording.moment(row.exposed_on) if row.exposed_on else NOTHING,
        "is_mixed": row.is_mixed,
    }
