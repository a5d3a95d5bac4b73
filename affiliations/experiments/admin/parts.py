"""What the pages of campaigns and of their groups have in common."""

from __future__ import annotations

from django.contrib.auth import get_permission_codename
from django.http import HttpRequest

from ..models import Campaign

__all__ = ["may"]


def may(request: HttpRequest, what: str) -> bool:
    """Tell whether somebody may "view", "add", "change" or "delete" campaigns."""
    opts = Campaign._meta
    codename = get_permission_codename(what, opts)
    return bool(request.user.has_perm(f"{opts.app_label}.{codename}"))
