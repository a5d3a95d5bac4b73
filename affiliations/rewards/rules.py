"""Take a rule from its draft to its end, each step once."""

from __future__ import annotations

from datetime import datetime

from django.db import connections, models, router, transaction
from django.utils import timezone

from ..exceptions import InvalidTransition
from .models import CommissionRule
from .models.rules import LEAD

__all__ = ["draft_replacement", "publish", "retire"]

#: What a replacement does not take over. It begins when it is published.
ITS_OWN = {"id", "created_on", "published_on", "replaces", "valid_from"}


def draft_replacement(rule: CommissionRule) -> CommissionRule:
    """Return a draft with the terms of a published rule, to be changed and published in its place.

    What tiers, caps and times count goes on in it. Raises InvalidTransition for a rule that is a
    draft itself.
    """
    using = router.db_for_write(CommissionRule)
    stored = CommissionRule.objects.using(using).get(pk=rule.pk)
    if not stored.is_published:
        raise InvalidTransition(f"rule: {stored} is a draft, which can be changed itself")
    taken = [field.attname for field in stored._meta.concrete_fields if field.name not in ITS_OWN]
    draft = CommissionRule(**{name: getattr(stored, name) for name in taken}, replaces=stored)
    draft.save(using=using)
    return draft


def publish(rule: CommissionRule) -> None:
    """Let a draft hold from a few seconds ahead on, and what it replaces end at that moment.

    Where the draft says from when on it is valid, that is when the other one ends. It is ten
    seconds ahead, so that no conversion is under way then: commit within that time.

    Raises InvalidTransition where the rule is published already, where another one was published
    in the place of what it replaces, and where it would end before it begins. Then nothing has
    changed.
    """
    using = router.db_for_write(CommissionRule)
    rows = CommissionRule.objects.using(using)
    with transaction.atomic(using=using):
        # Conversions that are paid by them go on, where that is possible.
        no_key = connections[using].features.has_select_for_no_key_update
        locked = rows.select_for_update(no_key=no_key)
        # First what it replaces: of several drafts of it at once each waits for the one before.
        list(locked.filter(replaced_by=rule.pk))
        stored = locked.get(pk=rule.pk)
        start = timezone.now() + LEAD
        begins = max(start, stored.valid_from or start)
        if stored.valid_until is not None and stored.valid_until <= begins:
            raise InvalidTransition(f"valid_until: {stored} would end before it begins")
        published = rows.filter(published_on__isnull=False).exclude(pk=rule.pk)
        if stored.replaces_id is not None:
            if published.filter(replaces=stored.replaces_id).exists():
                raise InvalidTransition(f"rule: what {stored} replaces was replaced by another one")
            _end(published.filter(pk=stored.replaces_id), begins)
        if not rows.filter(pk=rule.pk, published_on=None).update(published_on=start):
            raise InvalidTransition(f"rule: {stored} is published already")
    rule.refresh_from_db(using=using)


def retire(rule: CommissionRule) -> None:
    """Let a rule end a few seconds ahead, with nothing in its place.

    Raises InvalidTransition where it is a draft, or has ended.
    """
    using = router.db_for_write(CommissionRule)
    rows = CommissionRule.objects.using(using)
    if not _end(rows.filter(pk=rule.pk, published_on__isnull=False), timezone.now() + LEAD):
        raise InvalidTransition(f"rule: {rule} is a draft, or has ended")
    rule.refresh_from_db(using=using)


def _end(rules: models.QuerySet[CommissionRule], moment: datetime) -> int:
    """Let rules end at a moment, unless they have ended by then; return how many did."""
    later = models.Q(valid_until=None) | models.Q(valid_until__gt=moment)
    return rules.filter(later).update(valid_until=moment)
