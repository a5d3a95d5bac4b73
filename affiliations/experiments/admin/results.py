"""The results of a campaign: a page that is asked for by GET, and the same as CSV."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import router, transaction
from django.http import Http404, HttpRequest, HttpResponseBase, QueryDict
from django.template.loader import render_to_string
from django.urls import path
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.functional import cached_property
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ... import csvexport
from ...admin import amounts
from ...admin.acting import ActingAdmin
from ...admin.fields import MomentField
from ...admin.pages import page
from ...admin.progress import Outcome, Steps, streamed
from ...exceptions import InvalidMoney
from ...models import Partner
from ...money import DECIMAL_PLACES, Money
from ..exceptions import InvalidResults
from ..goals import EVENT, TRANSACTION, TRIGGER, Goal, goals_of
from ..models import Assignment, Campaign
from ..results import LEVEL, MOST_DAYS, Results, results
from . import results_csv
from . import results_figures as figures

__all__ = ["ResultsForm", "ResultsMixin"]

NAME = "affiliations_experiments_campaign_results"
PAGE = "results/report.html"
RESULT = "admin/affiliations_experiments/results/result.html"
#: Of more exposures than these it takes a while: the page is shown before there is an answer.
SOON = 20_000
LEVELS = (0.9, 0.95, 0.99)
KINDS = {
    TRIGGER: gettext_lazy("Triggers, of whoever a partner sent"),
    EVENT: gettext_lazy("Events"),
    TRANSACTION: gettext_lazy("Transactions"),
}


class ResultsForm(forms.Form):
    """What is asked of a campaign."""

    goal = forms.ChoiceField(
        label=gettext_lazy("Goal"),
        error_messages={"invalid_choice": gettext_lazy("There is no such goal.")},
    )
    since = MomentField(label=gettext_lazy("Seen for the first time from"), required=False)
    until = MomentField(label=gettext_lazy("Until"), required=False)
    days = forms.IntegerField(
        label=gettext_lazy("Days to reach it"), required=False, min_value=1, max_value=MOST_DAYS
    )
    partner = forms.CharField(
        label=gettext_lazy("Sent by partner"),
        required=False,
        max_length=100,
        help_text=gettext_lazy("The id in the partner’s links."),
    )
    currency = forms.CharField(label=gettext_lazy("Currency"), required=False, max_length=3)
    cap = forms.CharField(
        label=gettext_lazy("Count at most"),
        required=False,
        max_length=30,
        help_text=gettext_lazy("Of what each visitor spends."),
    )
    level = forms.TypedChoiceField(
        label=gettext_lazy("Certainty"),
        required=False,
        empty_value=str(LEVEL),
        choices=[(str(each), f"{each:.0%}") for each in LEVELS],
        error_messages={"invalid_choice": gettext_lazy("Choose one of the list.")},
    )

    def __init__(self, data: Any, campaign: Campaign, goals: list[Goal]) -> None:
        super().__init__(data)
        self.campaign = campaign
        field: Any = self.fields["goal"]
        field.choices = [
            (label, [(str(each), said(each)) for each in goals if each.kind == kind])
            for kind, label in KINDS.items()
        ]

    def clean_currency(self) -> str | None:
        """Return the code in capitals, or None."""
        code = self.cleaned_data["currency"].upper()
        if code and code not in DECIMAL_PLACES:
            raise forms.ValidationError(_("Must be a code of three letters, such as EUR."))
        return code or None

    def clean_partner(self) -> Partner | None:
        """Return the partner who has this id in their links, or None."""
        uid = self.cleaned_data["partner"]
        if not uid:
            return None
        found = Partner.objects.filter(uid=uid).first()
        if found is None:
            raise forms.ValidationError(_("There is no such partner."))
        return found

    def clean(self) -> None:
        """Refuse a time that ends before it begins, and a cap that is no amount."""
        super().clean()
        given = self.cleaned_data
        since, until = given.get("since"), given.get("until")
        if since is not None and until is not None and since >= until:
            self.add_error("until", _("It ends before it begins."))
        if text := given.get("cap"):
            given["cap"] = self._cap(text)

    def _cap(self, text: str) -> int | None:
        currency = self.cleaned_data.get("currency")
        if currency is None:
            if "currency" not in self.errors:
                self.add_error("currency", _("Is needed for what is counted at most."))
            return None
        try:
            minor = Money.of(text, currency).minor
        except InvalidMoney as error:
            self.add_error("cap", str(error).partition(": ")[2])
            return None
        if minor < 1:
            self.add_error("cap", _("Must be above zero."))
        return minor

    @property
    def question(self) -> dict[str, Any]:
        """What `results` is asked."""
        given = self.cleaned_data
        return {**given, "cap": given["cap"] or None, "level": float(given["level"])}

    @cached_property
    def is_large(self) -> bool:
        """Whether it takes a while."""
        using = router.db_for_read(Assignment)
        rows = Assignment.objects.using(using).filter(campaign=self.campaign)
        return rows.order_by()[: SOON + 1].count() > SOON


def said(goal: Goal) -> str:
    """Return what people call a goal."""
    if not goal.name:
        return _("Any transaction")
    # The key, too, where an event has a name of its own.
    return goal.label if goal.label in ("", goal.name) else f"{goal.label} ({goal.name})"


class ResultsMixin(ActingAdmin):
    """Campaigns, with a page for the results of each."""

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.results_view)
        return [path("<path:object_id>/results/", view, name=NAME), *super().get_urls()]

    @method_decorator(transaction.non_atomic_requests)
    def results_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Answer with what came of a campaign, to whoever may look at it; nothing is written."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        campaign = self.get_object(request, unquote(object_id))
        if campaign is None:
            raise Http404
        form = _form(request, campaign)
        shown: dict[str, Any] = {
            "title": _("Results"),
            "subtitle": str(campaign),
            "campaign": campaign,
            "form": form,
        }
        if not form.is_valid():
            return page(self, request, PAGE, **shown)
        if "csv" in request.GET:
            rows = results_csv.laid(results(campaign, **form.question))
            name = slugify(campaign.slug) or "campaign"
            filename = f"results-{name}-{timezone.now():%Y-%m-%d}.csv"
            return csvexport.response(request, filename, results_csv.HEADING, rows)
        return streamed(
            self,
            request,
            _working(request, form),
            unit=_("steps done"),
            patience=0 if form.is_large else None,
            template=PAGE,
            **shown,
        )


def _form(request: HttpRequest, campaign: Campaign) -> ResultsForm:
    """Return what was filled in; without a goal the first that there is."""
    asked, goals = request.GET.copy(), goals_of(campaign)
    asked.setdefault("goal", str(goals[0]))
    asked.setdefault("level", str(LEVEL))
    # One that was not reached of late is none of the list.
    with suppress(InvalidResults):
        wanted = Goal.of(str(asked["goal"]))
        if str(wanted) not in map(str, goals):
            goals.append(wanted)
    return ResultsForm(asked, campaign, goals)


def _working(request: HttpRequest, form: ResultsForm) -> Steps:
    try:
        found = results(form.campaign, **form.question)
    except InvalidResults as error:
        return Outcome(str(error), messages.ERROR)
    yield 1, 2
    return Outcome(html=_result(request, form, found))


def _result(request: HttpRequest, form: ResultsForm, found: Results) -> str:
    asked: Any = form.data
    query = QueryDict(mutable=True)
    for name in form.fields:
        if value := asked.get(name):
            query[name] = value
    capped = query.copy()
    suggested = figures.suggested(found)
    if suggested is not None:
        capped["currency"] = suggested.currency
        capped["cap"] = str(suggested.amount)
    query["csv"] = "1"
    shown = {
        "groups": figures.groups(found),
        "level": figures.percent(found.level, 0),
        "suggested": "" if suggested is None else amounts.told(suggested),
        "capped_url": f"?{capped.urlencode()}",
        "csv_url": f"?{query.urlencode()}",
    }
    return render_to_string(RESULT, shown, request)
