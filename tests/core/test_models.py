"""The rows: partners and their ids and secrets, subscriptions, visitors, keys."""

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from affiliations import exceptions, models, signing
from affiliations.exceptions import InvalidApiKey, InvalidCallbackURL, InvalidTransition
from affiliations.models import ApiKey, Conversion, Partner, Subscription, Visitor
from affiliations.models import partners as partners_module
from affiliations.testing import freeze
from tests.core.factories import make_partner, make_user, make_visitor

pytestmark = pytest.mark.django_db


def test_a_uid_is_made_once_and_never_changed():
    partner = Partner.objects.create(name="Anna")
    assert len(partner.uid) == 8
    assert partner.uid.isalnum()
    uid = partner.uid
    partner.name = "Anna's blog"
    partner.save()
    assert Partner.objects.get().uid == uid
    for instance in (partner, Partner.objects.get()):
        instance.uid = "changed1"
        with pytest.raises(InvalidTransition, match="uid"):
            instance.save()
    assert Partner.objects.get().uid == uid
    assert not Partner._meta.get_field("uid").editable


def test_a_uid_that_is_taken_is_drawn_again(monkeypatch):
    taken = make_partner().uid
    draws = iter([taken, taken, "fresh123"])
    monkeypatch.setattr(partners_module, "get_random_string", lambda length: next(draws))
    monkeypatch.setattr(Partner._meta.get_field("secret_salt"), "default", "salt")
    with transaction.atomic():
        assert Partner.objects.create(name="B").uid == "fresh123"
        assert Partner.objects.count() == 2


def test_another_broken_constraint_is_not_taken_for_a_collision():
    partner = make_partner()
    with pytest.raises(IntegrityError), transaction.atomic():
        Partner(pk=partner.pk, name="B").save(force_insert=True)


def test_uids_differ():
    assert len({make_partner().uid for _ in range(50)}) == 50


@pytest.mark.parametrize(
    ("url", "link"),
    [
        ("https://shop.example/", "https://shop.example/?affiliate_id={}"),
        ("/a?b=1#c", "/a?b=1&affiliate_id={}#c"),
    ],
)
def test_a_partners_link(url, link):
    partner = make_partner()
    assert partner.link(url) == link.format(partner.uid)


def test_a_secret_is_shown_once_and_not_stored():
    partner = make_partner()
    before = partner.signing_secrets()
    shown = partner.rotate_secret()
    assert signing.decode_secret(shown) == partner.signing_secrets()[0]
    stored = repr(Partner.objects.filter(pk=partner.pk).values().get())
    assert shown.removeprefix("whsec_") not in stored
    assert Partner.objects.get().signing_secrets() == [signing.decode_secret(shown), *before]
    assert len({make_partner().signing_secrets()[0] for _ in range(20)}) == 20


# Subscriptions


@pytest.mark.parametrize(
    "url",
    [
        "https://p.example/",
        "https://{visitor_id}.example/",
        "ftp://p.example/{visitor_id}",
        "https://p.example/{visitor_id}{0}",
        "https://p.example/{visitor_id.__class__}",
        "x" * 2001,
    ],
)
def test_a_callback_url_that_cannot_be_called_is_refused(url):
    partner = make_partner()
    with pytest.raises(InvalidCallbackURL):
        Subscription.objects.create(partner=partner, trigger="T", callback_url=url)
    with pytest.raises(ValidationError) as caught:
        Subscription(partner=partner, trigger="T", callback_url=url).full_clean()
    assert "callback_url" in caught.value.message_dict
    assert not Subscription.objects.exists()


def test_the_predecessors_error_is_where_it_was():
    assert exceptions.InvalidCallBackURL is models.InvalidCallBackURL is InvalidCallbackURL


def test_a_partner_is_subscribed_to_a_trigger_once():
    partner = make_partner({"T": ""})
    with pytest.raises(IntegrityError), transaction.atomic():
        Subscription.objects.create(partner=partner, trigger="T")


# Visitors


def test_a_visitor_succeeds_once_and_gets_its_user_only_then():
    ada, bob = make_user("ada"), make_user("bob")
    visitor = make_visitor()
    twin = Visitor.objects.get()
    with freeze() as clock:
        assert visitor.succeed(ada) is True
        assert (visitor.successful_on, visitor.user) == (clock.now, ada)
        clock.tick(days=1)
        assert twin.succeed(bob) is False
        assert twin.user == ada
        assert visitor.succeed(bob) is False
    visitor.refresh_from_db()
    assert visitor.user == ada


def test_a_user_that_is_deleted_leaves_its_visitors():
    visitor = make_visitor(user=(user := make_user()))
    user.delete()
    visitor.refresh_from_db()
    assert visitor.user is None


# Conversions


def test_the_same_reference_converts_once_for_a_visitor_whoever_writes_it():
    visitor = make_visitor()
    Conversion.objects.create(visitor=visitor, trigger="T", reference="a1")
    Conversion.objects.create(visitor=visitor, trigger="T", reference="A1")
    Conversion.objects.create(visitor=make_visitor(), trigger="T", reference="a1")
    with pytest.raises(IntegrityError), transaction.atomic():
        Conversion.objects.create(visitor=visitor, trigger="T", reference="a1")


@pytest.mark.parametrize("money", [{"amount_minor": 1}, {"currency": "EUR"}])
def test_an_amount_needs_its_currency(money):
    with pytest.raises(IntegrityError), transaction.atomic():
        Conversion.objects.create(visitor=make_visitor(), trigger="T", reference="1", **money)


def test_what_was_earned_keeps_its_partner_from_being_deleted():
    visitor = make_visitor()
    Conversion.objects.create(visitor=visitor, trigger="T", reference="1")
    with pytest.raises(ProtectedError):
        visitor.partner.delete()


# API keys


def test_a_key_lets_in_for_its_scopes_until_it_is_revoked():
    key, token = ApiKey.objects.issue(name="shop", scopes=["links", "read"])
    assert token.startswith(f"aff_{key.prefix}.")
    assert token.partition(".")[2] not in repr(ApiKey.objects.values().get())
    with freeze() as clock:
        assert ApiKey.objects.authenticate(token, scope="read") == key
        key.refresh_from_db()
        assert key.last_used_on == clock.now
    assert key.revoke() is True
    assert key.revoke() is False
    with pytest.raises(InvalidApiKey):
        ApiKey.objects.authenticate(token, scope="read")


def test_every_refusal_sounds_the_same():
    key, token = ApiKey.objects.issue(name="shop", scopes=["read"])
    wrong = [
        token[:-1] + ("a" if token[-1] != "a" else "b"),
        token.upper(),
        f"aff_{key.prefix}",
        f"aff_{key.prefix}.",
        "aff_" + "x" * 8 + "." + "y" * 43,
        "",
        "\0",
        "\ud800",
        "é" * 50,
        "x" * 100_000,
    ]
    messages = set()
    for attempt in wrong:
        with pytest.raises(InvalidApiKey) as caught:
            ApiKey.objects.authenticate(attempt, scope="read")
        messages.add(str(caught.value))
    with pytest.raises(InvalidApiKey) as caught:
        ApiKey.objects.authenticate(token, scope="write")
    assert messages == {str(caught.value)}


def test_a_busy_key_costs_a_write_a_minute(django_assert_num_queries):
    key, token = ApiKey.objects.issue(name="shop", scopes=["read"])
    with freeze() as clock:
        with django_assert_num_queries(2):
            ApiKey.objects.authenticate(token, scope="read")
        with django_assert_num_queries(1):
            ApiKey.objects.authenticate(token, scope="read")
        clock.tick(minutes=1)
        with django_assert_num_queries(2):
            ApiKey.objects.authenticate(token, scope="read")
    assert key.pk
