"""What the links hold on a person: shown whole, erased whole, and the figures stay."""

import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from affiliations.links import services
from affiliations.links.models import Transaction
from affiliations.models import Callback, CallbackAttempt, Conversion
from affiliations.services import export_user, forget_user
from tests.core.factories import make_partner, make_user, make_visitor
from tests.links.factories import make_link, make_transaction

pytestmark = pytest.mark.django_db

POSTBACK = "http://127.0.0.1:9/p?t={transaction_id}&u={user_id}&s={aff_sub}&o={order_id}"
MARKS = ("marked-click-0001", "marked-sub", "marked-order", "marked-promo", "marked-ident")


def marked(user, link):
    click, sub, order, promo, ident = MARKS
    made = make_transaction(
        link,
        ident=ident,
        network_id=click,
        query={"transaction_id": click, "aff_sub": sub},
        landing_page=f"https://shop.example/?x={sub}",
        visitor=make_visitor(link.partner, user=user) if link.partner else None,
    )
    services.acquire(ident=ident, user=user)
    services.complete(
        item_id=link.item_id, user=user, amount="20", order_id=order, given={"promo_code": promo}
    )
    CallbackAttempt.objects.create(
        callback=Transaction.objects.get(pk=made.pk).relay,
        number=1,
        started_on=timezone.now(),
        duration_ms=1,
        answer=f"no such {click}",
    )
    return made


def dump():
    tables = (Transaction, Callback, CallbackAttempt, Conversion)
    return json.dumps([list(each.objects.values()) for each in tables], default=str)


@pytest.mark.parametrize("with_partner", [True, False])
def test_a_user_is_shown_all_of_it_and_then_nothing_is_left(with_partner):
    user, other = make_user(), make_user()
    partner = make_partner() if with_partner else None
    marked(user, make_link(callback_url=POSTBACK, partner=partner))
    # Clicks of the same browser before anybody logged in, and after.
    make_transaction(make_link(item_id="x"), ident="marked-ident", network_id=MARKS[0])
    theirs = make_transaction(make_link(item_id="y"), user=other, ident="marked-ident2")
    shown = json.dumps(export_user(user))
    for mark in MARKS:
        assert mark in shown
    assert "marked-ident2" not in shown
    counts = forget_user(user)
    assert counts["transactions"] == 2
    after = dump()
    for mark in MARKS:
        assert mark not in after.replace("marked-ident2", "")
    assert export_user(user)["links"] == []
    theirs.refresh_from_db()
    assert (theirs.user, theirs.state) == (other, "open")
    # What was paid stays.
    [paid] = Transaction.objects.filter(state="completed")
    assert str(paid.money) == "20.00 USD"
    assert not Callback.objects.waiting().exists()


def test_what_is_erased_is_nobodys_to_acquire_or_complete():
    user = make_user()
    make_transaction(user=user, clicked_on=timezone.now() - timedelta(hours=1))
    forget_user(user)
    assert not services.has_open(item_id="course-7", user=user)


# Retention


@pytest.mark.parametrize("batch", [2, 1000])
def test_what_is_old_and_came_to_nothing_is_deleted(monkeypatch, capsys, batch):
    monkeypatch.setattr("affiliations.privacy.BATCH", batch)
    old = timezone.now() - timedelta(days=500)
    link, user = make_link(), make_user()
    for state in ("open", "open", "fulfilled"):
        make_transaction(link, state=state, clicked_on=old)
    paid = make_transaction(link, user=user, clicked_on=old)
    services.complete(item_id=link.item_id, user=user, amount="20")
    recent = make_transaction(link)
    call_command("purge_transactions", "--older-than", "400d", "--dry-run")
    assert "3 transactions would be deleted" in capsys.readouterr().out
    call_command("purge_transactions", "--older-than", "400")
    assert "3 transactions deleted" in capsys.readouterr().out
    assert set(Transaction.objects.all()) == {paid, recent}
