"""Erase a user from what is held."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand

from ...privacy import forget_user
from .export_user import user_named


class Command(BaseCommand):
    """Erase a user from everything that the core holds. The account itself stays."""

    help = __doc__

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the user's name."""
        parser.add_argument("username")

    def handle(self, *args: Any, **options: Any) -> None:
        """Erase, and say how many rows of what were touched."""
        for what, number in forget_user(user_named(options["username"])).items():
            self.stdout.write(f"{what}: {number}")
