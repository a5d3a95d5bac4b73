"""Let apps above the core add to its pages what they know of a row, without it knowing of them.

An app's admin appends a function to one of the lists below, which gets the request, the admin site
and the row, and returns a section; or None, where it has nothing to say, or not to this person.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from django.contrib.admin import AdminSite
from django.http import HttpRequest


class Section(NamedTuple):
    """A part of a page: its heading, and markup."""

    title: Any
    content: Any


Maker = Callable[[HttpRequest, AdminSite, Any], Section | None]

CONVERSION: list[Maker] = []
PARTNER: list[Maker] = []


def made(makers: Iterable[Maker], request: HttpRequest, site: AdminSite, row: Any) -> list[Section]:
    """Return what there is to say of a row; nothing of one that is only being added."""
    if row is None:
        return []
    return [section for make in makers if (section := make(request, site, row)) is not None]
