"""Do something to records: to those selected in a list, or to the one on its page."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth import get_permission_codename
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from .lists import RecordAdmin
from .pages import page

#: Of what is done one by one, and each time in its own transaction; a page of a list.
AT_ONCE = 100


class ActingAdmin(RecordAdmin):
    """Records that nobody edits, but that whoever may change them can do something to."""

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Tell whether somebody may do so; Django asks for the actions of that permission."""
        codename = get_permission_codename("change", self.opts)
        return request.user.has_perm(f"{self.opts.app_label}.{codename}")

    def offers(self, action: str, row: Any) -> bool:
        """Tell whether a row's own page has a button for an action."""
        return True

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> Any:
        row = kwargs.get("obj")
        actions = self.get_action_choices(request, []) if row is not None else []
        context["buttons"] = [each for each in actions if self.offers(each[0], row)]
        return super().render_change_form(request, context, *args, **kwargs)

    def selected(self, request: HttpRequest, queryset: Any) -> list[Any]:
        """Return the selected rows; empty, and the user told, where they are too many."""
        rows = list(queryset[: AT_ONCE + 1])
        if len(rows) > AT_ONCE:
            text = _("Please select at most %(number)s at a time.") % {"number": AT_ONCE}
            self.message_user(request, text, messages.ERROR)
            return []
        return rows

    def confirmation(
        self,
        request: HttpRequest,
        rows: list[Any],
        action: str,
        *,
        title: str,
        text: str,
        across: bool = False,
        **context: Any,
    ) -> HttpResponse | None:
        """Return the page that asks whether to go on, or None where the answer was yes.

        With `across`, all of the list is meant, of which `rows` has only one or another.
        """
        if request.POST.get("confirmed"):
            return None
        context = {"title": title, "text": text, "across": across, **context}
        return self.question(request, rows, action, **context)

    def question(
        self, request: HttpRequest, rows: list[Any], action: str, **context: Any
    ) -> HttpResponse:
        """Return the page that asks before an action; `context` has its `title` and `text`.

        And, where it asks for more than yes or no, a `form`; and `lines`, where rows have no good
        names.
        """
        shown = {"checkbox": ACTION_CHECKBOX_NAME, "rows": rows, "action": action, **context}
        return page(self, request, "confirm.html", **shown)
