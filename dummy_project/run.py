"""Open the shop until somebody closes it."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from pathlib import Path

from django.core.management import call_command
from django.db import connection

from . import seed
from .server import Demo

BANNER = """
  Harbour Kiln is open: a shop with an affiliate partner, the {partner}, and a network, {network}.

  1  {url}/partner-site/      Follow one of Anna's links to the shop.
  2  {url}/sign-up/           Sign up there, then order something.
  3  {url}/partner-site/log/  See what Anna's site was told, and what she has earned.
  4  {url}/network/           Follow a link of {network}'s, order, and see there what it was told.
  5  {url}/friends/           Invite a friend: sign up in another browser by your link, and order.
  6  {url}/admin/             In a private window, as staff: {staff} / {staff} (this demo only).
  7  {url}/admin/affiliations_rewards/  What partners earn, by which rules, and how they are paid.
  8  {url}/admin/affiliations_attribution/attributionreport/?by=channel  By which ways orders came.
  9  {url}/admin/affiliations_experiments/campaign/  Who is shown which button, and what came of it.
 10  {url}/api/links/docs     For programs: the API of the links.

  A refund's alert, which would be mailed, is printed here.
  Database: {database}
  Stop with Ctrl-C.
"""


def run(port: int) -> int:
    """Prepare the database, serve the shop and deliver its callbacks; return the exit status."""
    try:
        demo = Demo(port)
    except OSError as error:
        print(why_not(port, error), file=sys.stderr)
        return 1
    try:
        call_command("migrate", verbosity=0)
        seed.prepare(demo.url, past=True)
        connection.close()
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        demo.start()
        print(
            BANNER.format(
                partner=seed.PARTNER,
                network=seed.NETWORK,
                url=demo.url,
                staff=seed.STAFF,
                database=database(),
            ),
            flush=True,
        )
        # In short waits: on Windows a signal does not end a long one.
        while not stop.wait(1):
            pass
        print("  The shop is closed.")
    finally:
        demo.stop()
    return 0


def why_not(port: int, error: OSError) -> str:
    """Say why the port cannot be had, and what to do."""
    other = port + 1 if port < 2**16 - 1 else 8001
    reason = (
        f"Port {port} is busy: something else, or another demo, is served there."
        if error.errno == errno.EADDRINUSE
        else f"Port {port} cannot be served on: {error.strerror}."
    )
    return f"{reason}\nTake another one: python -m dummy_project --port {other}"


def database() -> str:
    """Say where the demo keeps what it knows."""
    if connection.vendor == "sqlite":
        file = Path(str(connection.settings_dict["NAME"]))
        return f"{os.path.relpath(file)} (delete it to start over)"
    where = connection.settings_dict
    return f"{where['NAME']} on {connection.display_name} at {where['HOST'] or 'this machine'}"
