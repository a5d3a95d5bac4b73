"""Say what is wrong so that programs can read it. Source: RFC 9457."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from django.http import JsonResponse

__all__ = ["MEDIA_TYPE", "problem", "title"]

MEDIA_TYPE = "application/problem+json"
#: By RFC 9110; before 3.13 Python has the names that these had earlier.
_RENAMED = {413: "Content Too Large", 422: "Unprocessable Content"}


def title(status: int) -> str:
    """Return what a status is called."""
    return _RENAMED.get(status) or HTTPStatus(status).phrase


def problem(
    status: int,
    code: str,
    detail: str,
    errors: Mapping[str, Sequence[str]] | None = None,
    **more: str,
) -> JsonResponse:
    """Return an error; `code` never changes, and `errors` has what is wrong with each field.

    `more` are members of an API's own, as the RFC allows.
    """
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": title(status),
        "status": status,
        "detail": detail,
        "code": code,
        **more,
    }
    if errors is not None:
        body["errors"] = [
            {"field": field, "message": message}
            for field, messages in errors.items()
            for message in messages
        ]
    response = JsonResponse(body, status=status, content_type=MEDIA_TYPE)
    response.headers["Cache-Control"] = "private, no-store"
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="affiliations"'
    return response
