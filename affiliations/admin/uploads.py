"""A form for a file, or for what stands in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy


class UploadForm(forms.Form):
    """A file of CSV, or its text; `cleaned_data["lines"]` is what `read` makes of either."""

    #: What may be uploaded, and by how much more it may have grown when it is confirmed.
    max_bytes: ClassVar[int]
    more_bytes: ClassVar[int] = 0
    too_large: ClassVar[Any]
    placeholder: ClassVar[str] = ""
    #: What `read` raises for a file that it cannot read, in words for whoever has chosen it.
    unreadable: ClassVar[type[Exception]]

    file = forms.FileField(
        label=gettext_lazy("CSV file"),
        required=False,
        widget=forms.FileInput(attrs={"accept": ".csv,text/csv"}),
    )
    text = forms.CharField(
        label=gettext_lazy("Or paste it"),
        required=False,
        strip=False,
        widget=forms.Textarea(
            {"class": "vLargeTextField aff-code", "rows": 8, "spellcheck": "false"}
        ),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["text"].widget.attrs["placeholder"] = self.placeholder

    def read(self, data: bytes | str) -> Sequence[Any]:
        """Return the lines of a file, or of what was pasted."""
        raise NotImplementedError

    def clean(self) -> None:
        """Read the lines; raises ValidationError where nothing can be read."""
        data: Any = self.cleaned_data
        file, text = data.get("file"), data.get("text") or ""
        if self.errors:
            return
        name = "file" if file else "text"
        if not file and not text.strip():
            self.add_error(None, _("Choose a file, or paste what stands in it."))
            return
        # Browsers send two bytes for each line break of what was pasted.
        text = text.replace("\r\n", "\n")
        most = self.max_bytes + (self.more_bytes if "confirmed" in self.data else 0)
        if (file.size if file else len(text.encode(errors="replace"))) > most:
            self.add_error(name, self.too_large)
            return
        try:
            data["lines"] = self.read(file.read() if file else text)
        except self.unreadable as error:
            self.add_error(name, str(error))
