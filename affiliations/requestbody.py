"""Read what a program sends, as JSON or as a form: exactly, and nothing that no database takes.

    fields = requestbody.read(request)

Numbers are int and Decimal, never float. What a form repeats is a list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from io import BytesIO
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.http import HttpRequest, RawPostDataException, UnreadablePostError
from django.http.multipartparser import MultiPartParser, MultiPartParserError

from .exceptions import AffiliationsError

__all__ = [
    "BodyTooLarge",
    "InvalidFields",
    "UnreadableBody",
    "UnsupportedBody",
    "raw",
    "read",
    "read_query",
]

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

MAX_BODY = 64 * 1024
MAX_FIELDS = 200
MAX_DEPTH = 8
#: More than any amount has, on either side of the point.
MAX_DIGITS = 40
#: How much of a name that is not ours an answer repeats.
MAX_NAME = 100

#: PostgreSQL takes neither NUL nor surrogates. The latter stand for bytes that are no UTF-8, too.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
#: What Django writes in the place of such bytes.
_REPLACED = "\ufffd"


class UnreadableBody(AffiliationsError, ValueError):
    """A body is not what its Content-Type says, or the connection broke off."""

    code = "unreadable-body"
    status: ClassVar[int] = 400


class BodyTooLarge(UnreadableBody):
    """A body has more bytes than are taken, which are MAX_BODY mostly."""

    code = "body-too-large"
    status = 413

    def __init__(self, most: int = MAX_BODY) -> None:
        super().__init__(f"body: must have at most {most} bytes")


class UnsupportedBody(UnreadableBody):
    """A body is neither JSON nor a form, or not in UTF-8."""

    code = "unsupported-media-type"
    status = 415

    def __init__(self) -> None:
        super().__init__(f"Content-Type: must be {JSON}, {FORM} or {MULTIPART}, in UTF-8")


class InvalidFields(UnreadableBody):
    """Fields cannot be as they are; `errors` has the problems of each, by its name."""

    code = "invalid-fields"
    status = 422

    def __init__(self, errors: dict[str, list[str]]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{name}: {' '.join(said)}" for name, said in errors.items()))


def read(request: HttpRequest) -> dict[str, Any]:
    """Return the fields of a request's body, {} where it has none.

    Raises UnreadableBody or one of the errors under it.
    """
    try:
        body = raw(request)
    except RawPostDataException:
        # Somebody has taken the form apart before, Django's CSRF check for one.
        return _fit(_by_name(_pairs(request.POST)))
    if not body:
        return {}
    if (request.content_params or {}).get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        raise UnsupportedBody
    if request.content_type == JSON:
        return _fit(_from_json(body))
    if request.content_type == FORM:
        return read_query(body.decode(errors="surrogateescape"))
    if request.content_type == MULTIPART:
        return _fit(_by_name(_from_multipart(request, body)))
    raise UnsupportedBody


def read_query(query: str) -> dict[str, Any]:
    """Return the fields of a query, or of a form that is written like one; raises as `read`."""
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="surrogateescape"
        )
    except ValueError:
        raise UnreadableBody(f"body: must have at most {MAX_FIELDS} fields") from None
    return _fit(_by_name(pairs))


def raw(request: HttpRequest, most: int = MAX_BODY) -> bytes:
    """Return a request's body; raises UnreadableBody, and BodyTooLarge without reading it.

    `most` is of bytes; whatever Django itself takes for too large is so, too.
    """
    declared = str(request.META.get("CONTENT_LENGTH") or 0)
    if not (declared.isascii() and declared.isdigit()):
        raise UnreadableBody("Content-Length: must be a number")
    if len(declared) > 20 or int(declared) > most:
        raise BodyTooLarge(most)
    try:
        body = request.body
    except RequestDataTooBig:
        raise BodyTooLarge(most) from None
    except UnreadablePostError:
        raise UnreadableBody("body: ends early") from None
    if len(body) > most:
        raise BodyTooLarge(most)
    return body


def _from_json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(
            body.decode(errors="surrogateescape"),
            parse_int=_integer,
            parse_float=_decimal,
            object_pairs_hook=_object,
        )
    except InvalidFields:
        raise
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise UnreadableBody(f"body: is not JSON at {where}") from None
    except RecursionError:
        raise UnreadableBody("body: is nested too deep") from None
    if not isinstance(found, dict):
        raise UnreadableBody("body: must be a JSON object")
    if len(found) > MAX_FIELDS:
        raise UnreadableBody(f"body: must have at most {MAX_FIELDS} fields")
    return found


def _integer(text: str) -> int | Decimal:
    # Python itself refuses to read more than 4,300 digits, without saying of which field.
    return int(text) if len(text) <= MAX_DIGITS else Decimal(text)


def _decimal(text: str) -> Decimal | float:
    try:
        return Decimal(text)
    except InvalidOperation:
        return float("inf")  # its exponent has more digits than a number's


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        # Others who read the same may take the first, or the last.
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidFields({twice[:MAX_NAME]: ["Must be given once."]})
    return found


def _from_multipart(request: HttpRequest, body: bytes) -> Iterable[tuple[str, str]]:
    meta = {"CONTENT_TYPE": request.META["CONTENT_TYPE"], "CONTENT_LENGTH": len(body)}
    try:
        # Nobody handles files: there are none to be sent.
        form, _ = MultiPartParser(meta, BytesIO(body), [], "utf-8").parse()
    except (MultiPartParserError, SuspiciousOperation) as error:
        raise UnreadableBody("body: is not a form of several parts") from error
    return _pairs(form)


def _pairs(form: Any) -> Iterable[tuple[str, str]]:
    return [
        (name, value.replace(_REPLACED, "\udcff"))
        for name, values in form.lists()
        for value in values
    ]


def _by_name(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    found.pop("csrfmiddlewaretoken", None)  # Django's own
    return found


def _fit(fields: dict[str, Any]) -> dict[str, Any]:
    errors = {
        name[:MAX_NAME]: [said]
        for name, value in fields.items()
        if (said := _unfit(name) or _unfit(value))
    }
    if errors:
        raise InvalidFields(errors)
    return fields


def _unfit(value: Any, depth: int = 1) -> str:
    """Return what is wrong with a value, or with one within it."""
    if isinstance(value, str):
        return "Must be UTF-8 text without NUL." if _UNSTORABLE.search(value) else ""
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, int):
        return "" if abs(value) < 2**63 else "Is too large a number."
    if isinstance(value, Decimal):
        digits = len(value.as_tuple().digits)
        fits = digits <= MAX_DIGITS and abs(value.adjusted()) <= MAX_DIGITS
        return "" if fits else "Is too long a number."
    if isinstance(value, float):
        return "Must be a number, as JSON has them."
    if depth >= MAX_DEPTH:
        return "Is nested too deep."
    inner = [*value, *value.values()] if isinstance(value, dict) else value
    return next(filter(None, (_unfit(each, depth + 1) for each in inner)), "")
