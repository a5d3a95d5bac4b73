"""A visitor who is credited because somebody knows whose click it was."""

import pytest
from django.utils import timezone

from affiliations.models import Conversion
from affiliations.money import Money
from affiliations.services import credit_visitor
from tests.core.factories import make_partner, make_user, make_visitor

pytestmark = pytest.mark.django_db

SAID = {"trigger": "Bought", "reference": "A-1", "policy": "transaction"}


def test_it_is_credited_and_what_its_partner_wants_is_sent():
    partner = make_partner({"Bought": "http://127.0.0.1:9/x?v={visitor_id}&a={amount}"})
    visitor = make_visitor(partner)
    make_visitor(partner, clicked_on=timezone.now())
    user = make_user()
    conversion = credit_visitor(visitor, **SAID, user=user, money=Money(1250, "EUR"))
    assert conversion is not None
    assert (conversion.visitor, conversion.user) == (visitor, user)
    [share] = conversion.shares.all()
    assert (share.visitor, share.weight) == (visitor, 1)
    assert conversion.decision["policy"] == "transaction"
    [callback] = conversion.callbacks.all()
    assert callback.url == f"http://127.0.0.1:9/x?v={visitor.pk}&a=12.50"
    visitor.refresh_from_db()
    assert visitor.successful_on is not None
    assert visitor.user == user


def test_it_needs_no_subscription_and_is_credited_once():
    visitor = make_visitor()
    assert credit_visitor(visitor, **SAID) is not None
    assert credit_visitor(visitor, **SAID) is None
    assert Conversion.objects.count() == 1


def test_it_is_not_where_the_deal_is_over():
    visitor = make_visitor(make_partner(active=False))
    assert credit_visitor(visitor, **SAID) is None
    assert not Conversion.objects.exists()
