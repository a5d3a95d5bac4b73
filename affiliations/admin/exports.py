"""Take a list away as CSV, as it is filtered and searched."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.urls import path, reverse
from django.utils import timezone

from .. import csvexport
from .lists import local

EXPORTED_AT_ONCE = 2000


class ExportMixin(admin.ModelAdmin):  # type: ignore[type-arg]
    """A list with a button that exports what it shows."""

    def heading(self) -> list[str]:
        """Return the names of the columns."""
        raise NotImplementedError

    def cells(self, request: HttpRequest, rows: Iterator[Any]) -> Iterator[list[Any]]:
        """Yield what each row holds in them."""
        raise NotImplementedError

    @property
    def _export_name(self) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_export"

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.export_view)
        return [path("export/", view, name=self._export_name), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        url = reverse(f"admin:{self._export_name}", current_app=self.admin_site.name)
        return super().changelist_view(request, {**(extra_context or {}), "export_url": url})

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """Answer with the rows that the list shows under the same filters, as CSV."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            listed = self.get_changelist_instance(request)
        except IncorrectLookupParameters:
            name = f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"
            return HttpResponseRedirect(reverse(name, current_app=self.admin_site.name) + "?e=1")
        rows: Iterator[Any] = listed.get_queryset(request).iterator(chunk_size=EXPORTED_AT_ONCE)
        filename = f"{self.opts.model_name}s-{timezone.now():%Y-%m-%d}.csv"
        return csvexport.response(request, filename, self.heading(), self.cells(request, rows))


def moment(when: datetime | None) -> str:
    """Return a date as spreadsheets know one, by the site's clock, whose zone the heading names."""
    return "" if when is None else f"{local(when):%Y-%m-%d %H:%M:%S}"
