"""A site's process that is posted to, by as many threads as one likes.

What chaos_worker.py does in the role "post", and how it is broken.
"""

import json
import os
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from django.conf import settings
from django.db import connection
from django.test import Client

from affiliations.tracking import limits

ADDRESS = "81.2.69.160"
BODY = {"public_key": "SHOP", "type": "pageview", "aliases": ["c"]}
SENT = json.dumps({"event": BODY})
#: Each of whom has forged where it comes from.
FORGED = ("x-forwarded-for", "x-real-ip", "true-client-ip", "cf-connecting-ip")


def post_all(threads: int, calls: int, wait=lambda: None) -> Counter:
    """Let each of so many threads post so often; return how often each status was answered."""

    def work(number: int) -> Counter:
        draw, client, seen = random.Random(f"{os.getpid()} {number}"), Client(), Counter()
        wait()
        try:
            for _ in range(calls):
                address = f"{draw.randrange(1, 224)}.{draw.randrange(256)}.0.1"
                headers = dict.fromkeys(FORGED, address)
                headers["forwarded"] = f"for={address}"
                answer = client.post(
                    "/attribution/events",
                    SENT,
                    content_type="application/json",
                    headers=headers,
                    REMOTE_ADDR=ADDRESS,
                )
                seen[answer.status_code] += 1
                assert answer.status_code == 201 or int(answer["Retry-After"]) >= 1
        finally:
            connection.close()
        return seen

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(work, range(threads)), Counter())


def post(*, rates: dict[str, str], threads: int, calls: int, journal: str) -> None:
    """Post, and add to a journal how often each status was answered."""
    settings.AFFILIATE_TRACKING_LIMITS = rates
    seen = post_all(threads, calls)
    book = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(book, f"{json.dumps(seen)}\n".encode())


def uncounted() -> None:
    """Count in each process for itself, as where what is cached is not shared."""
    used: Counter = Counter()

    def draw(digest, rate, size, *, is_new):
        used[digest] += 1
        left = int(used[digest] <= rate.number)
        return limits.Lease(left, left, time.monotonic() + rate.seconds)

    limits._draw = draw
