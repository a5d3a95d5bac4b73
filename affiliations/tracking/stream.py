"""Hand hits over by a stream of Redis, from which others take them and write them.

What is in a message: a line that says whose the hit is, and a line that is the hit as PostgreSQL's
COPY takes it, but for the identity. It is made where the hit is told, by as many processes as there
are, so that the few that write have next to nothing to do.
"""

from __future__ import annotations

import json
import logging
import os
import random
import threading
import time
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from .conf import DATABASE, settings
from .identities import Name

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ImportError:
    redis = None  # type: ignore[assignment] # the extra is not installed

if TYPE_CHECKING:
    from .hits import NewHit

__all__ = [
    "COLUMNS",
    "TEXTS",
    "Message",
    "Reader",
    "add",
    "columns_of",
    "encoded",
    "errors",
    "failed",
    "forget",
    "is_installed",
    "is_used",
    "named",
    "next_number",
    "numbered",
    "property_of",
    "received",
    "waiting",
    "whose",
]

logger = logging.getLogger(__name__)

#: What writers are to Redis, and the member of a message: what another version of ours would put
#: into its messages otherwise, it would put into another one.
GROUP, MEMBER = "writers", b"1"
#: Seconds to wait for Redis, and to do without it once it has not answered.
PATIENCE, PAUSE = 1.0, 5.0
#: Seconds after which a writer that has not been seen is forgotten.
GONE = 86_400

TEXTS = (
    "type",
    "url",
    "referrer",
    "title",
    "channel",
    "source",
    "medium",
    "campaign",
    "term",
    "content",
    "click_ids",
    "link",
    "currency",
    "transaction_id",
    "meta",
)
#: The columns of a line, and of the table, in the line's order; `identity_id` comes last.
NUMBERS = ("id", "property_id", "event_type_id", "partner_id", "visitor_id", "minor")
MOMENTS = ("happened_on", "received_on")
COLUMNS = (*NUMBERS, "is_informational", *MOMENTS, *TEXTS)
RECEIVED = COLUMNS.index("received_on")
NOTHING = "\\N"
#: How COPY writes what it would else take for the end of a column or a line.
ESCAPES = (("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"))


def is_installed() -> bool:
    """Tell whether there is the package that speaks with Redis."""
    return redis is not None


def is_used() -> bool:
    """Tell whether hits go through Redis, by AFFILIATE_TRACKING_SINK."""
    return bool(settings.TRACKING_SINK != DATABASE)


@cache
def _client_of(url: str, password: str) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        password=password or None,
        socket_timeout=PATIENCE,
        socket_connect_timeout=PATIENCE,
        # Once: a connection that was idle may have been closed by the other side.
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    )


def client() -> redis.Redis:
    """Return what speaks with the Redis of the settings; raises OSError without the package."""
    if not is_installed():
        raise OSError("there is nothing to speak with it: pip install django-affiliations[redis]")
    return _client_of(settings.TRACKING_SINK, settings.TRACKING_SINK_PASSWORD)


class _Own(threading.local):
    """A connection of each thread, by which hits are put in.

    To get one from the pool for each hit, and give it back, takes longer than to put it in.
    """

    key: tuple[Any, ...] = ()
    connection: Any = None


_own = _Own()


def _connection() -> Any:
    key = os.getpid(), settings.TRACKING_SINK, settings.TRACKING_SINK_PASSWORD
    if _own.key != key:
        _own.key, _own.connection = key, client().connection_pool.make_connection()
    return _own.connection


def errors() -> tuple[type[Exception], ...]:
    """Return what is raised where Redis cannot be had, or does not do as it is told."""
    return (redis.RedisError, OSError) if is_installed() else (OSError,)


# To put hits in


class _Numbers:
    """Ids for hits that are not in the database yet, which grow with the time.

    By its id a hit is known again that comes twice. 41 bits of milliseconds, 14 of the process and
    8 of what it counts in a millisecond.
    """

    SINCE = 1_577_836_800_000
    PROCESSES, IN_A_MILLISECOND = 2**14, 2**8

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.last = self.count = 0
        self.process: int | None = None

    def next(self) -> int:
        now = time.time_ns() // 1_000_000 - self.SINCE
        with self.lock:
            if self.process is None:
                self.process = _process() % self.PROCESSES
            if now > self.last:
                self.last, self.count = now, 0
            else:
                # Of clocks that are put back, too.
                self.count += 1
                if self.count == self.IN_A_MILLISECOND:
                    self.last, self.count = self.last + 1, 0
            return (self.last * self.PROCESSES + self.process) * self.IN_A_MILLISECOND + self.count


def _process() -> int:
    """Return a number that no other process has, as far as Redis can be asked."""
    chosen = random.randrange(_Numbers.PROCESSES)  # noqa: S311
    key = f"{settings.TRACKING_STREAM}:processes"
    try:
        with client().pipeline() as pipe:
            # Where it begins again, because Redis was emptied, it does not begin at the same one.
            pipe.set(key, chosen, nx=True)
            pipe.incr(key)
            return int(pipe.execute()[1])
    except errors():
        return chosen


def _forked() -> None:
    global _numbers  # noqa: PLW0603
    _numbers = _Numbers()


_numbers = _Numbers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def next_number() -> int:
    """Return an id for a hit."""
    return _numbers.next()


def encoded(property_id: int, names: Sequence[Name], number: int, hit: NewHit) -> str:
    """Return the message of a hit, of whoever goes by these names."""
    who = "\t".join((str(property_id), *chain.from_iterable(names)))
    numbers = (number, property_id, hit.event_type_id, hit.partner_id, hit.visitor_id, hit.minor)
    first = "\t".join([NOTHING if each is None else str(each) for each in numbers])
    moments = f"{hit.happened_on.isoformat()}\t{hit.received_on.isoformat()}"
    # No text has a NUL in it, so all of it can be escaped at once.
    texts = "\0".join([getattr(hit, each) for each in TEXTS])
    texts = texts.replace("\\", "\\\\")
    for meant, escape in ESCAPES:
        texts = texts.replace(meant, escape)
    texts = texts.replace("\0", "\t")
    return f"{who}\n{first}\t{'t' if hit.is_informational else 'f'}\t{moments}\t{texts}"


_down_until = 0.0


def forget() -> None:
    """Have Redis asked again at once."""
    global _down_until  # noqa: PLW0603
    _down_until = 0.0


def add(message: str) -> bool:
    """Put a message into the stream; return False where Redis cannot be had.

    Whether it has taken the message is not known then.
    """
    global _down_until  # noqa: PLW0603
    if time.monotonic() < _down_until:
        return False
    try:
        _put("XADD", settings.TRACKING_STREAM, "*", MEMBER, message)
    except errors() as error:
        _down_until = time.monotonic() + PAUSE
        logger.error("Redis takes no hits, which are written at once instead: %s", error)
        return False
    return True


def _put(*command: Any) -> None:
    connection = _connection()
    try:
        try:
            connection.send_command(*command)
            connection.read_response()
        except redis.ConnectionError:
            # Idle, it may have been closed by the other side. What is put in twice is written once.
            connection.disconnect()
            connection.send_command(*command)
            connection.read_response()
    except BaseException:
        # Whatever it was: an answer that comes late would be taken for that of the next command.
        connection.disconnect()
        raise


# To take them out


def waiting() -> int:
    """Return how many messages are not written yet."""
    return int(client().xlen(settings.TRACKING_STREAM))


def failed() -> str:
    """Return what the stream is called of those that could not be written."""
    return f"{settings.TRACKING_STREAM}:failed"


class Message(NamedTuple):
    """What lies in the stream: its place there, whose the hit is, and the hit's line."""

    place: bytes
    whose: bytes
    line: bytes


def property_of(told: bytes) -> int:
    """Return in which property it is that a message says whose it is."""
    return int(told.partition(b"\t")[0])


def whose(told: bytes) -> list[str]:
    """Return the names of whose a message is, each as `named` takes it."""
    text = told.decode()
    property_id, *rest = text.split("\t")
    if len(rest) == 2:
        return [text]
    return [f"{property_id}\t{kind}\t{rest[2 * n + 1]}" for n, kind in enumerate(rest[::2])]


def named(told: str) -> tuple[int, Name]:
    """Return the property and the name."""
    property_id, kind, value = told.split("\t")
    return int(property_id), Name(kind, value)


def received(line: bytes) -> datetime:
    """Return when a hit was received."""
    return datetime.fromisoformat(line.split(b"\t", RECEIVED + 1)[RECEIVED].decode())


def numbered(line: bytes, number: int) -> bytes:
    """Return the line of a hit with another id."""
    return b"%d\t%b" % (number, line.partition(b"\t")[2])


def columns_of(line: bytes) -> dict[str, Any]:
    """Return what a line says, by the columns of the table."""
    told = dict(zip(COLUMNS, line.decode().split("\t"), strict=True))
    found: dict[str, Any] = {
        each: None if told[each] == NOTHING else int(told[each]) for each in NUMBERS
    }
    found |= {each: datetime.fromisoformat(told[each]) for each in MOMENTS}
    found |= {each: _unescaped(told[each]) for each in TEXTS}
    found |= {each: json.loads(found[each]) for each in ("click_ids", "meta")}
    return {**found, "is_informational": told["is_informational"] == "t"}


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    parts = text.split("\\\\")
    for meant, escape in ESCAPES:
        parts = [each.replace(escape, meant) for each in parts]
    return "\\".join(parts)


class Reader:
    """A writer's view of the stream: no message is given to two, unless one of them is gone.

    Whatever is taken is the writer's until it says that it is done; once it has been so for
    `claim_after` seconds, another one may claim it.
    """

    def __init__(self, claim_after: float) -> None:
        self.stream = settings.TRACKING_STREAM
        self.name = uuid4().hex
        self.claim_after = int(claim_after * 1000)
        self._redis = redis.Redis(connection_pool=client().connection_pool)
        # As it comes: to make a dictionary of each message takes longer than to read it.
        self._redis.set_response_callback("XREADGROUP", lambda answer, **options: answer)
        self.join()

    def join(self) -> None:
        """Be one of the writers, who may have been forgotten with all else that Redis had."""
        try:
            groups: Any = self._redis.xinfo_groups(self.stream)
        except redis.ResponseError:
            groups = []  # there is no stream yet
        # Not made again to see that it is there: a Redis that is full makes nothing.
        if any(each["name"] == GROUP.encode() for each in groups):
            return
        try:
            self._redis.xgroup_create(self.stream, GROUP, "0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def read(self, most: int, wait: float) -> list[Message]:
        """Return up to so many messages that nobody was given; wait for them some seconds."""
        # 0 would be for ever.
        block = max(1, int(wait * 1000))
        found: Any = self._redis.xreadgroup(
            GROUP, self.name, {self.stream: ">"}, count=most, block=block
        )
        return self._messages(_entries(found))

    def next(self, most: int, written: Collection[Message], wait: float = 0.0) -> list[Message]:
        """Let go what is written, and return the next messages."""
        self.done(written)
        return self.read(most, wait)

    def own(self, most: int) -> list[Message]:
        """Return up to so many messages that it was given itself, and has not written."""
        found: Any = self._redis.xreadgroup(GROUP, self.name, {self.stream: "0"}, count=most)
        return self._messages(_entries(found))

    def claim(self, most: int) -> list[Message]:
        """Return up to so many messages that somebody was given and has not written since."""
        found: Any = self._redis.xautoclaim(
            self.stream, GROUP, self.name, self.claim_after, count=most
        )
        return self._messages(found[1])

    def done(self, messages: Collection[Message]) -> None:
        """Say that messages are written, and let them go."""
        if not messages:
            return
        places = [each.place for each in messages]
        # Not in a transaction, in which a Redis that is full does nothing. Whoever is killed in
        # between leaves what is gone with whom it was given to, where it is found.
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.xdel(self.stream, *places)
            pipe.xack(self.stream, GROUP, *places)
            pipe.execute()

    def give_up(self, message: Message) -> None:
        """Put a message aside that cannot be written."""
        self._redis.xadd(failed(), {MEMBER: message.whose + b"\n" + message.line})
        self.done([message])

    def tend(self) -> float | None:
        """Forget writers that are gone; return the Unix time at which the oldest message came."""
        consumers: Any = self._redis.xinfo_consumers(self.stream, GROUP)
        for each in consumers:
            if not each["pending"] and each["idle"] > GONE * 1000:
                self._redis.xgroup_delconsumer(self.stream, GROUP, each["name"])
        oldest: Any = self._redis.xrange(self.stream, count=1)
        if not oldest:
            return None
        return int(oldest[0][0].partition(b"-")[0]) / 1000

    def close(self) -> None:
        """Leave, and let others have what was not written."""
        consumers: Any = self._redis.xinfo_consumers(self.stream, GROUP)
        if any(each["name"] == self.name.encode() and not each["pending"] for each in consumers):
            self._redis.xgroup_delconsumer(self.stream, GROUP, self.name)

    def _messages(self, entries: Any) -> list[Message]:
        found, gone = [], []
        for place, members in entries:
            if not members:
                gone.append(place)
                continue
            told = members[MEMBER] if isinstance(members, dict) else members[1]
            who, _, line = told.partition(b"\n")
            found.append(Message(place, who, line))
        if gone:
            # Deleted by hand, or by one who was killed before saying that they are written.
            self._redis.xack(self.stream, GROUP, *gone)
        return found


def _entries(answer: Any) -> Any:
    """Return what is in the one stream that was read, in either version of Redis' protocol."""
    if not answer:
        return []
    return next(iter(answer.values())) if isinstance(answer, dict) else answer[0][1]
