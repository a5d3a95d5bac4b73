"""Answer with an OpenAPI document that is written by hand, for an API whose shapes are others'."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, cast

from django.http import HttpRequest, HttpResponse, JsonResponse

__all__ = ["answered"]


def answered(request: HttpRequest, *, beside: str) -> HttpResponse:
    """Return the `openapi.json` beside a module, its addresses as they are where it is mounted.

    `beside` is the module's `__file__`; the request's address has to end in `/openapi.json`.
    """
    here = request.path.removesuffix("/openapi.json")
    document = _document(beside)
    paths = {f"{here}{path}": operations for path, operations in document["paths"].items()}
    return JsonResponse({**document, "paths": paths})


@cache
def _document(beside: str) -> dict[str, Any]:
    text = Path(beside).with_name("openapi.json").read_text(encoding="utf-8")
    return cast(dict[str, Any], json.loads(text))
