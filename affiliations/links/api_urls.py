"""The API's addresses; a site includes them where it likes, `/api/links/` say."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path, re_path
from django.views.decorators.csrf import csrf_exempt

from ..problems import problem
from .api import api, docs, openapi
from .refusals import not_found

app_name = "affiliations_links_api"


def in_words_of_problems(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Say what ninja leaves to Django, or says in HTML, as the rest of the API does."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            response = view(request, *args, **kwargs)
        except Http404:
            return not_found(request)
        if response.status_code == 405:
            allowed = response.headers["Allow"]
            response = problem(405, "method-not-allowed", f"Only {allowed} may be used here.")
            response.headers["Allow"] = allowed
        response.headers.setdefault("Cache-Control", "private, no-store")
        return response

    # Each service has its own transaction, and repeats it where others were in its way.
    return transaction.non_atomic_requests(answer)


urlpatterns = [
    path("openapi.json", openapi, name="openapi"),
    path("docs", docs, name="docs"),
    *(
        URLPattern(each.pattern, in_words_of_problems(each.callback), each.default_args, each.name)
        for each in api.urls[0]
        if isinstance(each, URLPattern)
    ),
    re_path("", csrf_exempt(not_found)),
]
