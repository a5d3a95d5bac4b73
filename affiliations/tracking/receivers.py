"""React to the signals of Django and of the core."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_delete, post_save

from ..signals import user_exported, user_forgotten, visitor_identified
from . import privacy, properties, users
from .identities import Kind, identify, name
from .models import EventType, Property


def become_known(*, ident: str, user: Any, **kwargs: Any) -> None:
    """Give the browser's customer in this site's property the user whom it has become."""
    prop = properties.own()
    if prop is not None and ident:
        identify(prop.row, [*users.names_of(user), name(Kind.COOKIE, ident)])


def connect() -> None:
    """Connect everything in this module, once."""
    visitor_identified.connect(become_known, dispatch_uid="affiliations.tracking.identify")
    user_exported.connect(privacy.export, dispatch_uid="affiliations.tracking.export")
    user_forgotten.connect(privacy.forget, dispatch_uid="affiliations.tracking.forget")
    # A change is seen at once in the process that made it.
    for signal in (post_save, post_delete):
        for model in (Property, EventType):
            signal.connect(
                properties.forget, sender=model, dispatch_uid=f"affiliations.tracking.{model}"
            )
