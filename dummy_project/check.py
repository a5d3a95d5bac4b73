"""Go through all of it over real HTTP, and show the evidence of each step."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import OperationalError, connection

from . import seed
from .attribution_walk import AttributionWalk
from .earnings_walk import EarningsWalk
from .experiments_walk import ExperimentsWalk
from .friends_walk import FriendsWalk
from .network_walk import NetworkWalk
from .partner_walk import PartnerWalk
from .server import Demo
from .tracking_walk import TrackingWalk

#: Seconds that all of it may take.
LIMIT = 60
#: Seconds before that at which a step gives up waiting, so that there is time to tidy up.
TIDY = 5
PREFIX = "test_affiliations_demo_"
#: The ways to go, one customer after the other.
WALKS = (
    PartnerWalk,
    NetworkWalk,
    EarningsWalk,
    FriendsWalk,
    TrackingWalk,
    AttributionWalk,
    ExperimentsWalk,
)


def check() -> int:
    """Go each way; print each step with its evidence; return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    started = time.monotonic()
    watchdog = threading.Timer(LIMIT, give_up)
    watchdog.daemon = True
    watchdog.start()
    try:
        with temporary_database() as name, demo() as shop:
            print(f"  {shop.url}, {connection.display_name} database {name}", flush=True)
            deadline = started + LIMIT - TIDY
            done = all(walk(shop.url, deadline).run() for walk in WALKS)
    finally:
        watchdog.cancel()
    took = f"{time.monotonic() - started:.1f} s"
    print(f"\n  Everything holds ({took})." if done else f"\n  It does not hold ({took}).")
    return 0 if done else 1


def give_up() -> None:
    """End the process: something hangs where no step can see it."""
    print(f"✗ It took longer than {LIMIT} s.", file=sys.stderr, flush=True)
    if connection.vendor != "sqlite":
        print(f"  Its database, {PREFIX}…, may be left behind.", file=sys.stderr, flush=True)
    os._exit(1)


@contextmanager
def temporary_database() -> Iterator[str]:
    """Give the process a new, migrated database beside the one of the settings, and drop it."""
    own = connection.settings_dict["NAME"]
    name = PREFIX + secrets.token_hex(4)
    with tempfile.TemporaryDirectory() as directory:
        test = connection.settings_dict["TEST"]
        test["NAME"] = str(Path(directory, name)) if connection.vendor == "sqlite" else name
        if connection.vendor == "mysql":
            test["CHARSET"] = "utf8mb4"
        connection.creation.create_test_db(verbosity=0)
        try:
            yield name
        finally:
            drop(own)


def drop(own: str) -> None:
    """Drop the temporary database, once the last request has let go of it."""
    for patience in (0.1, 0.4, 2):
        try:
            return connection.creation.destroy_test_db(own, verbosity=0)
        except OperationalError:
            time.sleep(patience)
    return connection.creation.destroy_test_db(own, verbosity=0)


@contextmanager
def demo() -> Iterator[Demo]:
    """Open the shop on a free port."""
    shop = Demo()
    try:
        seed.prepare(shop.url)
        shop.start()
        yield shop
    finally:
        shop.stop()
