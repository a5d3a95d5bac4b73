"""Rows for tests, as plain functions."""

from collections.abc import Mapping
from itertools import count
from typing import Any

from django.contrib.auth import get_user_model

from affiliations.models import Partner, Subscription, Visitor

numbers = count(1)


def make_partner(subscriptions: Mapping[str, str] | None = None, **fields: Any) -> Partner:
    """Return an active partner, subscribed to triggers at callback URLs ("" to tell nobody)."""
    fields = {"name": f"Partner {next(numbers)}", "active": True, **fields}
    partner = Partner.objects.create(**fields)
    for trigger, url in (subscriptions or {}).items():
        Subscription.objects.create(partner=partner, trigger=trigger, callback_url=url)
    return partner


def make_visitor(partner: Partner | None = None, **fields: Any) -> Visitor:
    """Return a visitor of `partner`, or of a new one."""
    return Visitor.objects.create(
        **{"partner": partner or make_partner(), "entry_point": "http://testserver/", **fields}
    )


def make_user(username: str = "") -> Any:
    """Return a user, without a password."""
    return get_user_model().objects.create_user(username=username or f"user{next(numbers)}")
