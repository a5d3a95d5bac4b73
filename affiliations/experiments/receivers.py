"""React to the signals of Django, of the core and of the tracking."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_delete, post_save

from ..signals import visitor_identified
from ..tracking.signals import identities_exported, identities_forgotten
from . import carrying, live, privacy
from .models import Campaign, Environment


def become_known(*, ident: str, user: Any, **kwargs: Any) -> None:
    """Let a browser's user go on with what it has seen."""
    carrying.carry(ident=ident, user=user)


def connect() -> None:
    """Connect everything in this module, once."""
    visitor_identified.connect(become_known, dispatch_uid="affiliations.experiments.carry")
    identities_exported.connect(privacy.export, dispatch_uid="affiliations.experiments.export")
    identities_forgotten.connect(privacy.forget, dispatch_uid="affiliations.experiments.forget")
    # A change is seen at once in the process that made it.
    for signal in (post_save, post_delete):
        for model in (Campaign, Environment):
            signal.connect(
                live.forget, sender=model, dispatch_uid=f"affiliations.experiments.{model}"
            )
