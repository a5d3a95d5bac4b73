"""The files of a batch by which a provider is told whom to pay."""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import TemporaryFile
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZipFile

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils.translation import gettext as _

from ...streaming import streamed
from .. import payoutfiles
from ..models import Method, Payout, PayoutBatch

CHUNK = 64 * 1024


class FilesMixin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Batches, with the files of what was sent of each."""

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.files_view)
        name = "affiliations_rewards_payoutbatch_files"
        return [path("<path:object_id>/files/<slug:method>/", view, name=name), *super().get_urls()]

    def files_of(self, batch: PayoutBatch) -> list[tuple[str, str, int]]:
        """Return the addresses of the files of a batch, what each is, and of how many payouts."""
        found = []
        for method in Method:
            sent = batch.payouts.filter(method=method, state=Payout.State.SENT).count()
            if not sent:
                continue
            name = "admin:affiliations_rewards_payoutbatch_files"
            url = reverse(name, args=[batch.pk, method], current_app=self.admin_site.name)
            found.append((url, _("File for %(method)s") % {"method": method.label}, sent))
            if method == Method.PAYPAL:
                text = _("The same with decimal commas, as 12,50")
                found.append((f"{url}?commas=1", text, sent))
        return found

    def files_view(self, request: HttpRequest, object_id: str, method: str) -> Any:
        """Answer with the file of what was sent by a method; several ones are packed into one."""
        batch = self.get_object(request, unquote(object_id))
        if batch is None or method not in Method.values:
            raise Http404("batch: there is none with this key, or no such method")
        if not self.has_act_permission(request):  # type: ignore[attr-defined]
            raise PermissionDenied
        files = payoutfiles.files(batch, method, commas="commas" in request.GET)
        first = next(files, None)
        if first is None:
            raise Http404("file: nothing is sent that is not settled")
        second = next(files, None)
        if second is None:
            return _saved(HttpResponse(first[1], content_type="text/csv; charset=utf-8"), first[0])
        packed = TemporaryFile()  # noqa: SIM115 - the answer closes it
        with ZipFile(packed, "w", ZIP_DEFLATED) as archive:
            for name, content in (first, second, *files):
                archive.writestr(name, content)
        answer = streamed(request, _read(packed), content_type="application/zip")
        return _saved(answer, f"payouts-{batch.pk}-{method}.zip")


def _read(packed: IO[bytes]) -> Iterator[bytes]:
    packed.seek(0)
    with packed:
        while chunk := packed.read(CHUNK):
            yield chunk


def _saved(answer: Any, filename: str) -> Any:
    answer.headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    answer.headers["Cache-Control"] = "private, no-store"
    return answer
