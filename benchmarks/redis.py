"""A stream of its own in a Redis, where there is one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import redis
from django.test import override_settings

URL = os.environ.get("AFFILIATIONS_REDIS", "redis://127.0.0.1:6379/15")


def is_there() -> bool:
    """Tell whether there is a Redis."""
    try:
        redis.Redis.from_url(URL).ping()
    except redis.ConnectionError:
        return False
    return True


@contextmanager
def sink() -> Iterator[str]:
    """Let hits go through Redis meanwhile; yields the stream's name, "" where there is no Redis."""
    if not is_there():
        yield ""
        return
    name = f"benchmarks:{uuid4().hex}"
    with override_settings(AFFILIATE_TRACKING_SINK=URL, AFFILIATE_TRACKING_STREAM=name):
        try:
            yield name
        finally:
            redis.Redis.from_url(URL).delete(name, f"{name}:processes")
