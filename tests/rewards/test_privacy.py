"""What the rewards hold on a person: shown whole, erased whole, and the sums stay."""

import json
import threading
from functools import partial
from itertools import count

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.db import connection, transaction
from django.db.models import QuerySet
from django.test import Client
from django.urls import reverse

from affiliations.money import Money
from affiliations.rewards import audit, ledger, payouts, reviews
from affiliations.rewards.models import Account, Entry, PartnerNetwork, PayoutDestination, Review
from affiliations.rewards.testing import assert_ledger_balanced
from affiliations.services import export_user, forget_user
from tests.core.factories import make_partner, make_user
from tests.rewards.factories import convert, make_rule

pytestmark = pytest.mark.django_db

DOMAIN = "marked.example"
KINDS = ("commissions", "accounts", "destinations", "payouts", "networks", "decided")
NOTHING = {kind: [] for kind in KINDS}
numbers = count(1)


@pytest.fixture(autouse=True)
def watchful(settings):
    """A site that holds all that it can."""
    settings.AFFILIATE_APPROVAL = True
    settings.AFFILIATE_FLAG_MAIL_DOMAINS = [DOMAIN]
    settings.AFFILIATE_FLAGS = [
        f"affiliations.rewards.flags.{name}"
        for name in ("soon_after_click", "velocity", "disposable_mail", "partner_network")
    ]
    make_rule(10)


def marked():
    """Return somebody whose name and mail are found again wherever they are kept."""
    user = make_user("marked-name")
    user.email = f"marked-name@{DOMAIN}"
    user.save()
    return user


def dump():
    models = apps.get_app_config("affiliations_rewards").get_models(include_auto_created=True)
    return json.dumps({each.__name__: list(each.objects.values()) for each in models}, default=str)


def balances():
    return {each.pk: ledger.balance(each) for each in Account.objects.all()}


def log_in(user, address="81.2.69.160"):
    Client(REMOTE_ADDR=address).post("/login/", {"username": user.username})


def test_a_customer_is_shown_what_was_earned_and_then_forgotten():
    user, staff = marked(), make_user()
    partner, other = make_partner(name="Anna"), marked_not()
    conversion = convert(partner, user=user, minor=12_340)
    theirs = convert(partner, user=other)
    rejected = convert(partner, user=user)
    held = Review.objects.filter(entry__commission__conversion=rejected)
    reviews.reject(held.get(reason="disposable_mail"), by=staff)
    shown = export_user(user)["rewards"]
    assert json.loads(json.dumps(shown)) == shown
    assert [each["partner"] for each in shown["commissions"]] == ["Anna", "Anna"]
    first = shown["commissions"][0]
    assert (first["earned"], first["currency"]) == ("12.34", "EUR")
    assert first["converted_on"] == conversion.created_on.isoformat()
    details = {each["reason"]: each["detail"] for each in first["reviews"]}
    assert details["disposable_mail"] == f"disposable mail: {DOMAIN}"
    assert (shown["accounts"], shown["networks"], shown["decided"]) == ([], [], [])
    assert "marked" in dump()
    before, entries = balances(), Entry.objects.count()
    others = list(Review.objects.filter(entry__commission__conversion=theirs).values())
    counts = forget_user(user)
    assert counts["reviews"] == 4
    assert "marked" not in dump()
    assert (balances(), Entry.objects.count()) == (before, entries)
    # Whoever has to decide still does.
    assert Review.objects.filter(outcome="open", entry__commission__conversion=conversion).exists()
    assert list(Review.objects.filter(entry__commission__conversion=theirs).values()) == others
    assert export_user(user)["rewards"]["commissions"] == []
    reviews.reject(Review.objects.filter(outcome="open").first(), by=staff)


def marked_not():
    user = make_user("other")
    user.email = "other@shop.example"
    user.save()
    return user


def test_a_nameless_customer_is_known_by_the_browser(settings):
    settings.AFFILIATE_COOKIE = True
    user, partner = marked(), make_partner()
    conversion = convert(partner, user=user)
    conversion.visitor.ident, conversion.visitor.user = "marked-ident-000000001", user
    conversion.visitor.save()
    conversion.user = None
    conversion.save()
    assert len(export_user(user)["rewards"]["commissions"]) == 1
    assert forget_user(user)["reviews"] == 2
    assert "marked" not in dump()


def test_one_of_a_partners_people_is_shown_the_account_and_then_forgotten():
    user, partner, other = marked(), make_partner(name="Anna"), make_partner(name="Bert")
    partner.users.add(user)
    colleague = make_user()
    other.users.add(colleague)
    log_in(user)
    log_in(colleague, "81.2.70.1")
    convert(partner)
    shown = export_user(user)["rewards"]
    owed = {"partner": "Anna", "currency": "EUR", "owed": "10.00", "available": "0.00"}
    assert shown["accounts"] == [owed]
    seen = PartnerNetwork.objects.get(partner=partner)
    assert shown["networks"] == [{"partner": "Anna", "seen_on": seen.seen_on.isoformat()}]
    assert shown["commissions"] == []
    before = balances()
    counts = forget_user(user)
    assert counts["networks"] == 1
    assert seen.digest not in dump()
    assert PartnerNetwork.objects.get().partner == other
    assert balances() == before
    assert export_user(user)["rewards"] == NOTHING


# Where partners are paid


def pay_to(partner, name="marked-name", email="marked-name@bank.example"):
    """Say where a partner is paid."""
    holder = ledger.holder_of(partner.pk)
    PayoutDestination.objects.create(holder=holder, method="wise", name=name, email=email)


def sent(*partners):
    """Pay these partners by a file; return a payout of each."""
    for partner in partners:
        account = ledger.account_of(partner, "EUR")
        ledger.post(account, Money(6000, "EUR"), kind="credit", key=f"{next(numbers)}")
    batch = payouts.make_payouts(currency="EUR")
    payouts.approve_batch(batch)
    payouts.send_batch(batch, "wise")
    return [batch.payouts.get(account__partner=partner) for partner in partners]


def emptied(counts):
    return [counts[name] for name in ("destinations", "payouts", "payouts_sent")]


def test_what_the_admin_says_of_changes_goes_too(admin_client):
    user, partner, other = marked(), make_partner(), make_partner()
    partner.users.add(user)
    for each in (partner, other):
        pay_to(each, "Anna", "old@bank.example")
    for destination in PayoutDestination.objects.all():
        url = reverse("admin:affiliations_rewards_payoutdestination_change", args=[destination.pk])
        form = {"method": "wise", "name": "Anna", "email": "new@bank.example"}
        assert admin_client.post(url, form).status_code == 302
    said = "Recipient’s e-mail address: old@bank.example → new@bank.example"
    changes = LogEntry.objects.order_by("pk").values_list("change_message", flat=True)
    assert [*changes] == [said, said]
    forget_user(user)
    assert [*changes.all()] == ["", said]


def test_where_a_partner_is_paid_is_shown_and_goes_with_the_last_of_its_people():
    user, colleague = marked(), make_user()
    partner, other = make_partner(name="Anna"), make_partner()
    partner.users.add(user, colleague)
    other.users.add(colleague)
    pay_to(partner)
    pay_to(other, "Other", "other@bank.example")
    paid, theirs = sent(partner, other)
    for each in (paid, theirs):
        payouts.mark_paid(each)
    [failed] = sent(partner)
    payouts.fail(failed, "the bank is closed")
    shown = export_user(user)["rewards"]
    assert json.loads(json.dumps(shown)) == shown
    where = {"method": "Wise", "name": "marked-name", "email": "marked-name@bank.example"}
    assert shown["destinations"] == [where]
    assert shown["payouts"][0] == {
        "number": str(paid.uid),
        "partner": "Anna",
        "amount": "60.00",
        "currency": "EUR",
        "state": "paid",
        "reason": "",
        **where,
        "created_on": paid.created_on.isoformat(),
        "settled_on": paid.settled_on.isoformat(),
    }
    assert [each["state"] for each in shown["payouts"]] == ["paid", "failed"]
    # The others still have to be paid.
    before = dump()
    assert emptied(forget_user(user)) == [0, 0, 0]
    assert dump() == before
    sums = balances()
    partner.users.add(user)
    partner.users.remove(colleague)
    assert emptied(forget_user(user)) == [1, 2, 0]
    assert "marked" not in dump()
    assert PayoutDestination.objects.get().email == "other@bank.example"
    for payout in (paid, failed):
        payout.refresh_from_db()
        assert (payout.method, payout.name, payout.email) == ("wise", "", "")
    theirs.refresh_from_db()
    assert theirs.email == "other@bank.example"
    assert balances() == sums
    assert list(audit.Audit().differences()) == []
    assert_ledger_balanced()


@pytest.mark.parametrize("settle", [payouts.mark_paid, partial(payouts.fail, reason="closed")])
def test_what_is_under_way_keeps_where_it_goes_until_it_is_settled(settle):
    user, partner, other = marked(), make_partner(), make_partner()
    partner.users.add(user)
    pay_to(partner)
    pay_to(other, "Other", "other@bank.example")
    ours, theirs = sent(partner, other)
    assert emptied(forget_user(user)) == [1, 0, 1]
    ours.refresh_from_db()
    assert ours.email == "marked-name@bank.example"
    for each in (ours, theirs):
        settle(each)
    assert (ours.name, ours.email) == ("", "")
    assert "marked" not in dump()
    theirs.refresh_from_db()
    assert (theirs.name, theirs.email) == ("Other", "other@bank.example")


def at_the_same_time(one, other, patience):
    """Do something in a transaction that ends only when another one waits, or is through."""
    with transaction.atomic():
        one()
        thread = threading.Thread(target=closing, args=[other])
        thread.start()
        thread.join(patience)
    thread.join()


def closing(step):
    try:
        step()
    finally:
        connection.close()


def settled(first, patience):
    """Settle a payout while its holder is forgotten; return what is left of where it went."""
    user, partner = marked(), make_partner()
    partner.users.add(user)
    pay_to(partner)
    [payout] = sent(partner)
    steps = [partial(forget_user, user), partial(payouts.mark_paid, payout)]
    at_the_same_time(*(steps if first == "forget" else reversed(steps)), patience)
    payout.refresh_from_db()
    assert payout.state == "paid"
    return payout.email


def forgotten_both(patience):
    """Forget both people of a partner at once; return how many destinations are left."""
    partner = make_partner()
    pay_to(partner)
    users = [make_user(), make_user()]
    partner.users.add(*users)
    at_the_same_time(*(partial(forget_user, user) for user in users), patience)
    return PayoutDestination.objects.count()


at_once = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="lets no two transactions write at once"
)


@at_once
@pytest.mark.django_db(transaction=True)
def test_what_is_settled_while_somebody_is_forgotten_is_emptied():
    assert settled("settle", patience=0.5) == ""


@at_once
@pytest.mark.django_db(transaction=True)
def test_what_is_settled_after_somebody_was_forgotten_is_emptied():
    assert settled("forget", patience=0.5) == ""


@at_once
@pytest.mark.django_db(transaction=True)
def test_of_two_who_are_forgotten_at_once_one_is_the_last():
    assert forgotten_both(patience=0.5) == 0


@at_once
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("at_once", "left"),
    [
        pytest.param(
            *(partial(settled, "settle"), "marked-name@bank.example"),
            marks=pytest.mark.skipif(connection.vendor == "mysql", reason="an UPDATE waits there"),
        ),
        (partial(settled, "forget"), "marked-name@bank.example"),
        (forgotten_both, 1),
    ],
)
def test_teeth_nobody_waits(at_once, left, monkeypatch):
    monkeypatch.setattr(QuerySet, "select_for_update", lambda rows, **options: rows)
    # Long enough to be through, as nothing holds it.
    assert at_once(patience=60) == left


def test_staff_are_shown_what_they_have_decided():
    user = marked()
    convert(make_partner())
    review = reviews.release(Review.objects.get(reason="approval"), by=user)
    when = review.resolved_on.isoformat()
    shown = {"review": review.pk, "outcome": "released", "resolved_on": when}
    assert export_user(user)["rewards"]["decided"] == [shown]
    forget_user(user)
    # Whoever was refused money may ask; with the user itself it goes.
    assert Review.objects.get(pk=review.pk).resolved_by == user
    user.delete()
    assert Review.objects.get(pk=review.pk).resolved_by is None


def test_the_export_without_anything_is_empty():
    assert export_user(make_user())["rewards"] == NOTHING


def test_a_providers_words_on_somebody_are_in_no_ledger_and_erased(settings):
    settings.AFFILIATE_PAYOUT_MINIMUM = {"EUR": 1}
    user, partner = make_user(), make_partner()
    partner.users.add(user)
    account = ledger.account_of(partner, "EUR")
    ledger.post(account, Money(10_000, "EUR"), kind="credit", key="c")
    payout = payouts.make_payouts(currency="EUR").payouts.get()
    payouts.fail(payout, "Receiver jane@example.com is locked")
    assert not Entry.objects.exclude(memo="").exists()
    [shown] = export_user(user)["rewards"]["payouts"]
    assert shown["reason"] == "Receiver jane@example.com is locked"
    forget_user(user)
    payout.refresh_from_db()
    assert (payout.state, payout.reason) == ("failed", "")
