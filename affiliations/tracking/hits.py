"""Make a hit of what is told, and write it.

    hit = new_hit(prop, type="pageview", url="https://shop.example/")
    is_new = record(prop, [name("cookie", cookie)], hit)

Hand-written SQL, one statement for a hit of somebody who is known: to look up who that is, and to
write then, takes twice as long, and lets somebody be erased in between.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings as django_settings
from django.db import IntegrityError, connections, router, transaction
from django.utils import timezone

from .. import partners, querystring
from ..conf import settings
from ..money import Money
from ..savepoints import retried
from . import stream
from .channels import Touch, touch_of
from .exceptions import InvalidHit, TooManyNames
from .identities import Name, identify
from .models import Hit, HitKey, Identity
from .models.hits import MAX_META, MAX_TITLE, MAX_TRANSACTION_ID, MAX_URL
from .models.properties import MAX_NAME
from .properties import Known

__all__ = ["NewHit", "happened", "new_hit", "possible", "record"]

#: Nobody was tracked before, and clocks that are ahead are not so by more.
FIRST, AHEAD = datetime(2000, 1, 1, tzinfo=UTC), timedelta(days=1)
#: Made anew at each look at them, which takes longer than all that else is looked at.
TYPES = tuple(Hit.Type.values)
#: PostgreSQL takes neither, in text and in JSON, where it is an escape that nothing escapes.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
#: Times that somebody may be erased between being named and being written of.
TURNS = 5


class NewHit(NamedTuple):
    """A hit that can be written as it is: the columns of its row, but whose it is."""

    type: str
    happened_on: datetime
    received_on: datetime
    event_type_id: int | None
    url: str
    referrer: str
    title: str
    channel: str
    source: str
    medium: str
    campaign: str
    term: str
    content: str
    #: JSON, as `meta` is.
    click_ids: str
    partner_id: int | None
    visitor_id: int | None
    link: str
    minor: int | None
    currency: str
    transaction_id: str
    is_informational: bool
    meta: str


def happened(seconds: float) -> datetime:
    """Return the moment of a Unix time; raises InvalidHit where no hit can have happened then."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError, TypeError):
        raise InvalidHit("created_at: must be a Unix time, in seconds") from None
    return moment if django_settings.USE_TZ else timezone.make_naive(moment)


def new_hit(
    prop: Known,
    *,
    type: str,  # noqa: A002 # the column's name
    happened_on: datetime | None = None,
    event_type_id: int | None = None,
    url: str = "",
    referrer: str = "",
    title: str = "",
    value: Money | None = None,
    transaction_id: str = "",
    is_informational: bool = False,
    meta: dict[str, Any] | None = None,
    partner_id: int | None = None,
    visitor_id: int | None = None,
    link: str = "",
    arrived: bool = False,
) -> NewHit:
    """Return a hit of a type of `Hit.Type`, with what brought somebody there told from its URL.

    `arrived` says that the partner, or the link, has led there just now. It has happened now, if it
    is not said when. Titles are cut to 500 characters. Raises
    InvalidHit, naming the field, for what no hit can have: a URL of more than 4,000 characters, a
    transaction id of more than 600, a moment before the year 2000 or after tomorrow, more than
    4 KiB in `meta`, and for an event without its type or else a title.
    """
    now = timezone.now()
    if type not in TYPES:
        raise InvalidHit(f"type: must be one of {', '.join(TYPES)}")
    if type == Hit.Type.EVENT and event_type_id is None and not title:
        raise InvalidHit("title: is needed for an event that is none of the property's")
    for name, text, most in (
        ("url", url, MAX_URL),
        ("referrer", referrer, MAX_URL),
        ("transaction_id", transaction_id, MAX_TRANSACTION_ID),
        ("link", link, MAX_NAME),
        ("title", title[:MAX_TITLE], MAX_TITLE),
    ):
        if len(text) > most:
            raise InvalidHit(f"{name}: must have at most {most} characters")
        if _UNSTORABLE.search(text):
            raise InvalidHit(f"{name}: must be text without NUL and half letters")
    if partner_id is None:
        uid = querystring.find(url.partition("#")[0].partition("?")[2], settings.QUERY_STRING_KEY)
        partner_id = partners.active_id(uid) if uid else None
        arrived = arrived or partner_id is not None
    touch = touch_of(url, referrer, own=prop.hosts, by_partner=arrived)
    touch = touch or Touch("", "", "", "", "", "", {})
    return NewHit(
        type,
        possible(happened_on or now, now),
        now,
        event_type_id,
        url,
        referrer,
        title[:MAX_TITLE],
        *touch[:6],
        json.dumps(touch.click_ids) if touch.click_ids else "{}",
        partner_id,
        visitor_id,
        link,
        value.minor if value is not None else None,
        value.currency if value is not None else "",
        transaction_id,
        is_informational,
        _bounded(meta) if meta else "{}",
    )


def possible(moment: datetime, now: datetime) -> datetime:
    """Return when something has happened that is said to have happened at a moment.

    Raises InvalidHit where nothing of it can be so: before the year 2000, or after tomorrow.
    """
    first = FIRST if timezone.is_aware(now) else FIRST.replace(tzinfo=None)
    if not first <= moment <= now + AHEAD:
        raise InvalidHit("created_at: must be between the year 2000 and tomorrow")
    # By a clock that is ahead, but nobody has done anything yet to come.
    return min(moment, now)


def _bounded(meta: dict[str, Any]) -> str:
    try:
        text = json.dumps(meta, default=float, ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError):
        raise InvalidHit("meta: must be what JSON can hold") from None
    if _NUL.search(text):
        raise InvalidHit("meta: must be text without NUL")
    if size > MAX_META:
        raise InvalidHit(f"meta: must have at most {MAX_META} bytes")
    return text


def record(prop: Known, names: Sequence[Name], hit: NewHit, *, once: Sequence[str] = ()) -> bool:
    """Write a hit of whoever goes by all these names, the first of which it is kept under.

    Returns False, and writes nothing, where there is one of the same event and transaction id, or
    one that was told with one of the same `once`, texts by which whoever repeats themselves is
    known. One
    query for somebody who is known, and two in a transaction where there is a transaction id. A
    person who would have too many names gets none, and the hit all the same.

    Where AFFILIATE_TRACKING_SINK is a Redis, a hit without a transaction id is written later, by
    `manage.py write_hits`: no query is made for it. In a transaction of the caller's it is handed
    over once that is committed.
    """
    using = router.db_for_write(Hit)
    if hit.transaction_id or once:
        return retried(lambda: _once(prop, names, hit, once, using), using)
    if not stream.is_used():
        return retried(lambda: _written(prop, names, hit, using), using, atomic=False)
    transaction.on_commit(partial(_hand_over, prop, names, hit, using), using)
    return True


def _hand_over(prop: Known, names: Sequence[Name], hit: NewHit, using: str) -> None:
    number = stream.next_number()
    if stream.add(stream.encoded(prop.id, names, number, hit)):
        return
    try:
        retried(lambda: _written(prop, names, hit, using, number), using, atomic=False)
    except IntegrityError:
        if Hit.objects.using(using).filter(pk=number, received_on=hit.received_on).exists():
            # Redis has taken it after all, and it is written already.
            return
        # Another hit happens to have the number.
        number = stream.next_number()
        retried(lambda: _written(prop, names, hit, using, number), using, atomic=False)


def _once(prop: Known, names: Sequence[Name], hit: NewHit, once: Sequence[str], using: str) -> bool:
    connection = connections[using]
    moment = connection.ops.adapt_datetimefield_value(hit.happened_on)
    # In one order, or two who tell the same would wait for each other.
    keys = sorted(_key(prop.id, hit, each) for each in once or [""])
    with connection.cursor() as cursor:
        for key in keys:
            cursor.execute(_KEY[connection.vendor], [_prepared(key, connection), moment])
            if not cursor.rowcount:
                return False
    return _written(prop, names, hit, using)


def _written(
    prop: Known, names: Sequence[Name], hit: NewHit, using: str, number: int | None = None
) -> bool:
    if _insert(prop, names, hit, using, number):
        return True
    for _ in range(TURNS):
        try:
            identify(prop.row, names)
        except TooManyNames:
            names = names[:1]
            identify(prop.row, names)
        # They may not be one person's even now: other names of them are another user's.
        if _insert(prop, names[:1], hit, using, number):
            return True
    raise RuntimeError("names: whoever goes by them is erased again and again")


def _insert(
    prop: Known, names: Sequence[Name], hit: NewHit, using: str, number: int | None
) -> bool:
    connection = connections[using]
    moments = (
        connection.ops.adapt_datetimefield_value(each)
        for each in (hit.happened_on, hit.received_on)
    )
    params = [hit.type, *moments, *hit[3:], *([] if number is None else [number]), prop.id]
    first, *others = names
    params += [first.value, first.kind]
    for each in others:
        params += [each.value, each.kind]
    with connection.cursor() as cursor:
        cursor.execute(_statement(connection.vendor, len(others), number is not None), params)
        return bool(cursor.rowcount)


def _key(property_id: int, hit: NewHit, once: str = "") -> UUID:
    # No type of a hit is called so.
    told = f"once {once}" if once else f"{hit.type} {hit.event_type_id} {hit.transaction_id}"
    told = f"{property_id} {told}"
    # With a version: MariaDB takes others for no UUID at all.
    return UUID(bytes=sha256(told.encode(errors="surrogatepass")).digest()[:16], version=5)


def _prepared(key: UUID, connection: Any) -> Any:
    field: Any = HitKey._meta.get_field("digest")
    return field.get_db_prep_save(key, connection)


# In the statements stand names of ours alone.
_INTO = f"INTO {HitKey._meta.db_table} (digest, happened_on) VALUES (%s, %s)"
_KEY = {
    "postgresql": f"INSERT {_INTO} ON CONFLICT (digest) DO NOTHING",
    "sqlite": f"INSERT {_INTO} ON CONFLICT (digest) DO NOTHING",
    "mysql": f"INSERT IGNORE {_INTO}",
}
#: So that whoever is being erased is not written of any more.
HELD = {"postgresql": "FOR KEY SHARE OF i", "mysql": "LOCK IN SHARE MODE", "sqlite": ""}


@cache
def _statement(vendor: str, others: int, is_numbered: bool) -> str:
    """Return the INSERT of a hit of who goes by a name, and by so many others as well."""
    table = Identity._meta.db_table
    columns = [*NewHit._fields, *(["id"] if is_numbered else [])]
    same = (
        f" AND EXISTS (SELECT 1 FROM {table} o WHERE o.property_id = i.property_id "  # noqa: S608 # nosec B608
        "AND o.value = %s AND o.kind = %s AND o.customer_id = i.customer_id)"
    )
    return (
        f"INSERT INTO {Hit._meta.db_table} ({', '.join(columns)}, property_id, identity_id) "  # noqa: S608 # nosec B608
        f"SELECT {', '.join(['%s'] * len(columns))}, i.property_id, i.id FROM {table} i "
        "WHERE i.property_id = %s AND i.value = %s AND i.kind = %s"
        + same * others
        + " "
        + HELD[vendor]
    ).strip()
