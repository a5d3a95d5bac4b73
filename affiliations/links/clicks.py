"""Record a click that counts: as the one open transaction of its link and whoever clicked.

Hand-written SQL, one statement: through the ORM it takes twice as long, and to look first whether
there is one would let two clicks at once make two.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from django.db import connections, models, router
from django.utils import timezone

from .. import visits
from ..savepoints import retried
from .models import Transaction
from .models.transactions import MAX_NETWORK_ID
from .services import open_key

if TYPE_CHECKING:
    from django.http import HttpRequest

    from .routing import Route

__all__ = ["bounded", "record"]

#: As much of a click's query as is kept.
MAX_PARAMETERS, MAX_NAME, MAX_VALUE, MAX_QUERY = 50, 100, 500, 4_000

COLUMNS = (
    "link",
    "path",
    "item_id",
    "ident",
    "user",
    "open_key",
    "created_on",
    "clicked_on",
    "network_id",
    "query",
    "landing_page",
    "visitor",
)
#: What is the same in every new row, in SQL: each value that is sent costs time.
FIXED = {
    "state": "'open'",
    "clicks": "1",
    "currency": "''",
    "order_id": "''",
    "callback_url": "''",
    "given": "'{}'",
    "alert_due": "FALSE",
}
#: What the next click refreshes; the clicks are counted.
REFRESHED = ("clicked_on", "landing_page")
#: And these where it names a network's transaction: the one before it is not forgotten otherwise.
OF_NETWORK = ("network_id", "query")


def record(
    request: HttpRequest,
    route: Route,
    *,
    user: Any,
    ident: str,
    network_id: str,
    query: Sequence[tuple[str, str]],
    to: str,
) -> None:
    """Update or create the open transaction of a link and a user, or else a browser.

    With a partner's link the visitor is recorded as well. Raises DatabaseError.
    """
    using = router.db_for_write(Transaction)
    if route.partner_id is None:
        _upsert(route, user, ident, network_id, query, to, None, using)
        return

    def both() -> None:
        visitor = visits.record(request, route.partner_id or 0, to, click_id=network_id[:200])
        _upsert(route, user, ident, network_id, query, to, visitor.pk, using)

    retried(both, using)


def _upsert(
    route: Route,
    user: Any,
    ident: str,
    network_id: str,
    query: Sequence[tuple[str, str]],
    to: str,
    visitor_id: int | None,
    using: str,
) -> None:
    connection = connections[using]
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    values = {
        "link": route.link_id,
        "path": route.path,
        "item_id": route.item_id,
        "ident": ident,
        "user": None if user is None else _prepared_user(user, connection),
        "open_key": open_key(route.link_id, user=user, ident=ident),
        "created_on": now,
        "clicked_on": now,
        "network_id": network_id[:MAX_NETWORK_ID],
        "query": json.dumps(bounded(query)),
        "landing_page": to[:2000],
        "visitor": visitor_id,
    }
    with connection.cursor() as cursor:
        cursor.execute(_statement(connection.vendor), [values[name] for name in COLUMNS])


def _prepared_user(user: Any, connection: Any) -> Any:
    field: Any = Transaction._meta.get_field("user")
    return field.get_db_prep_save(user.pk, connection)


@cache
def _statement(vendor: str) -> str:
    table = Transaction._meta.db_table
    columns = [str(_field(name).column) for name in (*COLUMNS, *FIXED)]
    values = [*["%s"] * len(COLUMNS), *FIXED.values()]
    # Names of ours alone stand in it.
    insert = (
        f"INSERT INTO {table} ({', '.join(columns)}) "  # noqa: S608 # nosec B608
        f"VALUES ({', '.join(values)})"
    )
    if vendor == "mysql":
        new = "VALUES({})"
        conflict = "ON DUPLICATE KEY UPDATE"
    else:
        new = "excluded.{}"
        conflict = "ON CONFLICT (open_key) DO UPDATE SET"
    changes = [f"{name} = {new.replace('{}', name)}" for name in REFRESHED]
    # The query before what it is judged by: MariaDB changes one after the other.
    unnamed = new.replace("{}", "network_id") + " = ''"
    for name in reversed(OF_NETWORK):
        kept = f"CASE WHEN {unnamed} THEN {table}.{name} ELSE {new.replace('{}', name)} END"
        changes.append(f"{name} = {kept}")
    changes.append(f"clicks = {table}.clicks + 1")
    for name in ("visitor_id", "user_id"):
        changes.append(f"{name} = COALESCE({new.replace('{}', name)}, {table}.{name})")
    return f"{insert} {conflict} {', '.join(changes)}"


def _field(name: str) -> models.Field[Any, Any]:
    field: Any = Transaction._meta.get_field(name)
    return field  # type: ignore[no-any-return]


def bounded(query: Iterable[tuple[str, str]]) -> dict[str, str | list[str]]:
    """Return as much of a query as is kept, by name; several values of one name as a list."""
    found: dict[str, str | list[str]] = {}
    room = MAX_QUERY
    for position, (name, value) in enumerate(query):
        name, value = name[:MAX_NAME], value[:MAX_VALUE]
        room -= len(name) + len(value)
        if position >= MAX_PARAMETERS or room < 0:
            break
        earlier = found.get(name)
        if earlier is None:
            found[name] = value
        else:
            found[name] = [*(earlier if isinstance(earlier, list) else [earlier]), value]
    return found
