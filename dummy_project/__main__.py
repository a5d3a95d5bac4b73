"""Run the demo: `python -m dummy_project --help`."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module

import django
from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import NotSupportedError, OperationalError

PORT = 8000

EPILOG = """\
python -m dummy_project manage COMMAND runs Django's own commands on the same database, such as
manage shell, manage test or manage deliver_callbacks.
"""


def main(argv: list[str]) -> int:
    """Run the shop, the check or a command of Django's; return the exit status."""
    own, command = argv, None
    if "manage" in argv:
        own, command = argv[: argv.index("manage")], argv[argv.index("manage") + 1 :]
    options = parser().parse_args(own)
    # Not left to what the shell says: a newcomer's may name the settings of their own project.
    os.environ["DJANGO_SETTINGS_MODULE"] = "dummy_project.settings"
    if options.database_url:
        os.environ["DATABASE_URL"] = options.database_url
    if command is not None:
        execute_from_command_line(["python -m dummy_project manage", *command])
        return 0
    try:
        django.setup()
        # Imported here and by name: what they import can be imported only after the set-up. The
        # addresses first, so that a package that they miss is named before anything is served.
        import_module("dummy_project.urls")
        if options.check:
            return int(import_module("dummy_project.check").check())
        return int(import_module("dummy_project.run").run(options.port))
    except Exception as error:
        if not (advice := way_out(error)):
            raise
        print(f"{str(error).strip()}\nLook at: {advice}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    reader = argparse.ArgumentParser(
        prog="python -m dummy_project",
        description="A shop with an affiliate partner, to see the suite at work.",
        epilog=EPILOG,
    )
    reader.add_argument(
        "--port", type=port, default=PORT, help="where on 127.0.0.1 to serve (%(default)s)"
    )
    reader.add_argument(
        "--database-url",
        metavar="URL",
        help="PostgreSQL or MariaDB instead of a SQLite file, as postgres://user@host/name or "
        "mysql://user@host/name; or set DATABASE_URL",
    )
    reader.add_argument(
        "--check",
        action="store_true",
        help="walk through the whole flow over HTTP, on a free port and a temporary database, and "
        "print what came of each step",
    )
    return reader


def port(text: str) -> int:
    """Read a port that can be served on."""
    if text.isdecimal() and 0 < int(text) < 2**16:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 65535")


def way_out(error: Exception) -> str:
    """Return what to look at where an error is not the demo's own, else nothing."""
    if isinstance(error, ModuleNotFoundError) and error.name in ("dj_database_url", "ninja"):
        return "pip install -e '.[demo]'"
    if isinstance(error, ImproperlyConfigured):
        return "pip install -e '.[demo,postgres]' or '.[demo,mariadb]'"
    about_its_url = type(error).__module__ == "dj_database_url"
    if about_its_url or isinstance(error, NotSupportedError | OperationalError):
        return "--database-url, or DATABASE_URL: is the database there, and ours to use?"
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
