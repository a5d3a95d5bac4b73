"""React to the signals of Django."""

from __future__ import annotations

from django.db.models.signals import post_delete, post_save

from . import properties
from .models import EventType, Property


def connect() -> None:
    """Connect everything, once: a change is seen at once in the process that made it."""
    for signal in (post_save, post_delete):
        for model in (Property, EventType):
            signal.connect(
                properties.forget, sender=model, dispatch_uid=f"affiliations.tracking.{model}"
            )
