"""The REST API: thin callers of services, mounted by api_urls.py. It needs django-ninja."""

from __future__ import annotations

from typing import Annotated, Any

from django.db import Error, IntegrityError, connections, router
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from ..money import Money, major
from ..requestbody import InvalidFields
from ..rest import BODY, Bearer, ExactRenderer, Query, RestAPI, Sent, Status
from . import access, indications, invoices, programs, services, statements
from .exceptions import NoProgram, UnknownMember
from .models import Member, Operation, Program
from .refusals import ReferralsRefusals
from .schemas import (
    Acquired,
    Change,
    Creation,
    Endpoint,
    Entry,
    Health,
    Index,
    Indicated,
    Indication,
    Indicator,
    Problem,
    RefusedEmail,
    Registered,
    Registration,
    Report,
    Statement,
    Verification,
    Verified,
)
from .schemas import Program as Described

__all__ = ["api"]

MAX_LIMIT = 1000
NAMESPACE = "affiliations_referrals_api"
DESCRIPTION = """
Users bring users, and both are credited. Paths, parameters and answers are those of GetupCloud's
referral server; each address works with the slash at its end and without it.

Programs send an API key, `Authorization: Bearer aff_…`; each operation names the scope that the key
needs. Bodies are JSON or forms. Amounts are in major units, and exact: numbers, or the same as
text; answers always have numbers. Every error is a problem of RFC 9457 with a `code` that never
changes, and has its `detail` as `error` too.
"""

api = RestAPI(
    ReferralsRefusals(),
    title="Affiliate referrals",
    version="1",
    description=DESCRIPTION.strip(),
    renderer=ExactRenderer(),
    urls_namespace=NAMESPACE,
)


def refusals(*statuses: int) -> dict[int, Any]:
    """Return what every operation with a key may answer, and these."""
    return dict.fromkeys(sorted({400, 401, 403, *statuses}), Problem)


@api.get("/", response=Index, operation_id="index", url_name="index")
def index(request: HttpRequest) -> Index:
    """List the endpoints."""
    root = _address(request, "index")
    paths = api.get_openapi_schema(path_prefix="")["paths"]
    endpoints = []
    for each in api.routes():
        route = str(each.pattern)
        methods = paths["/" + route.replace("<", "{").replace(">", "}")]
        endpoints.append(
            Endpoint(
                name=str(each.name),
                methods=sorted(method.upper() for method in methods),
                url=f"{root}{route}",
            )
        )
    return Index(version=api.version, endpoints=endpoints)


@api.get("/health/", response={200: Health, 503: Problem}, operation_id="health", url_name="health")
def health(request: HttpRequest) -> Health | HttpResponse:
    """Tell whether the database answers."""
    try:
        with connections[router.db_for_write(Member)].cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        return api.refusals.problem(503, "database-unavailable", "The database does not answer.")
    return Health(status="ok")


@api.get(
    "/program/",
    auth=Bearer(access.READ),
    response={200: list[Described], **refusals()},
    operation_id="list-programs",
    url_name="programs",
)
def list_programs(request: HttpRequest) -> list[Described]:
    """List all programs. Scope: referrals:read."""
    return [_described(request, each) for each in Program.objects.order_by("pk")]


LINKS = {
    201: {
        "links": {
            name: {"operationId": name, "parameters": {"id": "$response.body#/id"}}
            for name in ("read-program", "change-program", "delete-program")
        }
    }
}


@api.post(
    "/program/",
    auth=Bearer(access.CREATE),
    response={201: Described, **refusals(*BODY)},
    operation_id="create-program",
    openapi_extra={"responses": LINKS},
    url_name="programs",
)
def create_program(request: Any, sent: Annotated[Creation, Sent(...)]) -> Status[Described]:
    """Make a program. Scope: referrals:write."""
    made = programs.create(**sent.model_dump(exclude_unset=True))
    return Status(201, _described(request, made))


@api.get(
    "/program/{id}/",
    auth=Bearer(access.READ),
    response={200: Described, **refusals(404)},
    operation_id="read-program",
    url_name="program",
)
def read_program(request: HttpRequest, id: str) -> Described:  # noqa: A002 # the document's
    """Look a program up. Scope: referrals:read."""
    return _described(request, programs.find(id))


@api.put(
    "/program/{id}/",
    auth=Bearer(access.CHANGE),
    response={200: Described, **refusals(404, *BODY)},
    operation_id="change-program",
    openapi_extra={"requestBody": {"required": False}},
    url_name="program",
)
def change_program(request: Any, id: str, sent: Annotated[Change, Sent(...)]) -> Described:  # noqa: A002
    """Change what is sent of a program. Scope: referrals:write.

    Members keep what was promised when they registered.
    """
    changed = programs.change(id, **sent.model_dump(exclude_unset=True))
    return _described(request, changed)


@api.delete(
    "/program/{id}/",
    auth=Bearer(access.DELETE),
    response={204: None, **refusals(404, 409)},
    operation_id="delete-program",
    url_name="program",
)
def delete_program(request: HttpRequest, id: str) -> Status[None]:  # noqa: A002
    """Delete a program without members; others are deactivated. Scope: referrals:write."""
    programs.delete(id)
    return Status(204, None)


@api.post(
    "/register/",
    auth=Bearer(access.REGISTER),
    response={201: Registered, **refusals(404, 409, 412, *BODY)},
    operation_id="register",
    url_name="register",
)
def register(
    request: Any, sent: Annotated[Registration, Sent(...)]
) -> Status[Registered] | HttpResponse:
    """Register somebody whom a member has brought, and credit both. Scope: referrals:register."""
    for name in ("user_indicator", "user_indicated"):
        if not getattr(sent, name):
            return api.refusals.problem(412, "missing-parameter", f"{name}: is needed")
    if not Program.objects.exists():
        raise NoProgram("program: there is none at all")
    chosen = programs.find(sent.referral_program_id) if sent.referral_program_id else None
    indicator = services.find_member(sent.user_indicator)
    try:
        member = services.register(sent.user_indicated, indicator=indicator, program=chosen)
    except (IntegrityError, Program.DoesNotExist):
        if chosen is not None:
            # Somebody may have deleted it just now.
            programs.find(chosen.pk)
        raise
    return Status(
        201,
        Registered(
            **_identified(member),
            referral_program=_described(request, member.program),
            user_indicator=Indicator(**_identified(indicator)),
        ),
    )


@api.put(
    "/invoice/user/{user_hash}/",
    auth=Bearer(access.REPORT),
    response={200: Acquired, **refusals(404, *BODY)},
    operation_id="invoice",
    url_name="invoice-user",
)
def invoice(request: Any, user_hash: str, sent: Annotated[Report, Sent(...)]) -> Acquired:
    """Note what a member has paid, all in all. Scope: referrals:register.

    Once it reaches the target, whoever brought them is credited: once, however often it is sent.
    """
    if sent.user_hash not in ("", user_hash):
        raise InvalidFields({"user_hash": ["Is another one in the address."]})
    member = services.find_member(user_hash)
    total = Money.of(sent.total_amount_paid, member.currency)
    gained = invoices.report_total(member, total, reported_on=sent.reported_on)
    return Acquired(acquired_credit=major(gained, member.currency))


@api.get(
    "/statement/{user_hash}/",
    auth=Bearer(access.STATEMENT),
    response={200: Statement, **refusals(404)},
    operation_id="statement",
    url_name="statement",
)
def statement(
    request: HttpRequest,
    user_hash: str,
    limit: Annotated[int, Query(statements.PAGE, ge=1, le=MAX_LIMIT)],
    before: Annotated[int | None, Query(None, ge=1, lt=2**63)],
) -> Statement:
    """Tell what a member was credited, and for whom. Scope: referrals:read.

    For what is older ask for what is `before` the `next` of the last answer.
    """
    member = services.find_member(user_hash)
    told = statements.statement(member, before=before, limit=limit)
    return Statement(
        potencial_credit=major(told.potential, member.currency),
        acquired_credit=major(told.acquired, member.currency),
        signup_credit=major(told.signup, member.currency),
        referral_program=_described(request, member.program),
        entries=[_entry(each) for each in told.operations],
        next=told.older,
    )


@api.post(
    "/emailindication/",
    auth=Bearer(access.INDICATE),
    response={201: Indicated, **refusals(409, 412, *BODY)},
    operation_id="emailindication",
    url_name="emailindication",
)
def emailindication(
    request: Any, sent: Annotated[Indication, Sent(...)]
) -> Status[Indicated] | HttpResponse:
    """Note the addresses of people whom a member would bring. Scope: referrals:register.

    In each program whoever was first has indicated an address. Nobody is written to.
    """
    try:
        member = services.find_member(sent.user_indicator)
    except UnknownMember:
        missing = f"user_indicator: {'is unknown' if sent.user_indicator else 'is needed'}"
        return api.refusals.problem(412, "missing-parameter", missing)
    found = indications.indicate(member, sent.emails)
    return Status(
        201,
        Indicated(
            saved_emails=[each.email for each in found.saved],
            refused=[
                RefusedEmail(email=each.email, reason=each.reason)  # type: ignore[arg-type]
                for each in found.refused
            ],
        ),
    )


@api.post(
    "/emailverification/",
    auth=Bearer(access.VERIFY),
    response={200: Verified, **refusals(*BODY)},
    operation_id="emailverification",
    url_name="emailverification",
)
def emailverification(request: Any, sent: Annotated[Verification, Sent(...)]) -> Verified:
    """Tell who has indicated each of some addresses first. Scope: referrals:read."""
    found = indications.indicators(sent.emails)
    return Verified(
        emails={email: member.user_hash if member else False for email, member in found.items()}
    )


def _described(request: HttpRequest, program: Program) -> Described:
    return Described(
        id=program.pk,
        name=program.name,
        credit_value=program.credit.amount,
        target_value=program.target.amount,
        reward_value=program.reward.amount,
        currency=program.currency,
        active=program.active,
        depth=program.depth,
        max_per_indicator=program.max_per_indicator,
        max_referrals=program.max_referrals,
        valid_from=program.valid_from,
        valid_until=program.valid_until,
        link=_address(request, "program", program.pk),
    )


def _identified(member: Member) -> dict[str, Any]:
    even = member.generates_credit
    return {"id": member.pk, "hash": member.user_hash, "is_generates_even": even}


def _entry(operation: Operation) -> Entry:
    currency = operation.about.currency
    return Entry(
        operation=operation.kind,
        amount=major(operation.minor, currency),
        currency=currency,
        about=operation.about.user_hash,
        date=operation.created_on,
    )


def _address(request: HttpRequest, name: str, *args: Any) -> str:
    # Wherever a site has mounted the API, and under whatever name.
    here = request.resolver_match
    namespace = here.namespace if here else NAMESPACE
    return request.build_absolute_uri(reverse(f"{namespace}:{name}", args=args))
