"""What partners would have earned by drafts of rules; nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponseBase
from django.template.loader import render_to_string
from django.urls import path, reverse
from django.utils import timezone
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ... import charts, csvexport
from ...admin.amounts import amount
from ...admin.fields import MomentField, RowsField
from ...admin.lists import local
from ...admin.pages import page
from ...admin.progress import Outcome as Done
from ...admin.progress import Steps, streamed
from ...models import Conversion
from ...money import DECIMAL_PLACES
from ..models import CommissionRule
from ..replay import Outcome, Replay, drafts, in_all, replay
from . import wording

#: Conversions that a page looks at; a command looks at as many as there are.
MOST = 100_000
#: Partners that a page shows for each currency, those with the largest differences; all in the CSV.
MOST_ROWS = 200
DRAWN = 15
#: How far back the page suggests.
USUAL = timedelta(days=30)
PAGE = "commissionrule/what_if.html"


class DraftsField(RowsField):
    """Drafts, each with what it pays."""

    widget = forms.CheckboxSelectMultiple

    def label_from_instance(self, obj: Any) -> str:
        """Return a draft's name, for whom it is, what it pays and what it replaces."""
        text = _("%(rule)s (for %(whose)s: %(pays)s)")
        if obj.replaces is not None:
            text = _("%(rule)s (for %(whose)s: %(pays)s), in place of %(replaced)s")
        return text % {
            "rule": obj.name,
            "whose": wording.whose(obj),
            "pays": wording.pays(obj),
            "replaced": obj.replaces,
        }


class WhatIfForm(forms.Form):
    """Since when, and by which drafts."""

    since = MomentField(
        label=gettext_lazy("Since"),
        help_text=gettext_lazy("As if the drafts had been published then."),
    )
    rule = DraftsField(
        label=gettext_lazy("Drafts"),
        queryset=CommissionRule.objects.none(),
        error_messages={"required": gettext_lazy("Choose at least one draft.")},
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rules = CommissionRule.objects.filter(published_on=None).order_by("pk")
        field: Any = self.fields["rule"]
        field.queryset = rules.select_related("partner", "group", "replaces")

    def clean_since(self) -> datetime:
        """Refuse what is ahead, and more conversions than a page can look at."""
        since: datetime = self.cleaned_data["since"]
        now = timezone.now()
        if since > now:
            raise ValidationError(_("Must be in the past."), code="invalid")
        rows = Conversion.objects.filter(created_on__gte=since, created_on__lte=now)
        if rows.order_by()[: MOST + 1].count() > MOST:
            text = _(
                "There are more than %(most)s conversions since then, too many for this page. "
                "Choose a later date, or use: manage.py replay_rules --since %(since)s"
            )
            words = {"most": wording.number(MOST), "since": f"{local(since):%Y-%m-%dT%H:%M}"}
            raise ValidationError(text % words, code="invalid")
        return since

    def clean_rule(self) -> list[CommissionRule]:
        """Refuse two drafts of which only one could be published."""
        chosen = list(self.cleaned_data["rule"])
        seen: dict[int, CommissionRule] = {}
        for rule in chosen:
            if rule.replaces_id is None:
                continue
            other = seen.setdefault(rule.replaces_id, rule)
            if other is not rule:
                text = _("“%(one)s” and “%(two)s” replace the same rule: choose one of them.")
                raise ValidationError(text % {"one": other, "two": rule}, code="invalid")
        return chosen


class WhatIfMixin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rules, with a page that tries the drafts on the past."""

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.what_if_view)
        name = "affiliations_rewards_commissionrule_what_if"
        return [path("what-if/", view, name=name), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        name = "admin:affiliations_rewards_commissionrule_what_if"
        url = reverse(name, current_app=self.admin_site.name)
        return super().changelist_view(request, {**(extra_context or {}), "what_if_url": url})

    def what_if_view(self, request: HttpRequest) -> HttpResponseBase:
        """Ask since when and by which drafts, and answer; nothing is written, so all by GET."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if "since" not in request.GET:
            form = WhatIfForm(initial=_suggested(request))
            return page(self, request, PAGE, **self._shown(request, form))
        form = WhatIfForm(request.GET)
        if not form.is_valid():
            return page(self, request, PAGE, **self._shown(request, form))
        since, tried = form.cleaned_data["since"], form.cleaned_data["rule"]
        if "csv" in request.GET:
            filename = f"what-if-{timezone.now():%Y-%m-%d}.csv"
            return csvexport.response(request, filename, _heading(), _cells(since, tried))
        asked = {"asked_since": wording.moment(since), "asked": tried}
        steps = _working(request, since, tried)
        shown = self._shown(request, form, **asked)
        return streamed(self, request, steps, unit=_("conversions"), template=PAGE, **shown)

    def _shown(self, request: HttpRequest, form: WhatIfForm, **more: Any) -> dict[str, Any]:
        return {
            "title": _("What if…"),
            "form": form,
            "has_drafts": bool(drafts()),
            "may_add": self.has_add_permission(request),
            **more,
        }


def _suggested(request: HttpRequest) -> dict[str, Any]:
    """Return the last month, and the drafts that the address names, or all."""
    midnight = local(timezone.now()).replace(hour=0, minute=0, second=0, microsecond=0)
    named = request.GET.getlist("rule")
    found = [rule.pk for rule in drafts()]
    return {
        "since": midnight - USUAL,
        "rule": [pk for pk in found if str(pk) in named] or found,
    }


def _working(request: HttpRequest, since: datetime, tried: Sequence[CommissionRule]) -> Steps:
    found = Replay(since, tried)
    yield from found.run()
    return Done(html=_result(request, found.outcomes()))


def _result(request: HttpRequest, outcomes: Sequence[Outcome]) -> str:
    query = request.GET.copy()
    query["csv"] = "1"
    shown = {
        "currencies": [_currency(total, outcomes) for total in in_all(outcomes)],
        "csv_url": f"?{query.urlencode()}",
    }
    name = "admin/affiliations_rewards/commissionrule/what_if_result.html"
    return render_to_string(name, shown, request)


def _currency(total: Outcome, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what is shown of a currency: its total, and the partners with most to tell first."""
    rows = [each for each in outcomes if each.currency == total.currency]
    rows.sort(key=lambda each: (-abs(each.difference), each.partner.name, each.partner.pk))
    shown = rows[:MOST_ROWS]
    drawn = [
        charts.Difference(
            Truncator(each.partner.name).chars(24), each.difference, _figures(each)["difference"]
        )
        for each in rows[:DRAWN]
        if each.difference
    ]
    title = _("Differences in %(currency)s") % {"currency": total.currency}
    return {
        "currency": total.currency,
        "total": _figures(total),
        "rows": [{"partner": each.partner, **_figures(each)} for each in shown],
        "hidden": len(rows) - len(shown),
        "chart": charts.differences(drawn, title=title) if drawn else "",
        "undrawn": len([each for each in rows if each.difference]) - len(drawn),
    }


def _figures(each: Outcome) -> dict[str, str]:
    look = "aff-up" if each.difference > 0 else "aff-down" if each.difference < 0 else ""
    return {
        "earned": amount(each.earned, each.currency),
        "would_earn": amount(each.would_earn, each.currency),
        "difference": amount(each.difference, each.currency, signed=True),
        "look": look,
    }


def _heading() -> list[str]:
    return [
        _("partner"),
        _("id in links"),
        _("currency"),
        _("earned"),
        _("would have earned"),
        _("difference"),
    ]


def _cells(since: datetime, tried: Sequence[CommissionRule]) -> Iterator[list[Any]]:
    for each in replay(since, tried):
        sums = (each.earned, each.would_earn, each.difference)
        places = DECIMAL_PLACES.get(each.currency, 0)
        amounts = [Decimal(f"{minor}E-{places}") for minor in sums]
        yield [each.partner.name, each.partner.uid, each.currency, *amounts]
