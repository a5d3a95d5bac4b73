"""What the REST APIs are made of; each app's own is a thin caller of its services.

It needs django-ninja, and is imported by the APIs only.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from decimal import Decimal
from functools import wraps
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path, re_path
from django.views.decorators.csrf import csrf_exempt

try:
    from ninja import Header, NinjaAPI, Query
    from ninja.openapi.docs import Swagger
    from ninja.params.models import Body, BodyModel
    from ninja.renderers import JSONRenderer
    from ninja.responses import NinjaJSONEncoder, Status
    from ninja.security.http import HttpAuthBase
except ImportError as error:
    raise ImproperlyConfigured(
        "The REST API needs django-ninja: pip install 'django-affiliations[api]'"
    ) from error

from . import access, requestbody
from .access import Caller, Right
from .problems import MEDIA_TYPE, title
from .requestbody import InvalidFields
from .restrefusals import Refusals

__all__ = ["BODY", "Bearer", "ExactRenderer", "Header", "Query", "RestAPI", "Sent", "Status"]

#: What may be wrong with a body, besides its fields.
BODY = (413, 415)


class Bearer(HttpAuthBase):
    """An API key, or in a browser the login of staff: see access.py."""

    openapi_scheme = "bearer"

    def __init__(self, right: Right) -> None:
        self.right = right
        super().__init__()

    def __call__(self, request: HttpRequest) -> Caller:
        """Return who calls; raises Refused."""
        return access.caller(request, self.right)


class _SentModel(BodyModel):
    """What requestbody.py reads; a DELETE may have it in its query too."""

    @classmethod
    def get_request_data(cls, request: Any, api: Any, path_params: Any) -> dict[str, Any]:  # noqa: ARG003
        sent = requestbody.read(request)
        if request.method == "DELETE":
            query = requestbody.read_query(request.META.get("QUERY_STRING", ""))
            if twice := sent.keys() & query.keys():
                raise InvalidFields({name: ["Must be given once."] for name in twice})
            sent |= query
        request.affiliate_sent = sent
        return {cls.__read_from_single_attr__: sent}


class Sent(Body):  # type: ignore[misc] # ninja's own are untyped there
    """Marks the parameter of an operation that is read from JSON or a form."""

    _model = _SentModel

    @classmethod
    def _param_source(cls) -> str:
        return "body"


class ExactRenderer(JSONRenderer):
    """Writes a Decimal as a number, with the digits that it has.

    The `json` of Python can do so by way of floats only, and these have 15 digits.
    """

    def render(self, request: HttpRequest, data: Any, *, response_status: int) -> str:
        """Return JSON."""
        # Nobody can have put it into a text that is answered.
        mark = secrets.token_hex(16)

        class Encoder(NinjaJSONEncoder):
            def default(self, o: Any) -> Any:
                if isinstance(o, Decimal):
                    return f"{mark}{o:f}"
                return super().default(o)

        text = json.dumps(data, cls=Encoder)
        return re.sub(rf'"{mark}(-?[0-9]+)(?:(\.[0-9]*[1-9])0*|\.0*)?"', r"\1\2", text)


class _Docs(Swagger):
    """Finds the document beside itself, wherever a site has mounted the API."""

    def get_openapi_url(self, api: NinjaAPI, path_params: dict[str, Any]) -> str:
        return "openapi.json"


class RestAPI(NinjaAPI):
    """An API that documents forms beside JSON, and problems as what they are."""

    def __init__(self, refusals: Refusals, **options: Any) -> None:
        self.refusals = refusals
        # The document's views are in `patterns`, and do not need to know where they are.
        super().__init__(openapi_url=None, docs=_Docs(), **options)
        for kind, refuse in refusals.handlers.items():
            self.add_exception_handler(kind, refuse)

    def get_openapi_schema(self, **kwargs: Any) -> Any:
        """Return the OpenAPI document."""
        schema = super().get_openapi_schema(**kwargs)
        for operations in schema["paths"].values():
            for operation in operations.values():
                if "requestBody" in operation:
                    content = operation["requestBody"]["content"]
                    content[requestbody.FORM] = content[requestbody.MULTIPART] = content[
                        requestbody.JSON
                    ]
                for status, answer in operation["responses"].items():
                    answer["description"] = title(status)
                    if status >= 400:
                        answer["content"] = {MEDIA_TYPE: answer["content"][requestbody.JSON]}
        return schema

    def routes(self) -> list[URLPattern]:
        """Return where the operations are, each place once, without a page of ninja's own."""
        patterns = (each for each in self.urls[0] if isinstance(each, URLPattern))
        ours = {str(each.pattern): each for each in patterns if each.name != "api-root"}
        return [*ours.values()]

    def patterns(self, *, slashes: bool = False) -> list[URLPattern]:
        """Return the API's addresses; with `slashes`, each without the one at its end as well."""
        found = [
            URLPattern(each.pattern, self._answering(each.callback), each.default_args, each.name)
            for each in self.routes()
        ]
        if slashes:
            found += [
                path(route.removesuffix("/"), each.callback)
                for each in found
                if (route := str(each.pattern)).endswith("/")
            ]
        return [
            path("openapi.json", self._openapi, name="openapi"),
            path("docs", self._docs, name="docs"),
            *found,
            re_path("", csrf_exempt(self.refusals.not_found)),
        ]

    def _answering(self, view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        """Say what ninja leaves to Django, or says in HTML, as the rest of the API does."""

        @wraps(view)
        def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            try:
                response = view(request, *args, **kwargs)
            except Http404:
                return self.refusals.not_found(request)
            if response.status_code == 405:
                response = self.refusals.not_allowed(response.headers["Allow"])
            response.headers.setdefault("Cache-Control", "private, no-store")
            return response

        # Each service has its own transaction, and repeats it where others were in its way.
        return transaction.non_atomic_requests(answer)

    def _openapi(self, request: HttpRequest) -> HttpResponse:
        """Answer with the OpenAPI document."""
        here = request.path.removesuffix("openapi.json")
        return JsonResponse(self.get_openapi_schema(path_prefix=here))

    def _docs(self, request: HttpRequest) -> HttpResponse:
        """Show the document to people."""
        return self.docs.render_page(request, self)
