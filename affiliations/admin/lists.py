"""What the lists need where a table holds a million rows: no page may look at all of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import models
from django.db.models import Max, Min
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _

from ..dates import local as local
from ..models import Partner
from .junk import JunkProofAdmin

#: As far as rows are counted, and pages can be turned.
BOUND = 10_000
#: How far back is looked for what no index leads to, unless a period is chosen.
RECENT = timedelta(days=30)
#: As many partners as a name may fit for their rows to be gathered and sorted.
FEW = 100
NOTHING = "–"


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts up to a bound: nobody turns to a page behind it, and counting on takes seconds."""

    @cached_property
    def _found(self) -> int:
        rows: Any = self.object_list
        found: int = rows.order_by()[: BOUND + 1].count()
        return found

    @cached_property
    def count(self) -> int:
        """How many rows pages are made for."""
        return min(self._found, BOUND)

    @property
    def has_more(self) -> bool:
        """Tell whether there are rows behind the last page."""
        return self._found > BOUND


class Span(models.QuerySet[Any]):
    """Answers the date hierarchy from the first row and the last one, not from each in between.

    The periods are all that lie between the two, also those in which nothing happened.
    """

    def aggregate(self, *args: Any, **extremes: Any) -> dict[str, Any]:
        """Return both ends of an index; SQLite finds each at once, but not two in one query."""
        if not hasattr(self, "_ends"):
            ask = super().aggregate
            self._ends = {name: ask(**{name: end})[name] for name, end in extremes.items()}
        return self._ends

    def datetimes(self, field_name: str, kind: str, *args: Any, **kwargs: Any) -> Any:
        """Return the days, months or years from the first row's to the last one's."""
        ends = self.aggregate(first=Min(field_name), last=Max(field_name))
        if ends["first"] is None:
            return []
        first, last = (local(ends[name]).date() for name in ("first", "last"))
        if kind == "day":
            days = range(first.toordinal(), last.toordinal() + 1)
            return [date.fromordinal(day) for day in days]
        if kind == "month":
            months = range(first.year * 12 + first.month - 1, last.year * 12 + last.month)
            return [date(month // 12, month % 12 + 1, 1) for month in months]
        return [date(year, 1, 1) for year in range(first.year, last.year + 1)]


class LargeChangeList(ChangeList):
    """A list that asks the database only what an index, or a bounded number of rows, can answer."""

    def get_filters(self, request: HttpRequest) -> Any:
        found: Any = super().get_filters(request)
        within = f"{self.date_hierarchy}__"
        self.drilled = {
            name: value[-1] for name, value in found[2].items() if name.startswith(within)
        }
        return found

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.has_more = self.paginator.has_more
        if self.has_more:
            # Equal to the other number, it is not printed as if it were exact.
            self.full_result_count = self.result_count
        if not self.result_count:
            # It took a look at all rows to find none: once is enough.
            self.result_list = self.result_list.none()
        # From here on only the date hierarchy asks. It is told of the whole list's periods within
        # the one that was chosen: those of a search would cost another look at all rows.
        rows = self.root_queryset
        self.queryset = Span(rows.model, rows.query.chain(), rows.db).filter(**self.drilled)


class RecordAdmin(JunkProofAdmin):
    """Rows that the software writes, and people look at."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each would count the whole table
    list_select_related: ClassVar[
        Any
    ] = ()  # MariaDB would begin at the other table, and sort all of ours
    sortable_by: ClassVar[Any] = ()  # what no index holds in order has to be sorted whole
    paginator = BoundedPaginator

    class Media:
        css = {"all": ["affiliations/admin.css"]}
        js = ["affiliations/admin.js"]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LargeChangeList

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> Any:
        if kwargs.get("obj") is not None:
            context["subtitle"] = Truncator(self.named(kwargs["obj"])).chars(80)
        return super().render_change_form(request, context, *args, **kwargs)

    def named(self, row: Any) -> str:
        """Return what a row is called at the top of its own page."""
        return str(row)

    def history_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Ask first whether somebody may look: Django tells anybody what is not there."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        return super().history_view(request, *args, **kwargs)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class RecordInline(admin.TabularInline):  # type: ignore[type-arg]
    """Rows of the same kind that belong to another."""

    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class TextFilter(admin.SimpleListFilter):
    """A filter to write into, where the choices would be too many to list."""

    template = "admin/affiliations/text_filter.html"
    label: Any

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return []

    def has_output(self) -> bool:
        return True

    def choices(self, changelist: Any) -> Any:
        """Return what the template needs: the text, and what else the list is filtered by."""
        without = changelist.get_query_string(remove=[self.parameter_name])
        others = [
            pair
            for pair in parse_qsl(without.removeprefix("?"), keep_blank_values=True)
            if pair[0] != "all"
        ]
        return [{"text": self.text, "others": others, "clear": without}]

    @property
    def text(self) -> str:
        """What was written; PostgreSQL takes no NUL."""
        return str(self.value() or "").replace("\0", "").strip()


class PartnerFilter(TextFilter):
    """Keeps the rows of the partners that a text names."""

    title = _("partner")
    label = _("Name, or id in links")
    parameter_name = "partner"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return self.named(queryset, self.text) if self.text else queryset

    @classmethod
    def named(cls, queryset: Any, text: str) -> Any:
        """Keep the rows of the partners that a text names."""
        if partner := with_uid(text):
            return cls.of(queryset, [partner])
        named = Partner.objects.filter(name__icontains=text).order_by()
        few = list(named.values_list("pk", flat=True)[: FEW + 1])
        return cls.of(queryset, few) if len(few) <= FEW else cls.of_many(queryset, named)

    @staticmethod
    def of(queryset: Any, partners: Any) -> Any:
        """Keep the rows of the partners with these keys."""
        return queryset.filter(partner__in=partners)

    @staticmethod
    def of_many(queryset: Any, partners: Any) -> Any:
        """Keep those of so many that going through all rows finds a page of them sooner."""
        return queryset.filter(models.Exists(partners.filter(pk=models.OuterRef("partner"))))


def partner_of(path: str) -> type[PartnerFilter]:
    """Return a filter for the rows whose partner is found by a path, such as `link__partner`."""

    def of(queryset: Any, partners: Any) -> Any:
        return queryset.filter(**{f"{path}__in": partners})

    def of_many(queryset: Any, partners: Any) -> Any:
        return queryset.filter(models.Exists(partners.filter(pk=models.OuterRef(path))))

    named = {"of": staticmethod(of), "of_many": staticmethod(of_many)}
    return type("PartnerFilter", (PartnerFilter,), named)


class HappenedFilter(admin.SimpleListFilter):
    """Keeps the rows in which a date is set, or is not."""

    field: str

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("Yes")), ("no", _("No"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() not in ("yes", "no"):
            return queryset
        return queryset.filter(**{f"{self.field}__isnull": self.value() == "no"})


def happened(field: str, title: Any) -> type[HappenedFilter]:
    """Return a filter for whether the date `field` is set."""
    return type(
        "HappenedFilter",
        (HappenedFilter,),
        {"field": field, "title": title, "parameter_name": field.removesuffix("_on")},
    )


def recent(request: HttpRequest, rows: Any, field: str) -> Any:
    """Keep the rows of the chosen period, or else the latest: there may be ten million."""
    if any(name.startswith(f"{field}__") for name in request.GET):
        return rows
    return rows.filter(**{f"{field}__gte": timezone.now() - RECENT})


def number(text: str) -> Any:
    """Return the key that somebody wrote, or None, the key of no row, where the text is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def with_uid(uid: str) -> int | None:
    """Return the key of the partner with this id in links, if there is one."""
    return Partner.objects.filter(uid=uid).values_list("pk", flat=True).first()


def whole(queryset: Any, term: str, field: str, of: Callable[[Any, Any], Any]) -> Any:
    """Keep the rows of the partner with this id in links, or else those whose field is the term."""
    term = term.strip()
    if not term:
        return queryset
    partner = with_uid(term)
    return queryset.filter(**{field: term}) if partner is None else of(queryset, [partner])


def short(when: datetime) -> str:
    """Return the date of a moment for a column; its own page tells the time, too."""
    return date_format(local(when), "SHORT_DATE_FORMAT")


def marked(state: str, text: Any) -> Any:
    """Return a coloured word; `state` says of which colour, as one of a callback's, "" of none."""
    return format_html('<span class="aff-badge aff-{}">{}</span>', state, text) if state else text


def link(site: admin.AdminSite, row: Any, text: Any = None, most: int = 60) -> Any:
    """Return a link to a row's own page, or its text alone where the site has no such page."""
    text = Truncator(str(row) if text is None else text).chars(most)
    return _linked(site, row._meta, "change", text, args=[row.pk])


def list_link(site: admin.AdminSite, model: Any, text: Any, **query: Any) -> Any:
    """Return a link to a list as it is filtered by `query`; its text alone where there is none."""
    return _linked(site, model._meta, "changelist", text, query=query)


def _linked(
    site: admin.AdminSite, meta: Any, page: str, text: Any, *, args: Any = (), query: Any = None
) -> Any:
    name = f"admin:{meta.app_label}_{meta.model_name}_{page}"
    try:
        url = reverse(name, args=args, current_app=site.name)
    except NoReverseMatch:
        return text
    end = f"?{urlencode(query)}" if query else ""
    return format_html('<a href="{}{}">{}</a>', url, end, text)
