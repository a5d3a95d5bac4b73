"""Pages of the admin's own look: one that asks, and one that shows a secret once."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.cache import add_never_cache_headers


class Secret(str):
    """Text that its `repr` does not tell, as error reports print that of every variable."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<a secret>"


def page(model_admin: Any, request: HttpRequest, name: str, **context: Any) -> TemplateResponse:
    """Answer with the template of that name, within the admin site that `model_admin` is of."""
    site = model_admin.admin_site
    request.current_app = site.name
    shared = {"opts": model_admin.opts, "media": model_admin.media}
    # As Django looks for its own: an app's first, then those that are for all.
    templates = [f"admin/{label}/{name}" for label in (model_admin.opts.app_label, "affiliations")]
    return TemplateResponse(request, templates, {**site.each_context(request), **shared, **context})


def reveal(
    model_admin: Any, request: HttpRequest, secret: Secret, **context: Any
) -> TemplateResponse:
    """Answer with the page that shows `secret`, which no cache, session, message or log gets.

    `context` is its `title`, the `row` that the secret belongs to, a `label` for it, and `notes`.
    """
    response = page(model_admin, request, "secret.html", secret=secret, **context)
    add_never_cache_headers(response)
    return response
