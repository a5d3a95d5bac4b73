"""Import a file of links: shown line by line first, and made only where all of it is good."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import ADDITION, LogEntry
from django.core.exceptions import PermissionDenied
from django.db import router, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.translation import gettext as _

from ... import csvexport
from ...admin.pages import page
from .. import importing, services
from ..exceptions import InvalidLink
from ..models import Link
from . import addresses
from .forms import MAX_LINES, ImportForm

#: Keys between the first link of a file and the last, where others make links at the same time.
KEYS = 100_000


class ImportMixin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Links, with a page that makes many at once."""

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        url = self._url("import") if self.has_add_permission(request) else ""
        return super().changelist_view(request, {**(extra_context or {}), "import_url": url})

    def get_urls(self) -> list[Any]:
        wrap = self.admin_site.admin_view
        name = "affiliations_links_link_import"
        return [
            path("import/", wrap(self.import_view), name=name),
            path("import/<int:first>/", wrap(self.imported_view), name=f"{name}ed"),
            *super().get_urls(),
        ]

    def _url(self, name: str, *args: Any) -> str:
        name = f"admin:affiliations_links_link_{name}"
        return reverse(name, args=args, current_app=self.admin_site.name)

    def import_view(self, request: HttpRequest) -> HttpResponse:
        """Ask for a file; on a POST show what is in it, and once that is confirmed make it."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = ImportForm(*((request.POST, request.FILES) if request.method == "POST" else ()))
        shown: dict[str, Any] = {}
        if form.is_bound and form.is_valid():
            lines = form.cleaned_data["lines"]
            is_good = importing.check(lines)
            if is_good and request.POST.get("confirmed"):
                try:
                    return self._make(request, lines)
                except InvalidLink:
                    is_good = importing.check(lines)
            shown = self._shown(request, lines, is_good)
        title = _("Import links from CSV")
        columns = [each for each in importing.COLUMNS if each not in importing.REQUIRED]
        return page(
            self,
            request,
            "link/import.html",
            title=title,
            form=form,
            required=importing.REQUIRED,
            columns=columns,
            most=MAX_LINES,
            **shown,
        )

    def _shown(
        self, request: HttpRequest, lines: list[importing.Line], is_good: bool
    ) -> dict[str, Any]:
        wrong = [line for line in lines if line.problems]
        # What is wrong first: it may be one line of thousands.
        shown: dict[str, Any] = {"lines": sorted(lines, key=lambda line: not line.problems)}
        shown |= {"number": len(lines), "wrong": len(wrong)}
        shown["before"] = addresses.router(request)
        taken = [line for line in wrong if line.problems == {"path": [services.PATH_TAKEN]}]
        # As after a second click on the button, or when somebody goes back and forth.
        shown["done_before"] = bool(lines) and len(taken) == len(lines)
        if is_good:
            chunks = csvexport.lines(importing.COLUMNS, map(_again, lines))
            shown["text"] = b"".join(chunks).decode()
        return shown

    def _make(self, request: HttpRequest, lines: list[importing.Line]) -> HttpResponse:
        user: Any = request.user
        with transaction.atomic(using=router.db_for_write(Link)):
            made = importing.make(lines)
            LogEntry.objects.log_actions(
                user_id=user.pk,
                queryset=made,
                action_flag=ADDITION,
                change_message=_("Imported."),
            )
        text = _("%(number)s links were made.") % {"number": f"{len(made):,}"}
        self.message_user(request, text, messages.SUCCESS)
        return HttpResponseRedirect(self._url("imported", min(link.pk for link in made)))

    def imported_view(self, request: HttpRequest, first: int) -> HttpResponseBase:
        """Show the links of a file that was imported, or answer with them as CSV."""
        if not self.has_view_permission(request) and not self.has_add_permission(request):
            raise PermissionDenied
        start = Link.objects.filter(pk=first).first()
        if start is None:
            raise Http404("link: there is none with this key")
        together = Link.objects.filter(
            pk__gte=start.pk,
            pk__lt=start.pk + KEYS,
            created_on=start.created_on,
        )
        links: list[Any] = list(together.select_related("partner").order_by("pk")[:MAX_LINES])
        before = addresses.router(request)
        if "csv" in request.GET:
            heading = [*importing.COLUMNS, *importing.IGNORED]
            rows = ([*importing.cells(link), before + link.path] for link in links)
            return csvexport.response(request, f"imported-{first}.csv", heading, rows)
        title = _("Imported links")
        return page(self, request, "link/imported.html", title=title, links=links, before=before)


def _again(line: importing.Line) -> list[str]:
    """Return a line as it was read, with its path: whoever confirms twice makes no link twice."""
    made_up = line.link.path if line.link else ""
    values = {**line.values, "path": line.values.get("path") or made_up}
    return [values.get(name, "") for name in importing.COLUMNS]
