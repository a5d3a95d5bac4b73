"""Answer what no database can hold, in addresses and forms, as what it is: there is no such row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG, ChangeList
from django.core.exceptions import BadRequest
from django.db import DataError
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.translation import gettext as _

from .fields import PickMany, PickOne, RowsField, can_be

#: What it ends in to ask for a key of forty digits, the year 99999999, or what began before time.
UNASKABLE = (ValueError, OverflowError, DataError)


class JunkProofAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Pages, lists and actions that nothing in an address or a form can make fail."""

    @property
    def urls(self) -> list[URLPattern]:
        """The addresses of all pages, those of subclasses too."""
        patterns: list[URLPattern] = self.get_urls()
        for pattern in patterns:
            pattern.callback = _readable(pattern.callback)
        return patterns

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """Return the list; Django answers IncorrectLookupParameters by the list as it is."""
        try:
            return super().get_changelist_instance(request)
        except UNASKABLE as error:
            if not request.GET.keys() - {ERROR_FLAG}:
                raise  # the fault is ours
            raise IncorrectLookupParameters(error) from error

    def response_action(
        self, request: HttpRequest, queryset: Any, *args: Any, **kwargs: Any
    ) -> HttpResponse | None:
        """Do the action, unless something that was selected can be no row."""
        selected = request.POST.getlist(ACTION_CHECKBOX_NAME)
        if all(can_be(self.opts.pk, each) for each in selected):
            return super().response_action(request, queryset, *args, **kwargs)
        text = _("What was selected is no row of this list. Nothing was done.")
        self.message_user(request, text, messages.ERROR)
        return None

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name in self.get_autocomplete_fields(request):
            kwargs.setdefault("widget", PickOne(db_field, self.admin_site))
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name in self.get_autocomplete_fields(request):
            kwargs.setdefault("widget", PickMany(db_field, self.admin_site))
        return super().formfield_for_manytomany(
            db_field, request, **{"form_class": RowsField, **kwargs}
        )


def _readable(view: Callable[..., Any]) -> Callable[..., Any]:
    """Let a view answer 400 to half letters: neither a page nor a database can hold them."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        sent = [request.GET, request.POST] if request.method == "POST" else [request.GET]
        if not all(_is_text([name, *values]) for each in sent for name, values in each.lists()):
            raise BadRequest("parameters: must be text")
        return view(request, *args, **kwargs)

    return checked


def _is_text(texts: Iterable[str]) -> bool:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True
