"""Report everything that is wrong with the tracking's settings, at once, each by an id of its own.

- E001, E002, E005 to E010: a setting breaks its rule, see conf.py
- E003: AFFILIATE_TRACKING_CLIENT_IDS does not resolve
- E011: AFFILIATE_TRACKING_SINK is a Redis, and the package that speaks with it is not installed
- W004: AFFILIATE_TRACKING_PROPERTY is the key of no property (asks the database)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Tags, Warning
from django.core.checks import register as register_check
from django.db import DatabaseError, router

from ..checks import against_rules, resolves
from . import stream
from .conf import settings
from .models import Property

__all__ = ["check_property", "check_settings", "register"]


def register() -> None:
    """Register the checks."""
    register_check(check_settings, "affiliations")
    register_check(check_property, "affiliations", Tags.database)


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Hold every setting of the tracking against its rule."""
    found = against_rules(settings)
    hook = settings.TRACKING_CLIENT_IDS
    if isinstance(hook, str) and "." in hook.strip("."):
        name = "AFFILIATE_TRACKING_CLIENT_IDS"
        found += resolves(hook, name, "affiliations_tracking.E003", callable)
    if stream.is_used() and not stream.is_installed():
        message = "AFFILIATE_TRACKING_SINK is a Redis, and there is nothing to speak with it."
        hint = "pip install django-affiliations[redis]"
        found.append(Error(message, hint=hint, id="affiliations_tracking.E011"))
    return found


def check_property(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Look whether there is the property that the site says it is."""
    key, using = settings.TRACKING_PROPERTY, router.db_for_read(Property)
    if not key or using not in (databases or ()):
        return []
    try:
        there = Property.objects.using(using).filter(public_key=key).exists()
    except DatabaseError:
        # Before the first migration there is none, and no table.
        return []
    if there:
        return []
    message = f"AFFILIATE_TRACKING_PROPERTY is {key!r}, and no property has that public key."
    hint = "Nothing of this site is recorded. Add one in the admin, or with issue()."
    return [Warning(message, hint=hint, id="affiliations_tracking.W004")]
