"""Environments: what holds for all campaigns of a property, which is whether there is panic."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db import router, transaction
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ...admin.acting import ActingAdmin
from ...admin.lists import link, list_link, marked
from .. import publishing
from ..models import Campaign, Environment

#: Campaigns that a page names.
MOST_NAMED = 20


@admin.register(Environment)
class EnvironmentAdmin(ActingAdmin):
    list_display = ("property", "badge", "campaigns")
    ordering = ("property__name", "pk")
    search_fields = ("property__name",)
    search_help_text = gettext_lazy("Part of the property’s name.")
    fields = readonly_fields = ("property_", "badge", "campaigns", "changed_on")
    actions = ("panic_on", "panic_off")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("property")

    @admin.display(description=gettext_lazy("property"))
    def property_(self, environment: Environment) -> Any:
        return link(self.admin_site, environment.property)

    @admin.display(description=gettext_lazy("state"))
    def badge(self, environment: Environment) -> Any:
        if environment.panic:
            return marked("dead", _("panic: nobody sees anything"))
        return marked("delivered", _("as it should be"))

    @admin.display(description=gettext_lazy("campaigns"))
    def campaigns(self, environment: Environment) -> Any:
        query = {"property__id__exact": environment.property_id}
        return list_link(self.admin_site, Campaign, _("Its campaigns"), **query)

    # What is done with one

    def offers(self, action: str, row: Environment) -> bool:
        return row.panic == (action == "panic_off")

    @admin.action(description=gettext_lazy("Panic: show nothing"), permissions=["act"])
    def panic_on(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        text = _(
            "Within seconds nobody sees any variation of any campaign there, wherever it is "
            "decided: programs show what they show without one. It stays so until somebody ends "
            "the panic. No campaign is changed by it."
        )
        return self._set(request, queryset, "panic_on", _("Switch panic on?"), text)

    @admin.action(description=gettext_lazy("End the panic"), permissions=["act"])
    def panic_off(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        text = _(
            "Within seconds its live campaigns are shown again, as they were. Whoever has seen a "
            "variation sees the same again."
        )
        return self._set(request, queryset, "panic_off", _("End the panic?"), text)

    def _set(
        self, request: HttpRequest, queryset: Any, action: str, title: str, text: str
    ) -> HttpResponse | None:
        panic = action == "panic_on"
        rows = [each for each in self.selected(request, queryset) if each.panic != panic]
        if not rows:
            self.message_user(request, _("It is so already: nothing was done."), messages.INFO)
            return None
        lines = None if request.POST.get("confirmed") else _lines(rows)
        asked = self.confirmation(request, rows, action, title=title, text=text, lines=lines)
        if asked:
            return asked
        said = _("Panic switched on.") if panic else _("Panic ended.")
        with transaction.atomic(using=router.db_for_write(Campaign)):
            for each in rows:
                publishing.set_panic(prop=each.property, panic=panic)
                self.log_change(request, each, said)
        self.message_user(request, said, messages.WARNING if panic else messages.SUCCESS)
        return None


def _lines(rows: list[Environment]) -> list[str]:
    """Return each property with its live campaigns: one query."""
    live = Campaign.objects.filter(
        property__in=[each.property_id for each in rows], state=Campaign.State.LIVE
    )
    named: dict[int, list[str]] = {}
    for property_id, name in live.order_by("-pk").values_list("property", "name"):
        named.setdefault(property_id, []).append(name)
    return [_line(each, named.get(each.property_id, [])) for each in rows]


def _line(environment: Environment, names: list[str]) -> str:
    words = {"property": environment.property, "n": len(names)}
    if not names:
        return _("%(property)s: no campaign is live") % words
    text = ngettext(
        "%(property)s: %(n)s live campaign: %(names)s",
        "%(property)s: %(n)s live campaigns: %(names)s",
        len(names),
    )
    words["names"] = ", ".join(names[:MOST_NAMED]) + (" …" if len(names) > MOST_NAMED else "")
    return text % words
