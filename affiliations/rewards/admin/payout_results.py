"""Import what a provider says of payouts: shown line by line first, and then noted all or none."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.db import router, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ... import csvexport
from ...admin.pages import page
from ...admin.uploads import UploadForm
from .. import payoutfiles
from ..exceptions import InvalidResultFile
from ..models import Payout
from ..models.payouts import MAX_REASON

#: Of a file that a page imports.
MAX_BYTES = 2_000_000
MAX_LINES = 5_000
#: What a line says that anything is made of; each is a name of its column.
COLUMNS = {
    "reference": "customer id",
    "status": "status",
    "provider_reference": "transaction id",
    "reason": "reason",
    "amount": "amount",
    "currency": "currency",
}
WORDS = {
    payoutfiles.PAID: gettext_lazy("will be noted as paid"),
    payoutfiles.FAILED: gettext_lazy("will be noted as failed: its entries become available"),
    payoutfiles.RETURNED: gettext_lazy("will be noted as come back: its entries become available"),
}
BADGES = {payoutfiles.PAID: "delivered", payoutfiles.FAILED: "dead", payoutfiles.RETURNED: "dead"}


class ResultForm(UploadForm):
    """A provider's file, or what stands in it."""

    max_bytes = MAX_BYTES
    too_large = gettext_lazy("It is larger than 2 MB. Please take it apart.")
    placeholder = "Customer ID,Status,Transaction ID,Amount,Currency"
    unreadable = InvalidResultFile

    def read(self, data: bytes | str) -> list[payoutfiles.Line]:
        """Return the lines."""
        lines = payoutfiles.read(data.encode(errors="replace") if isinstance(data, str) else data)
        if len(lines) > MAX_LINES:
            text = _("It has more than %(most)s lines. Please take it apart.")
            raise InvalidResultFile(text % {"most": f"{MAX_LINES:,}"})
        return lines


class ResultsMixin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Batches, with a page that notes what providers say of their payouts."""

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.results_view)
        name = "affiliations_rewards_payoutbatch_results"
        return [path("results/", view, name=name), *super().get_urls()]

    def results_view(self, request: HttpRequest) -> HttpResponse:
        """Ask for a file; on a POST show what it says, and once that is confirmed note it."""
        if not self.has_act_permission(request):  # type: ignore[attr-defined]
            raise PermissionDenied
        form = ResultForm(*((request.POST, request.FILES) if request.method == "POST" else ()))
        shown: dict[str, Any] = {}
        if form.is_bound and form.is_valid():
            lines = form.cleaned_data["lines"]
            is_good = payoutfiles.check(lines)
            if is_good and request.POST.get("confirmed"):
                try:
                    return self._noted(request, lines)
                except InvalidResultFile as error:
                    self.message_user(request, str(error), messages.ERROR)
                    is_good = payoutfiles.check(lines)
            shown = _shown(lines, is_good)
        title = _("Import a result file")
        return page(self, request, "payoutbatch/results.html", title=title, form=form, **shown)

    def _noted(self, request: HttpRequest, lines: list[payoutfiles.Line]) -> HttpResponse:
        changed = [line for line in lines if line.changes]
        rows = [line.payout for line in changed if line.payout]
        user: Any = request.user
        with transaction.atomic(using=router.db_for_write(Payout)):
            found = payoutfiles.apply(lines)
            if rows:
                LogEntry.objects.log_actions(
                    user_id=user.pk,
                    queryset=rows,
                    action_flag=CHANGE,
                    change_message=_("Noted by a result file."),
                )
        text = _(
            "%(paid)s were paid, %(failed)s have failed, %(returned)s came back; %(unchanged)s "
            "stay as they were."
        )
        level = messages.SUCCESS if rows else messages.WARNING
        self.message_user(request, text % found._asdict(), level)
        name = "admin:affiliations_rewards_payoutbatch_changelist"
        return HttpResponseRedirect(reverse(name, current_app=self.admin_site.name))


def _shown(lines: list[payoutfiles.Line], is_good: bool) -> dict[str, Any]:
    wrong = sum(bool(line.problems) for line in lines)
    counted = Counter(line.outcome for line in lines if line.changes)
    rows = [
        {
            "line": line,
            "badge": BADGES.get(line.outcome, "plain"),
            "words": WORDS[line.outcome] if line.changes else _("stays as it is"),
        }
        # What is wrong first: it may be one line of thousands; then what changes.
        for line in sorted(lines, key=lambda line: (not line.problems, not line.changes))
    ]
    shown = {"rows": rows, "number": len(lines), "wrong": wrong, "changes": counted.total()}
    shown["nothing_new"] = not shown["changes"]
    if is_good:
        chunks = csvexport.lines(COLUMNS.values(), map(_again, lines))
        shown["text"] = b"".join(chunks).decode()
    return shown


def _again(line: payoutfiles.Line) -> list[str]:
    """Return what a line says, without all else that a provider's file may hold."""
    values = {**line.values, "reason": line.values.get("reason", "")[:MAX_REASON]}
    return [values.get(name, "") for name in COLUMNS]
