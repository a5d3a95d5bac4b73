"""However often writers are killed: every hit that was accepted is stored, and stored once."""

import os
import random
import time
from collections import Counter

import pytest
from django.db.models import Count

from affiliations.tracking import hits, stream
from affiliations.tracking.models import Customer, Hit, Identity
from tests.core.promises import chaos
from tests.tracking.factories import known, make_property, names
from tests.tracking.streams import URL

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its processes by forking"),
]

LONG = [pytest.mark.long, pytest.mark.timeout(7200)]
HITS = int(os.environ.get("AFFILIATIONS_HITS", "500000"))
#: Seconds after which another one takes over: some who are only slow are taken for dead.
CLAIM_AFTER = 0.2


@pytest.fixture
def options(redis_sink, settings):
    return {
        "url": URL,
        "name": settings.AFFILIATE_TRACKING_STREAM,
        "claim_after": CLAIM_AFTER,
        "batch": 50,
    }


def accept(redis_sink, number, people):
    """Put so many hits into the stream, of so many people, of whom each has two names."""
    found, draw = known(make_property()), random.Random(1)
    with redis_sink.pipeline(transaction=False) as pipe:
        for each in range(number):
            who = draw.randrange(people)
            said = draw.choice(
                (f"cookie:of-{who}", f"client:c{who}", f"cookie:of-{who} client:c{who}")
            )
            told = hits.new_hit(found, type="pageview", title=str(each))
            message = stream.encoded(found.id, names(said), stream.next_number(), told)
            pipe.execute_command(
                "XADD", stream.settings.TRACKING_STREAM, "*", stream.MEMBER, message
            )
            if not each % 5000:
                pipe.execute()
        # Whatever came of the others, in the end they are one person's.
        for who in range(people):
            told = hits.new_hit(found, type="screen", title=f"last-{who}")
            message = stream.encoded(
                found.id, names(f"cookie:of-{who} client:c{who}"), stream.next_number(), told
            )
            pipe.execute_command(
                "XADD", stream.settings.TRACKING_STREAM, "*", stream.MEMBER, message
            )
        pipe.execute()


def assert_each_is_there_once(number, people):
    stored = Counter(Hit.objects.values_list("title", flat=True))
    expected = [*map(str, range(number)), *(f"last-{who}" for who in range(people))]
    lost = [each for each in expected if not stored[each]]
    twice = [each for each, times in stored.items() if times > 1]
    assert (len(lost), len(twice)) == (0, 0), f"lost: {lost[:10]}, twice: {twice[:10]}"
    assert len(stored) == len(expected)
    assert Hit.objects.values("pk").distinct().count() == len(expected)
    assert Identity.objects.count() == 2 * people
    assert Customer.objects.count() == people
    assert not Customer.objects.annotate(n=Count("identities")).exclude(n=2).exists()


def written_amid_kills(crew, options, *, writers, pause, patience, broken=()):
    """Have hits written by some who are killed at random; return how many were."""
    draw, kills = random.Random(2), 0
    pids = [crew.start("write hits", broken=broken, **options) for _ in range(writers)]
    until = time.monotonic() + patience
    while stream.waiting():
        assert time.monotonic() < until, f"{stream.waiting()} are still waiting"
        time.sleep(draw.uniform(0, pause))
        crew.kill(pids.pop(draw.randrange(writers)))
        kills += 1
        pids.append(crew.start("write hits", broken=broken, **options))
    crew.end()
    return kills


@pytest.mark.parametrize(
    ("number", "people", "writers", "pause", "least"),
    [(6000, 100, 3, 0.4, 3), pytest.param(HITS, 5000, 6, 0.6, 100, marks=LONG)],
)
def test_whoever_is_killed(crew, redis_sink, options, number, people, writers, pause, least):
    accept(redis_sink, number, people)
    # So small that on a fast machine, too, some are killed in the middle.
    options["batch"] = 100
    kills = written_amid_kills(crew, options, writers=writers, pause=pause, patience=7000)
    chaos.report({"hits": number, "kills": kills})
    assert kills >= least
    assert_each_is_there_once(number, people)


@pytest.mark.parametrize("stride", [3, pytest.param(1, marks=LONG)])
@pytest.mark.parametrize("behind", [False, True])
def test_whoever_is_killed_at_any_statement(crew, redis_sink, options, behind, stride):
    """Dead at the first statement, at a later one, and so on until one comes to its end."""
    accept(redis_sink, 10, 2)
    statement = 1 - stride
    while stream.waiting():
        statement += stride
        pid = crew.start("write hits", statement=statement, behind=behind, **options)
        chaos.wait_for(lambda pid=pid: not stream.waiting() or crew.code(pid) is not None)
    assert statement > 5
    assert_each_is_there_once(10, 2)


def test_whoever_is_killed_when_it_is_committed(crew, redis_sink, options):
    accept(redis_sink, 200, 10)
    assert crew.run("write hits", point="hits-committed", **options) == -9
    assert (Hit.objects.count(), stream.waiting()) == (50, 210)
    written_amid_kills(crew, options, writers=1, pause=1.0, patience=60)
    assert_each_is_there_once(200, 10)


def broken_writer(crew, redis_sink, options, broken):
    accept(redis_sink, 200, 10)
    assert crew.run("write hits", point="hits-committed", broken=[broken], **options) == -9
    written_amid_kills(crew, options, writers=1, pause=1.0, patience=60, broken=[broken])


def test_teeth_that_forget_what_is_written(crew, redis_sink, options):
    broken_writer(crew, redis_sink, options, "forgetful")
    with pytest.raises(AssertionError, match="twice"):
        assert_each_is_there_once(200, 10)


def test_teeth_that_let_go_before_it_is_written(crew, redis_sink, options):
    accept(redis_sink, 200, 10)
    assert crew.run("write hits", statement=6, broken=["let go first"], **options) == -9
    written_amid_kills(crew, options, writers=1, pause=1.0, patience=60)
    with pytest.raises(AssertionError, match="lost"):
        assert_each_is_there_once(200, 10)
