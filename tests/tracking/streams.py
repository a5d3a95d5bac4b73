"""A Redis for tests, of which each test has a stream of its own."""

import os
from uuid import uuid4

import pytest
import redis

from affiliations.tracking import stream
from affiliations.tracking.writing import Writer

URL = os.environ.get("AFFILIATIONS_REDIS", "redis://127.0.0.1:6379/15")


@pytest.fixture
def redis_sink(settings):
    """Have hits go through a stream that is nobody else's; return what speaks with Redis."""
    settings.AFFILIATE_TRACKING_SINK = URL
    settings.AFFILIATE_TRACKING_STREAM = f"test:{uuid4().hex}"
    client = redis.Redis.from_url(URL)
    try:
        client.ping()
    except redis.ConnectionError:
        if os.environ.get("AFFILIATIONS_REQUIRE_REDIS"):
            raise
        pytest.skip(f"no Redis at {URL}")
    stream.forget()
    yield client
    for key in client.scan_iter(f"{settings.AFFILIATE_TRACKING_STREAM}*"):
        client.delete(key)


def write_all(**options):
    """Write what waits; return how many messages that were."""
    writer = Writer(**{"claim_after": 0.0, **options})
    writer.run(loop=False)
    return writer.written
