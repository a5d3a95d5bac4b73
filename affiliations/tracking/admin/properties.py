"""Properties: which sites are tracked, and what they tell of."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...admin.acting import ActingAdmin
from ...admin.lists import RecordInline, marked
from ...admin.pages import Secret, reveal
from ..models import EventType, Hit, Identity, Property
from ..models.properties import are_origins


class OriginsField(forms.CharField):
    """Origins, one a line."""

    widget = forms.Textarea(attrs={"rows": 3, "class": "vLargeTextField", "spellcheck": "false"})

    def prepare_value(self, value: Any) -> Any:
        """Show a list as lines; what was typed is shown again as it was."""
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[str]:
        """Return each once, without what browsers leave out; raises ValidationError."""
        lines = super().clean(value).split()
        found = list(dict.fromkeys(each.rstrip("/").lower() for each in lines))
        are_origins(found)
        return found


class PropertyForm(forms.ModelForm):  # type: ignore[type-arg]
    """A property, for people."""

    origins = OriginsField(
        label=gettext_lazy("Other sites"),
        required=False,
        help_text=gettext_lazy(
            "As https://blog.example, one a line: sites whose pages may write here, besides those "
            "of this site itself."
        ),
    )

    class Meta:
        model = Property
        fields = ("name", "active", "origins", "keep_days")
        help_texts = {
            "active": gettext_lazy(
                "Without the tick nobody can write to it, or read it by its API."
            ),
            "keep_days": gettext_lazy("As 400. What is older is deleted. Empty: kept for ever."),
        }


class EventTypeInline(RecordInline):
    model = EventType
    fields = ("key", "name", "public_key")
    readonly_fields = ("public_key",)
    verbose_name_plural = gettext_lazy("What it tells of")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.TabularInline.has_add_permission(self, request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.TabularInline.has_change_permission(self, request, obj)


@admin.register(Property)
class PropertyAdmin(ActingAdmin):
    form = PropertyForm
    list_display = ("name", "public_key", "badge", "keep_days")
    ordering = ("name", "pk")
    search_fields = ("name", "=public_key")
    search_help_text = gettext_lazy("Part of the name, or a whole public key.")
    inlines = (EventTypeInline,)
    actions = ("renew",)

    # Who may do what

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_change_permission(self, request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # One by one, on a page that says what stands against it.
        return obj is not None and admin.ModelAdmin.has_delete_permission(self, request, obj)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        given = ("name", "active", "origins", "keep_days")
        return given if obj is None else ("name", "public_key", *given[1:])

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if obj is None else ("public_key",)

    @admin.display(description=gettext_lazy("state"))
    def badge(self, prop: Property) -> Any:
        return marked("delivered", _("active")) if prop.active else marked("dead", _("disabled"))

    # Its secret

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        # After any of these the secret would be gone before somebody has read it.
        buttons = {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().add_view(request, form_url, {**buttons, **(extra_context or {})})

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            obj.secret = Secret(obj.renew_secret())
        super().save_model(request, obj, form, change)

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        return self._reveal(request, obj, obj.secret)

    def _reveal(self, request: HttpRequest, prop: Property, secret: Secret) -> HttpResponse:
        text = _("Programs read with it who somebody is, and what they did. Pages do not need it.")
        label = _("Secret of %(name)s") % {"name": prop.name}
        notes = [text, _("The public key is %(key)s.") % {"key": prop.public_key}]
        title = _("New secret")
        return reveal(self, request, secret, row=prop, title=title, label=label, notes=notes)

    @admin.action(description=gettext_lazy("New secret"), permissions=["act"])
    def renew(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        rows = self.selected(request, queryset)
        if len(rows) > 1:
            text = _("Please select one at a time: each secret is shown on a page of its own.")
            self.message_user(request, text, messages.ERROR)
            return None
        text = _("The one that programs have now is refused at once.")
        title = _("Make a new secret?")
        page = rows and self.confirmation(request, rows, "renew", title=title, text=text)
        if page or not rows:
            return page or None
        [prop] = rows
        secret = Secret(prop.renew_secret())
        prop.save(update_fields=["digest"])
        self.log_change(request, prop, _("New secret."))
        return self._reveal(request, prop, secret)

    # Its end

    def delete_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> Any:
        """Say what to do instead where there is something: millions of rows may hang on it."""
        prop = self.get_object(request, unquote(object_id))
        if prop is None or not self.has_delete_permission(request, prop) or not _is_used(prop):
            return super().delete_view(request, object_id, *args, **kwargs)
        text = _(
            "People are known in this property, and what they did: it cannot be deleted. Take the "
            "tick at “Active” away, and nobody can write to it any more."
        )
        self.message_user(request, text, messages.ERROR)
        name = "admin:affiliations_tracking_property_change"
        url = reverse(name, args=[object_id], current_app=self.admin_site.name)
        return HttpResponseRedirect(url)


def _is_used(prop: Property) -> bool:
    used = Identity.objects.filter(property=prop).exists()
    return used or Hit.objects.filter(property=prop).exists()
