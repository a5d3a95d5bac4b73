"""The forms of links: one that a landing page is pasted into, and one for a whole file."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy

from ... import callbackurl, egress
from ...admin.fields import MomentField, minor_of
from ...admin.uploads import UploadForm
from ...exceptions import InvalidMoney, RefusedDestination
from ...money import DECIMAL_PLACES
from .. import importing, relay, services
from ..exceptions import UnreadableFile
from ..models import Link, default_currency, new_path

#: Of a file that a page imports; a larger one is for the command.
MAX_BYTES = 1_000_000
MAX_LINES = 5_000
#: For columns that were not there, and paths that were made up, when it is confirmed.
MORE_BYTES = 60 * MAX_LINES

WIDE = {"class": "vLargeTextField", "spellcheck": "false", "autocapitalize": "none"}
AN_ADDRESS = {**WIDE, "inputmode": "url"}


class LinkForm(forms.ModelForm):  # type: ignore[type-arg]
    """A link, with its floor price as people write one."""

    floor_price = forms.DecimalField(
        label=gettext_lazy("Floor price"),
        required=False,
        min_value=0,
        help_text=gettext_lazy("A purchase has to exceed it to be paid out, as 12.50."),
    )
    currency = forms.ChoiceField(
        label=gettext_lazy("Currency"),
        choices=[(code, code) for code in sorted(DECIMAL_PLACES)],
        initial=default_currency,
    )
    valid_from = MomentField(label=gettext_lazy("Valid from"), required=False)
    valid_until = MomentField(label=gettext_lazy("Valid until"), required=False)

    class Meta:
        model = Link
        fields = (
            "landing_page",
            "item_id",
            "partner",
            "callback_url",
            "floor_price",
            "currency",
            "active",
            "path",
            "valid_from",
            "valid_until",
            "adds",
            "passes",
            "expects",
            "weight",
        )
        widgets = {
            "landing_page": forms.TextInput(
                {**AN_ADDRESS, "placeholder": "https://www.example.com/courses/drawing"}
            ),
            "callback_url": forms.TextInput(
                {
                    **AN_ADDRESS,
                    "placeholder": "https://example.go2cloud.org/aff_lsr"
                    "?transaction_id={transaction_id}&amount={amount}",
                }
            ),
            "item_id": forms.TextInput({"class": "vTextField", "spellcheck": "false"}),
            "path": forms.TextInput({"class": "vTextField", "spellcheck": "false"}),
            "adds": forms.TextInput(WIDE),
            "passes": forms.TextInput({"class": "vTextField", "spellcheck": "false"}),
            "expects": forms.TextInput({"class": "vTextField", "spellcheck": "false"}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        path = self.fields.get("path")
        if path is None:
            return  # for somebody who may only look
        if self.instance.pk is None:
            path.required, path.initial = False, None
        else:
            # It is published. Not left out: what the model says of it needs a place to stand.
            path.disabled = True
            self.initial.setdefault("floor_price", _major(self.instance))

    def clean_path(self) -> str:
        """Make a path up where none was chosen; raises ValidationError where it is taken."""
        path = str(self.cleaned_data["path"])
        if self.instance.pk is None:
            if services.taken_paths([path]):
                raise ValidationError(services.PATH_TAKEN, code="unique")
            return path or new_path()
        return path

    def clean(self) -> None:
        """Turn the price into what is stored."""
        super().clean()
        floor, currency = (self.cleaned_data.get(name) for name in ("floor_price", "currency"))
        if currency and "floor_price" not in self.errors:
            try:
                self.instance.floor_minor = minor_of(floor or 0, currency)
            except ValidationError as error:
                self.add_error("floor_price", error)

    def add_error(self, field: Any, error: Any) -> None:
        """Add what the model objects to, but for what a field has said of itself."""
        if field is None and hasattr(error, "error_dict"):
            errors = {n: each for n, each in error.error_dict.items() if n not in self.errors}
            error = ValidationError(errors)
        super().add_error(field, error)

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if "callback_url" in self.changed_data and not self.errors:
            self._look_where_it_leads()

    def _look_where_it_leads(self) -> None:
        """Refuse a name that stands for an inner address, while somebody is there to mend it."""
        if not self.instance.callback_url:
            return
        try:
            called = callbackurl.render(self.instance.callback_url, {}, relay.PLACEHOLDERS)
            egress.check(called, resolve=True)
        except RefusedDestination as error:
            self.add_error("callback_url", str(error))


def _major(link: Link) -> Any:
    try:
        return link.floor.amount
    except InvalidMoney:
        return None


class ImportForm(UploadForm):
    """A file of links, or what stands in one."""

    max_bytes = MAX_BYTES
    more_bytes = MORE_BYTES
    too_large = gettext_lazy("It is larger than 1 MB. Use manage.py import_links.")
    placeholder = "item_id,landing_page,callback_url"
    unreadable = UnreadableFile

    def read(self, data: bytes | str) -> list[importing.Line]:
        """Return the lines."""
        return importing.read(data, most=MAX_LINES)
