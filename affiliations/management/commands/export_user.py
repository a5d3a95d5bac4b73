"""Print what is held on a user."""

from __future__ import annotations

import argparse
import json
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

from ...privacy import export_user


def user_named(username: str) -> Any:
    """Return the user of that name; raises CommandError where there is none."""
    User = get_user_model()
    try:
        return User._default_manager.get_by_natural_key(username)
    except User.DoesNotExist as error:
        raise CommandError(f"There is no user {username!r}.") from error


class Command(BaseCommand):
    """Print all that the core holds on a user, as JSON."""

    help = __doc__

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the user's name."""
        parser.add_argument("username")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print."""
        held = export_user(user_named(options["username"]))
        self.stdout.write(json.dumps(held, indent=2, ensure_ascii=False))
