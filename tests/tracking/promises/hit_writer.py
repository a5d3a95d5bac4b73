"""A process that writes the hits which come through Redis: chaos_worker.py, in "write hits"."""

from typing import Any

from django.conf import settings

from affiliations.management.stopping import stopped_by_signals
from affiliations.tracking import stream, writing
from tests.rewards.promises.payer import die_at


def write(
    *, url: str, name: str, batch: int, claim_after: float, statement: int = 0, behind: bool = False
) -> None:
    """Write, or die at the database's statement of that number, or behind it."""
    settings.AFFILIATE_TRACKING_SINK, settings.AFFILIATE_TRACKING_STREAM = url, name
    die_at(statement, behind)
    writer = writing.Writer(batch=batch, claim_after=claim_after)
    with stopped_by_signals(writer.stop):
        writer.run(loop=True)


def let_go_first() -> None:
    """Let messages go from Redis as soon as they are taken, as one does who knows no groups."""
    read = stream.Reader.read

    def taken(reader: stream.Reader, *arguments: Any) -> Any:
        found = read(reader, *arguments)
        if found:
            reader.done(found)
        return found

    stream.Reader.read = taken  # type: ignore[method-assign]


def forgetful() -> None:
    """Write what was taken over without a look at what is there, under an id of the database's."""
    put = writing._put

    def anew(rows: Any, using: str) -> None:
        put([(stream.numbered(line, stream.next_number()), whose) for line, whose in rows], using)

    writing._put = anew
    writing._new = lambda rows, using: rows
