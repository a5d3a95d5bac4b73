"""The REST API: thin callers of services.py, mounted by api_urls.py. It needs django-ninja."""

from __future__ import annotations

from typing import Annotated, Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse

from .. import ident, requestbody
from ..models import Partner
from ..requestbody import InvalidFields
from ..rest import BODY, Bearer, Header, Query, RestAPI, Sent, Status
from . import access, deeplinks, services
from .models import Link
from .refusals import LinksRefusals
from .schemas import (
    NAMES,
    Acquired,
    Acquisition,
    Completed,
    Completion,
    Deletion,
    Described,
    Fulfilled,
    Generated,
    Generation,
    ItemOfUser,
    Listed,
    Listing,
    Problem,
    Refund,
    Refunded,
    Valid,
)

__all__ = ["api"]

MAX_LIMIT = 1000
MAX_KEY = 255
DESCRIPTION = """
Short links that carry a click to its landing page, and pay it out once when it has sold.

Programs send an API key, `Authorization: Bearer aff_…`; each operation names the scope that the key
needs. A key that is bound to a partner sees this partner's links and transactions only. Bodies are
JSON or forms, and amounts are exact in both: numbers, or the same as text. Every error is a problem
of RFC 9457 with a `code` that never changes.
"""


api = RestAPI(
    LinksRefusals(),
    title="Affiliate links",
    version="1",
    description=DESCRIPTION.strip(),
    urls_namespace="affiliations_links_api",
)


def refusals(*statuses: int) -> dict[int, Any]:
    """Return what every operation may answer with, and these."""
    return dict.fromkeys(sorted({400, 401, 403, 422, *statuses}), Problem)


@api.get(
    "/list", auth=Bearer(access.READ), response={200: Listing, **refusals()}, operation_id="list"
)
def list_links(
    request: Any,
    limit: Annotated[int, Query(100, ge=1, le=MAX_LIMIT)],
    after: Annotated[int, Query(0, ge=0, lt=2**63)],
) -> Listing:
    """List all active paths, with what belongs to them. Scope: links:read.

    For the next page ask for what is `after` the last one's `next`.
    """
    rows = Link.objects.kept().for_partner(request.auth.partner_id).filter(active=True)
    found = list(rows.filter(pk__gt=after).order_by("pk")[: limit + 1])
    links = found[:limit]
    return Listing(
        links=[
            Listed(
                **services.described(link),
                UniquePath=link.path,
                CallbackURL=link.callback_url,
                currency=link.currency,
            )
            for link in links
        ],
        next=links[-1].pk if len(found) > limit else None,
    )


@api.post(
    "/generate",
    auth=Bearer(access.GENERATE),
    response={201: Generated, **refusals(*BODY)},
    operation_id="generate",
    openapi_extra={
        "responses": {
            201: {
                "links": {
                    name: {
                        "operationId": name,
                        "parameters": {"path": "$response.body#/UniquePath"},
                    }
                    for name in ("describe", "delete-path")
                }
            }
        }
    },
)
def generate(request: Any, sent: Annotated[Generation, Sent(...)]) -> Status[Generated]:
    """Make a link. Scope: links:write.

    A key of a partner's makes a link of this partner, to a host of the site's own only, or one of
    AFFILIATE_LINKS_LANDING_HOSTS.
    """
    told = sent.model_dump(exclude={"floor_price", "landing_pages", "partner"})
    partner_id = request.auth.partner_id
    link = services.generate_link(
        **told,
        floor=sent.floor_price,
        pages=[(each.url, each.weight) for each in sent.landing_pages],
        partner=_partner(sent.partner, partner_id),
        anywhere=partner_id is None,
    )
    return Status(
        201,
        Generated(
            **services.described(link),
            UniquePath=link.path,
            currency=link.currency,
            url=_address(request, "follow", link.path),
            deep_link=_address(
                request, "follow-deep", link.path, deeplinks.token(link.path, sent.deep_path)
            )
            if sent.deep_path
            else None,
        ),
    )


def _partner(uid: str, own: int | None) -> Partner | None:
    """Return whose link it is to be; raises InvalidFields where it cannot be theirs."""
    theirs = Partner.objects.filter(pk=own).first() if own is not None else None
    if not uid:
        return theirs
    found = theirs or Partner.objects.filter(uid=uid).first()
    # Compared here as well: MariaDB takes "abcd" for "ABCD".
    if found is None or found.uid != uid:
        raise InvalidFields({"partner": ["There is no such partner."]})
    return found


def _address(request: HttpRequest, name: str, *args: str) -> str | None:
    try:
        return request.build_absolute_uri(reverse(f"affiliations_links:{name}", args=args))
    except NoReverseMatch:
        return None  # the router is on another site


@api.delete(
    "/delete/{path}",
    auth=Bearer(access.DELETE),
    response={204: None, **refusals(404)},
    operation_id="delete-path",
)
def delete_path(request: Any, path: str) -> Status[None]:
    """Delete a link; its path is never given out again. Scope: links:write."""
    services.delete_link(path, partner=request.auth.partner_id)
    return Status(204, None)


@api.delete(
    "/delete",
    auth=Bearer(access.DELETE),
    response={204: None, **refusals(404, *BODY)},
    operation_id="delete",
    openapi_extra={
        "parameters": [
            {"in": "query", "name": name, "schema": {"type": "string"}, "required": False}
            for name in NAMES["path"][:1]
        ],
        "requestBody": {"required": False},
    },
)
def delete(request: Any, sent: Annotated[Deletion, Sent(...)]) -> Status[None]:
    """Delete a link that the query or the body names. Scope: links:write."""
    return delete_path(request, sent.path)


@api.post(
    "/acquire",
    auth=Bearer(access.TRANSACT),
    response={200: Acquired, **refusals(*BODY)},
    operation_id="acquire",
)
def acquire(request: Any, sent: Annotated[Acquisition, Sent(...)]) -> Acquired:
    """Give a browser's open transactions to the user that it turned out to be.

    Those whose item the user has bought by now are fulfilled. Scope: links:transact.
    """
    acquired, fulfilled = services.acquire(
        ident=ident.of_cookie(sent.ident) or sent.ident,
        user=_user(sent.user_id),
        partner=request.auth.partner_id,
    )
    return Acquired(acquired=acquired, fulfilled=fulfilled)


@api.post(
    "/validate-item-id",
    auth=Bearer(access.TRANSACT),
    response={200: Valid, **refusals(*BODY)},
    operation_id="validate-item-id",
    openapi_extra={
        "responses": {200: {"content": {"text/plain": {"schema": {"type": "boolean"}}}}}
    },
)
def validate_item_id(request: Any, sent: Annotated[ItemOfUser, Sent(...)]) -> Valid | HttpResponse:
    """Tell whether the user has an open transaction for the item. Scope: links:transact.

    Whoever accepts text/plain, and not JSON, is told true or false and no more.
    """
    valid = services.has_open(
        item_id=sent.item_id, user=_user(sent.user_id), partner=request.auth.partner_id
    )
    if request.get_preferred_type([requestbody.JSON, "text/plain"]) == "text/plain":
        return HttpResponse("true" if valid else "false", content_type="text/plain")
    return Valid(valid=valid)


@api.post(
    "/fulfill",
    auth=Bearer(access.TRANSACT),
    response={200: Fulfilled, **refusals(*BODY)},
    operation_id="fulfill",
)
def fulfill(request: Any, sent: Annotated[ItemOfUser, Sent(...)]) -> Fulfilled:
    """End what the user has open for the item, without a payout. Scope: links:transact."""
    number = services.fulfill(
        item_id=sent.item_id, user=_user(sent.user_id), partner=request.auth.partner_id
    )
    return Fulfilled(fulfilled=number)


@api.post(
    "/complete",
    auth=Bearer(access.TRANSACT),
    response={200: Completed, **refusals(404, 409, *BODY)},
    operation_id="complete",
)
def complete(
    request: Any,
    sent: Annotated[Completion, Sent(...)],
    key: Annotated[str, Header("", alias="Idempotency-Key", max_length=MAX_KEY)],
) -> Completed:
    """Pay a purchase out, once, and tell the network. Scope: links:transact.

    The same order_id again, or the same Idempotency-Key, answers as the first time.
    """
    done = services.complete(
        item_id=sent.item_id,
        user=_user(sent.user_id),
        amount=sent.amount,
        currency=sent.currency,
        order_id=sent.order_id,
        # No header holds a line feed: no other caller's key can be spelt like this one.
        request_key=f"{request.auth.name}\n{key}" if key else "",
        given=sent.given,
        partner=request.auth.partner_id,
    )
    return Completed(completed=True, transaction=done.pk)


@api.post(
    "/refund",
    auth=Bearer(access.TRANSACT),
    response={200: Refunded, **refusals(404, *BODY)},
    operation_id="refund",
)
def refund(request: Any, sent: Annotated[Refund, Sent(...)]) -> Refunded:
    """Hold the payout of a purchase back. Scope: links:transact.

    Of several purchases it is the one of order_id, or else the latest.
    """
    sold = services.refund(
        item_id=sent.item_id,
        user=_user(sent.user_id),
        order_id=sent.order_id,
        partner=request.auth.partner_id,
    )
    return Refunded(refunded=True, transaction=sold.pk)


@api.get(
    "/{path}",
    auth=Bearer(access.READ),
    # 405: at the path of another operation.
    response={200: Described, **refusals(404, 405)},
    operation_id="describe",
)
def describe(request: Any, path: str) -> Described:
    """Look a link up. Scope: links:read."""
    link = services.find_link(path, partner=request.auth.partner_id)
    return Described(**services.described(link))


def _user(user_id: str) -> Any:
    """Return the user of an id as programs have it; raises InvalidFields."""
    users = get_user_model()._default_manager
    try:
        # The field's own rules, so that no database is asked for what it could not hold.
        pk = users.model._meta.pk.clean(user_id, None)
    except ValidationError:
        found = None
    else:
        # A number has one spelling: "0_1" or another alphabet's digits are somebody's mistake.
        one = not isinstance(pk, int) or str(pk) == user_id
        found = users.filter(pk=pk).first() if one else None
    if found is None:
        raise InvalidFields({"user_id": ["There is no such user."]})
    return found
