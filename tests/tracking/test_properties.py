"""A property's secret is shown once, and what may write to it is well-formed."""

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from affiliations.tracking.models import EventType, Property
from tests.tracking.factories import make_property

pytestmark = pytest.mark.django_db


def test_a_secret_is_shown_once():
    made, secret = Property.objects.issue(name="Shop")
    assert len(secret) == 43
    kept = Property.objects.get(pk=made.pk)
    assert secret not in str(vars(kept))
    assert kept.is_secret(secret)
    for wrong in ("", secret[:-1], secret.swapcase(), "ä", "\ud800", kept.digest):
        assert not kept.is_secret(wrong)


def test_another_secret_ends_the_one_before():
    made, secret = Property.objects.issue(name="Shop")
    other = made.renew_secret()
    made.save()
    kept = Property.objects.get()
    assert (kept.is_secret(secret), kept.is_secret(other)) == (False, True)


def test_one_without_a_secret_lets_nobody_read():
    made = Property.objects.create(name="Shop")
    assert not made.is_secret("")


@pytest.mark.parametrize(
    "origin", ["https://shop.example", "http://localhost:8000", "http://[::1]"]
)
def test_origins(origin):
    make_property(origins=[origin]).full_clean(exclude=["digest"])


@pytest.mark.parametrize(
    "origins",
    [
        "https://shop.example",
        {"a": 1},
        [1],
        [""],
        ["*"],
        ["null"],
        ["shop.example"],
        ["https://shop.example/"],
        ["https://Shop.example"],
        ["https://shop.example\n"],
        ["javascript:alert(1)"],
        ["https://a b"],
        [f"https://{'a' * 200}"],
        ["https://a.example"] * 101,
    ],
)
def test_what_is_no_origin(origins):
    with pytest.raises(ValidationError) as caught:
        make_property(origins=origins).full_clean(exclude=["digest"])
    assert caught.value.message_dict.keys() == {"origins"}


@pytest.mark.parametrize("key", ["", "a b", "ä", "a/b", "a\n", "x" * 65])
def test_what_is_no_key(key):
    with pytest.raises(ValidationError) as caught:
        Property(name="Shop", public_key=key, digest="x").full_clean()
    assert caught.value.message_dict.keys() == {"public_key"}


def test_keys_are_told_apart():
    shop = make_property(public_key="abc")
    make_property(public_key="ABC")
    event = EventType.objects.create(property=shop, key="order", name="Order", public_key="o")
    EventType.objects.create(property=make_property(), key="order", name="Order", public_key="o")
    assert str(event) == "Order"
    for fields in ({"key": "order"}, {"key": "other", "public_key": "o"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            EventType.objects.create(property=shop, name="Order", **fields)
