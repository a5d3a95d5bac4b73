"""API keys: issue one, see what it is used for, revoke it."""

from __future__ import annotations

import re
from itertools import chain
from typing import Any

from django import forms
from django.apps import apps
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ..models import ApiKey
from .acting import ActingAdmin
from .lists import NOTHING
from .pages import Secret, reveal

SCOPE = re.compile(r"[A-Za-z0-9_.:-]{1,50}")
MAX_SCOPES = 50


class ScopesField(forms.CharField):
    """Words, parted by commas or blanks."""

    def clean(self, value: Any) -> list[str]:
        """Return each word once; raises ValidationError, naming the one that is no scope."""
        words = list(dict.fromkeys(re.split(r"[\s,]+", super().clean(value).strip(" ,"))))
        for word in filter(None, words):
            if not SCOPE.fullmatch(word):
                text = _("“%(word)s” is not a scope: letters, digits and . : _ - only.")
                raise ValidationError(text % {"word": word[:60]}, code="invalid")
        if len(words) > MAX_SCOPES:
            raise ValidationError(_("These are too many."), code="max")
        return [word for word in words if word]


def known_scopes() -> list[tuple[str, Any]]:
    """Return the scopes that the installed apps ask for: an app names its own by `api_scopes`."""
    of_apps = (getattr(each, "api_scopes", {}).items() for each in apps.get_app_configs())
    return list(chain.from_iterable(of_apps))


class ApiKeyForm(forms.ModelForm):  # type: ignore[type-arg]
    """What is said of a key before it is made."""

    scopes = ScopesField(
        label=gettext_lazy("Scopes"),
        required=False,
        max_length=2000,
        widget=forms.TextInput(attrs={"class": "vTextField", "spellcheck": "false"}),
        help_text=gettext_lazy("What the key may do, one word each, parted by commas or blanks."),
    )

    class Meta:
        model = ApiKey
        fields = ("name", "partner", "scopes")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if known := known_scopes():
            given = self.fields["scopes"]
            given.help_text = format_html(
                '{} {}<ul class="aff-scopes">{}</ul>{}',
                given.help_text,
                _("There are:"),
                format_html_join("", "<li><code>{}</code>: {}</li>", known),
                _("Any other word is of use only if your site’s own code asks for it."),
            )


@admin.register(ApiKey)
class ApiKeyAdmin(ActingAdmin):
    form = ApiKeyForm
    autocomplete_fields = ("partner",)
    list_display = ("name", "begins_with", "partner", "scopes_", "last_used_on", "revoked_on")
    list_select_related = ("partner",)
    search_fields = ("name", "=prefix")
    ordering = ("-pk",)
    actions = ("revoke",)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ("name", "partner", "scopes")
        dates = ("created_on", "last_used_on", "revoked_on")
        return ("name", "begins_with", "partner", "scopes_", *dates)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if obj is None else self.get_fields(request, obj)

    @admin.display(description=gettext_lazy("begins with"))
    def begins_with(self, key: ApiKey) -> str:
        return f"aff_{key.prefix}…"

    @admin.display(description=gettext_lazy("scopes"))
    def scopes_(self, key: ApiKey) -> str:
        return ", ".join(map(str, key.scopes)) or NOTHING

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        # After any of these the token would be gone before somebody has read it.
        buttons = {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().add_view(request, form_url, {**buttons, **(extra_context or {})})

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        key, obj.token = ApiKey.objects.issue(name=obj.name, scopes=obj.scopes, partner=obj.partner)
        obj.token = Secret(obj.token)
        obj.pk, obj.prefix = key.pk, key.prefix

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        return reveal(
            self,
            request,
            obj.token,
            row=obj,
            title=_("New API key"),
            label=_("Key for %(name)s") % {"name": obj.name},
            notes=[
                _("Programs send it with each call. Whoever has it may do what its scopes name.")
            ],
        )

    def offers(self, action: str, row: ApiKey) -> bool:
        return row.revoked_on is None

    @admin.action(description=gettext_lazy("Revoke"), permissions=["act"])
    def revoke(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        rows = self.selected(request, queryset)
        text = _("Whatever uses them is refused at once, and for good. There is no way back.")
        title = _("Revoke these API keys?")
        page = rows and self.confirmation(request, rows, "revoke", title=title, text=text)
        if page or not rows:
            return page or None
        revoked = [row for row in rows if row.revoke()]
        for row in revoked:
            self.log_change(request, row, _("Revoked."))
        done = ngettext("%(n)s key was revoked.", "%(n)s keys were revoked.", len(revoked))
        self.message_user(request, done % {"n": len(revoked)}, messages.SUCCESS)
        return None
