"""Find who has seen what of a campaign, and what they did from then on: by one statement.

People are the tracking's customers: whatever somebody did by one of their names was done by them.
Hand-written SQL: each of a million people is looked at once, and what comes back is as many rows as
there are different sums that somebody has spent.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from django.contrib.auth import get_user_model
from django.db import connections, models

from ..models import Conversion, Visitor
from ..sums import PART
from ..tracking.models import EventType, Hit, Identity
from .goals import EVENT, TRANSACTION, TRIGGER, Goal
from .models import Assignment

__all__ = ["Asked", "Saw", "Won", "found"]

BATCH = 10_000


class Asked(NamedTuple):
    """Whom to look for, and what they are meant to have done."""

    campaign_id: int
    property_id: int
    goal: Goal
    since: datetime | None = None
    until: datetime | None = None
    days: int | None = None
    partner_id: int | None = None


class Saw(NamedTuple):
    """How many people have seen a variation, by the version in which it was decided for them."""

    group_id: int
    variation_id: int
    version: int
    #: Whether these have seen another one of the group, too.
    is_mixed: bool
    people: int


class Won(NamedTuple):
    """How many people of a variation have spent the same in all, in a currency or in none."""

    group_id: int
    variation_id: int
    currency: str
    minor: int
    people: int
    #: Of them those who are not counted with another currency, too.
    converted: int
    #: How often they have done it.
    times: int


class _Sql(NamedTuple):
    text: str
    params: tuple[Any, ...] = ()


def found(asked: Asked, using: str) -> Iterator[Saw | Won]:
    """Yield who has seen what, and what they have spent; one query."""
    statement = _statement(asked, using)
    # Not by a cursor of the server's, for which PostgreSQL would not let several processes work.
    with connections[using].cursor() as cursor:
        cursor.execute(*statement)
        while rows := cursor.fetchmany(BATCH):
            for row in rows:
                yield _read(row)


def _read(row: Any) -> Saw | Won:
    is_won, group, variation, version, is_mixed, people, currency, low, high, first, times = row
    if not is_won:
        return Saw(group, variation, version, bool(is_mixed), people)
    minor = int(high) * PART + int(low)
    return Won(group, variation, currency, minor, people, int(first), int(times))


# In the statements stand names of ours alone, and those of the site's table of users not at all.


def _statement(asked: Asked, using: str) -> _Sql:
    vendor = connections[using].vendor
    seen, done = _seen(asked, using), _done(asked, using)
    within = _Sql("")
    if asked.days is not None:
        within = _Sql(f" AND d.happened_on < {_LATER[vendor]}", (asked.days,))
    whole = "DIV" if vendor == "mysql" else "/"
    text = f"""
WITH seen AS ({seen.text}), done AS ({done.text}), won AS (
SELECT s.group_id, s.variation_id, s.customer_id, d.currency, COUNT(*) AS times,
COALESCE(SUM(d.minor %% {PART}), 0) AS low, COALESCE(SUM(d.minor {whole} {PART}), 0) AS high
FROM seen s JOIN done d ON d.customer_id = s.customer_id AND d.happened_on >= s.exposed_on
{within.text} WHERE s.is_mixed = 0
GROUP BY s.group_id, s.variation_id, s.customer_id, d.currency
), numbered AS (
SELECT won.*, ROW_NUMBER() OVER (PARTITION BY group_id, customer_id ORDER BY currency) AS place
FROM won)
SELECT 0, group_id, variation_id, version, is_mixed, COUNT(*), '', 0, 0, 0, 0
FROM seen GROUP BY group_id, variation_id, version, is_mixed
UNION ALL
SELECT 1, group_id, variation_id, 0, 0, COUNT(*), currency, low, high,
SUM(CASE WHEN place = 1 THEN 1 ELSE 0 END), SUM(times)
FROM numbered GROUP BY group_id, variation_id, currency, low, high"""  # noqa: S608 # nosec B608
    return _Sql(text, (*seen.params, *done.params, *within.params))


#: So many days after somebody has seen it. Days of 24 hours, also where clocks are changed. SQLite
#: has texts, in which the fraction of a second, if any, stands from the 20th character on.
_LATER = {
    "postgresql": "s.exposed_on + %s * INTERVAL '24 hours'",
    "mysql": "s.exposed_on + INTERVAL %s DAY",
    "sqlite": "datetime(substr(s.exposed_on, 1, 19), '+' || %s || ' days')"
    " || substr(s.exposed_on, 20)",
}


def _seen(asked: Asked, using: str) -> _Sql:
    """Return a row for each person and group, of what they saw first."""
    when, having, params = "a.exposed_on IS NOT NULL", [], [asked.campaign_id]
    bounds: list[Any] = []
    if asked.until is not None:
        # What somebody saw after that was not known then.
        when = "a.exposed_on < %s"
        params.append(_moment(asked.until, using))
        having.append("MIN(a.exposed_on) < %s")
        bounds.append(_moment(asked.until, using))
    if asked.since is not None:
        having.append("MIN(a.exposed_on) >= %s")
        bounds.append(_moment(asked.since, using))
    if asked.partner_id is not None:
        # Who had sent them when they saw it for the first time, by whatever name.
        having.append("MIN(CASE WHEN a.partner_id = %s THEN a.exposed_on END) = MIN(a.exposed_on)")
        bounds.append(asked.partner_id)
    # Of a mixed one it may not be known when it was seen, but that it was.
    having = having or ["MIN(a.exposed_on) IS NOT NULL"]
    text = f"""
SELECT a.group_id, i.customer_id, MIN(a.variation_id) AS variation_id, MIN(a.version) AS version,
MIN(a.exposed_on) AS exposed_on, CASE WHEN MAX(CASE WHEN a.is_mixed THEN 1 ELSE 0 END) = 1
OR MIN(a.variation_id) <> MAX(a.variation_id) THEN 1 ELSE 0 END AS is_mixed
FROM {_table(Assignment)} a JOIN {_table(Identity)} i ON i.id = a.identity_id
WHERE a.campaign_id = %s AND ({when} OR a.is_mixed)
GROUP BY a.group_id, i.customer_id HAVING {" AND ".join(having)}"""  # noqa: S608 # nosec B608
    return _Sql(text, (*params, *bounds))


def _done(asked: Asked, using: str) -> _Sql:
    """Return a row for each time that somebody has done it."""
    is_trigger = asked.goal.kind == TRIGGER
    made = _converted(asked, using) if is_trigger else _told(asked, using)
    moment = "c.created_on" if is_trigger else "h.happened_on"
    if asked.since is not None:
        after = _Sql("%s", (_moment(asked.since, using),))
    else:
        # Or else it would look at what was done in all the years before.
        first = f"SELECT MIN(exposed_on) FROM {_table(Assignment)} WHERE campaign_id = %s"  # noqa: S608 # nosec B608
        after = _Sql(f"({first})", (asked.campaign_id,))
    text, params = f"{made.text} AND {moment} >= {after.text}", (*made.params, *after.params)
    if asked.until is not None:
        text, params = f"{text} AND {moment} < %s", (*params, _moment(asked.until, using))
    return _Sql(text, params)


def _converted(asked: Asked, using: str) -> _Sql:
    """Return the conversions of a trigger that still stand, and what of them does."""
    quote = connections[using].ops.quote_name
    same = _same(f"c.{quote('trigger')}", using)
    identity, prop = _table(Identity), asked.property_id
    user = _user("COALESCE(c.user_id, v.user_id)", using)
    # Each name by all three columns of the index that there is.
    text = f"""
SELECT COALESCE(u.customer_id, k.customer_id) AS customer_id, c.created_on AS happened_on,
c.currency, c.amount_minor - c.reversed_minor AS minor
FROM {_table(Conversion)} c JOIN {_table(Visitor)} v ON v.id = c.visitor_id
LEFT JOIN {identity} u ON u.property_id = %s AND u.kind = %s AND u.value = {user}
LEFT JOIN {identity} k ON k.property_id = %s AND k.kind = %s AND k.value = v.ident
WHERE {same} AND c.reversed_on IS NULL"""  # noqa: S608 # nosec B608
    kinds = (prop, Identity.Kind.USER.value, prop, Identity.Kind.COOKIE.value)
    return _Sql(text, (*kinds, asked.goal.name))


def _told(asked: Asked, using: str) -> _Sql:
    """Return the events, or the transactions, that count."""
    text = f"""
SELECT i.customer_id, h.happened_on, h.currency, h.minor
FROM {_table(Hit)} h JOIN {_table(Identity)} i ON i.id = h.identity_id
WHERE h.property_id = %s AND h.type = %s AND NOT h.is_informational"""  # noqa: S608 # nosec B608
    params: tuple[Any, ...] = (asked.property_id, asked.goal.kind)
    name = asked.goal.name
    titled = _same("h.title", using)
    if asked.goal.kind == TRANSACTION and name:
        return _Sql(f"{text} AND {titled}", (*params, name))
    if asked.goal.kind == EVENT:
        key = _same(f"e.{connections[using].ops.quote_name('key')}", using)
        types = f"SELECT e.id FROM {_table(EventType)} e WHERE e.property_id = %s AND {key}"  # noqa: S608 # nosec B608
        text += f" AND (h.event_type_id IN ({types}) OR (h.event_type_id IS NULL AND {titled}))"
        return _Sql(text, (*params, asked.property_id, name, name))
    return _Sql(text, params)


def _table(model: type[models.Model]) -> str:
    return str(model._meta.db_table)


def _moment(moment: datetime, using: str) -> Any:
    return connections[using].ops.adapt_datetimefield_value(moment)


def _same(column: str, using: str) -> str:
    """Return that a column is a text, to the letter: MariaDB overlooks case, accents and blanks."""
    return f"{'BINARY ' if connections[using].vendor == 'mysql' else ''}{column} = %s"


def _user(column: str, using: str) -> str:
    """Return the key of a user as the text that is their name."""
    connection = connections[using]
    pk = get_user_model()._meta.pk
    if isinstance(pk, models.UUIDField) and not connection.features.has_native_uuid_field:
        # Of which there are the digits alone.
        parts = [f"SUBSTR({column}, {at}, {n})" for at, n in _UUID]
        if connection.vendor == "mysql":
            return f"CONCAT_WS('-', {', '.join(parts)})"
        return " || '-' || ".join(parts)
    return f"CAST({column} AS {'CHAR' if connection.vendor == 'mysql' else 'TEXT'})"


#: Where the parts of a UUID begin, and how long they are.
_UUID = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
