"""The report: what each partner, channel or campaign has earned, by several models side by side."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase, QueryDict
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import gettext as _

from ... import attribution, csvexport
from ...admin.lists import RecordAdmin
from ...admin.pages import page
from ...admin.progress import Outcome, Steps, streamed
from .. import tables
from ..checks import INSTALL, missing
from ..exceptions import InvalidReport
from ..models import AttributionReport
from ..questions import Question
from . import figures, wording
from .forms import ReportForm

PAGE = "attributionreport/report.html"
RESULT = "admin/affiliations_attribution/attributionreport/result.html"
#: Of more conversions than these it takes a while: the page is shown before there is an answer.
SOON = 1000
#: Paths that are shown.
PATHS = 20


@admin.register(AttributionReport)
class AttributionReportAdmin(RecordAdmin):
    """The list is the report; there are no rows behind it to look at."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is None and super().has_view_permission(request)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """Ask, and answer; nothing is written, so all by GET."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if absent := missing():
            return self._page(request, absent=absent, install=INSTALL)
        form = ReportForm(_asked(request))
        if not form.is_valid():
            return self._page(request, form=form)
        try:
            return self._answered(request, form)
        except InvalidReport as error:
            name, _colon, text = str(error).partition(": ")
            if name in form.fields:
                form.add_error(name, text)
            else:
                form.add_error(None, str(error))
            return self._page(request, form=form)

    def _answered(self, request: HttpRequest, form: ReportForm) -> HttpResponseBase:
        if "csv" in request.GET:
            given = form.cleaned_data
            found = attribution.attribute(given["model"], lead=given["lead"], **form.question)
            laid = tables.credits_of(found, given["by"])
            filename = f"attribution-{timezone.now():%Y-%m-%d}.csv"
            return csvexport.response(request, filename, laid.heading, laid.rows)
        return streamed(
            self,
            request,
            _working(request, form),
            title=_("Attribution"),
            unit=_("steps done"),
            patience=0 if form.count > SOON else None,
            template=PAGE,
            form=form,
        )

    def _page(self, request: HttpRequest, **shown: Any) -> HttpResponseBase:
        return page(self, request, PAGE, title=_("Attribution"), **shown)


def _asked(request: HttpRequest) -> QueryDict:
    """Return what was filled in, or else what is usual, but for what an address names."""
    if "since" in request.GET:
        return request.GET
    asked = QueryDict(mutable=True)
    for name, value in ReportForm.usual().items():
        asked.setlist(name, value if isinstance(value, list) else [value])
    for name in ReportForm.base_fields:
        if name in request.GET:
            asked.setlist(name, request.GET.getlist(name))
    return asked


def _working(request: HttpRequest, form: ReportForm) -> Steps:
    # Found when it is used: Ibis takes a second to come, and need not be here.
    from ..reports import opened  # noqa: PLC0415

    try:
        asked = Question.asked(
            form.cleaned_data["model"], lead=form.cleaned_data["lead"], **form.question
        )
        with opened(asked) as found:
            yield 1, 4
            credited = found.attributed().to_pylist()
            yield 2, 4
            paths = found.top_paths(PATHS).to_pylist()
            yield 3, 4
            times = found.durations().to_pylist()
            yield 4, 4
    except InvalidReport as error:
        if form.count <= SOON:
            raise
        # The form stands on the page already.
        return Outcome(str(error), messages.ERROR)
    return Outcome(html=_result(request, form, credited, paths, times))


def _result(request: HttpRequest, form: ReportForm, credited: Any, paths: Any, times: Any) -> str:
    given = form.cleaned_data
    models = given["model"]
    asked: Any = form.data
    names = {}
    if given["by"] == "partner":
        on_paths = (label for each in paths for label in each["path"])
        names = tables.names_of([*(row["label"] for row in credited), *on_paths])
    called = figures.naming(given["by"], names)
    # Each model gives a conversion away once, and those that nothing led to not at all.
    led = round(sum(row["conversions"] for row in credited if row["model"] == models[0]))
    query = QueryDict(mutable=True)
    for name in form.fields:
        query.setlist(name, [value for value in asked.getlist(name) if value])
    query["csv"] = "1"
    shown = {
        "by": wording.DIMENSIONS[given["by"]],
        "legend": figures.legend(models),
        "count": form.count,
        "led": led,
        "unled": max(form.count - led, 0),
        "together": figures.together(credited, models, called),
        "currencies": figures.currencies(credited, models, called),
        "paths": figures.paths(paths, called),
        "times": figures.times(times),
        "csv_url": f"?{query.urlencode()}",
    }
    return render_to_string(RESULT, shown, request)
