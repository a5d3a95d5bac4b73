"""Report everything that is wrong with the referrals' settings, at once, each by an id of its own.

Errors E001 to E009 are those of the settings, see conf.py. The rest:

- E010: AFFILIATE_REFERRALS_USER_HASH does not resolve
- E011: AFFILIATE_REFERRALS_KEY is the partners' key
- W012: who wanted no mails is forgotten, as a SECRET_KEY is gone
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Tags, Warning
from django.core.checks import register as register_check
from django.db import DatabaseError

from ..checks import against_rules, resolves
from ..conf import settings as core
from ..models.partners import site_keys
from ..signing import key_fingerprint
from .conf import settings
from .models import MailRefusal

__all__ = ["check_database", "check_settings", "register"]


def register() -> None:
    """Register the checks."""
    register_check(check_settings, "affiliations")
    register_check(check_database, Tags.database)


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Hold every setting of the referrals against its rule."""
    found = against_rules(settings)
    path = settings.REFERRALS_USER_HASH
    if isinstance(path, str) and "." in path.strip("."):
        name = "AFFILIATE_REFERRALS_USER_HASH"
        found += resolves(path, name, "affiliations_referrals.E010", callable)
    if settings.REFERRALS_KEY == core.QUERY_STRING_KEY:
        message = (
            f"AFFILIATE_REFERRALS_KEY is AFFILIATE_QUERY_STRING_KEY, {core.QUERY_STRING_KEY!r}."
        )
        hint = "A code of a member's would be taken for a partner: give one of them another name."
        found.append(Error(message, hint=hint, id="affiliations_referrals.E011"))
    return found


def check_database(
    app_configs: Sequence[AppConfig] | None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> list[CheckMessage]:
    """See that whoever wants no mails is still known by one of the site's keys."""
    found: list[CheckMessage] = []
    keys = {key_fingerprint(key) for key in site_keys()}
    for alias in databases or ():
        rows = MailRefusal.objects.using(alias)
        try:
            lost = rows.exclude(fingerprint__in=keys).count()
        except DatabaseError:
            continue  # not migrated yet
        if lost:
            message = f"{lost} refusals of mails were made with a SECRET_KEY that is gone."
            hint = "Put it into SECRET_KEY_FALLBACKS, or these people may be written to again."
            found.append(Warning(message, hint=hint, id="affiliations_referrals.W012"))
    return found
