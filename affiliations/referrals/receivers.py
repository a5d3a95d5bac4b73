"""React to the signals of Django and of the core."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.db.models.signals import post_save

from .. import arrivals
from ..context import current_request
from ..signals import user_exported, user_forgotten
from ..visits import user_of
from . import privacy, sharing
from .conf import settings


def join(*, instance: Any, created: bool, raw: bool = False, **kwargs: Any) -> None:
    """Register whoever signs up in a browser that has followed a share link.

    Not whom somebody makes who is logged in, as staff do.
    """
    request = current_request.get()
    if created and not raw and request is not None and user_of(request) is None:
        sharing.join(request, instance)


def connect() -> None:
    """Connect everything in this module, once."""
    key = lambda: str(settings.REFERRALS_KEY)  # noqa: E731 # it may change in tests
    arrivals.register("referrals", key, sharing.is_code, sharing.arrive)
    post_save.connect(join, sender=get_user_model(), dispatch_uid="affiliations.referrals.join")
    user_exported.connect(privacy.export, dispatch_uid="affiliations.referrals.export")
    user_forgotten.connect(privacy.forget, dispatch_uid="affiliations.referrals.forget")
