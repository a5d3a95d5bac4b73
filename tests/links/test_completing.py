"""Acquire, fulfill, complete and refund: what becomes of a click."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import IntegrityError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from affiliations import claims, outbox
from affiliations.delivery import deliver_due
from affiliations.exceptions import InvalidMoney, InvalidTransition
from affiliations.links import relay, services
from affiliations.links.exceptions import (
    AlreadyFulfilled,
    AmountNotPositive,
    BelowFloorPrice,
    BelowServiceFee,
    CurrencyMismatch,
    IdempotencyConflict,
    InvalidPurchase,
    NoOpenTransaction,
    NotCompleted,
    NothingToRefund,
)
from affiliations.links.models import Transaction
from affiliations.links.signals import transaction_completed, transaction_refunded
from affiliations.models import Callback, Conversion
from affiliations.querysets import LEASE
from affiliations.services import forget_user
from tests.core.factories import make_partner, make_user, make_visitor
from tests.core.receivers.scripted import Says, scripted
from tests.links.factories import NETWORK_ID, make_link, make_transaction

pytestmark = pytest.mark.django_db

POSTBACK = (
    "http://127.0.0.1:9/aff_lsr?transaction_id={transaction_id}&amount={amount}"
    "&adv_sub={adv_sub}&conversion_unique_id={conversion_unique_id}"
)
ITEM = "course-7"


@pytest.fixture
def user():
    return make_user()


def states():
    return dict(Transaction.objects.values_list("pk", "state"))


def buy(user, amount="20", **options):
    return services.complete(item_id=ITEM, user=user, amount=amount, **options)


def called(callback):
    parts = urlsplit(callback.url)
    return parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}


# Acquire


def test_a_browsers_open_transactions_become_the_users(user):
    mine = [make_transaction(make_link(item_id=f"i{n}"), ident="b1") for n in range(3)]
    make_transaction(ident="b2")
    theirs = make_transaction(ident="", user=make_user())
    done = make_transaction(ident="b1", state="fulfilled")
    assert services.acquire(ident="b1", user=user) == (3, 0)
    found = Transaction.objects.filter(user=user)
    assert set(found) == set(mine)
    assert all(each.open_key == f"{each.link_id}:u{user.pk}" for each in found)
    done.refresh_from_db()
    theirs.refresh_from_db()
    assert (done.user, theirs.user == user) == (None, False)
    assert services.acquire(ident="b1", user=user) == (0, 0)
    assert services.acquire(ident="", user=user) == (0, 0)


def test_where_there_is_nothing_one_look_tells(user, django_assert_num_queries):
    with django_assert_num_queries(3):  # between a savepoint and its release
        services.acquire(ident="nobody", user=user)


@pytest.mark.parametrize("theirs_is_newer", [True, False])
def test_of_two_through_one_link_the_latest_stays_open(user, theirs_is_newer):
    link = make_link()
    earlier = timezone.now() - timedelta(hours=1)
    now = timezone.now()
    theirs = make_transaction(link, user=user, clicked_on=now if theirs_is_newer else earlier)
    browsers = make_transaction(link, ident="b1", clicked_on=earlier if theirs_is_newer else now)
    assert services.acquire(ident="b1", user=user) == (1, 0)
    newer, older = (theirs, browsers) if theirs_is_newer else (browsers, theirs)
    assert states() == {newer.pk: "open", older.pk: "fulfilled"}
    assert set(Transaction.objects.values_list("user", flat=True)) == {user.pk}


def test_what_is_purchased_by_now_is_fulfilled(user, settings):
    settings.AFFILIATE_LINKS_PURCHASED = lambda who, item_id: item_id == "b" and "/b/"
    for item_id in "abb":
        make_transaction(make_link(item_id=item_id), ident="b1")
    assert services.acquire(ident="b1", user=user) == (3, 2)
    assert sorted(Transaction.objects.values_list("item_id", "state")) == [
        ("a", "open"),
        ("b", "fulfilled"),
        ("b", "fulfilled"),
    ]


# Fulfill, and whether there is one


def test_all_of_the_users_for_the_item_are_fulfilled(user):
    mine = [make_transaction(make_link(), user=user) for _ in range(2)]
    other = make_transaction(make_link(item_id="x"), user=user)
    theirs = make_transaction(user=make_user())
    assert services.has_open(item_id=ITEM, user=user)
    assert services.fulfill(item_id=ITEM, user=user) == 2
    assert not services.has_open(item_id=ITEM, user=user)
    assert states() == {
        **{each.pk: "fulfilled" for each in mine},
        other.pk: "open",
        theirs.pk: "open",
    }
    assert services.fulfill(item_id=ITEM, user=user) == 0


def test_an_item_is_not_another_in_other_letters(user):
    make_transaction(make_link(item_id="ABC"), user=user)
    assert not services.has_open(item_id="abc", user=user)
    with pytest.raises(NoOpenTransaction):
        services.complete(item_id="abc", user=user, amount=1)
    assert services.complete(item_id=" ABC ", user=user, amount=1)


# Complete


def test_the_latest_is_paid_out_and_the_others_are_fulfilled(user):
    seen = []
    transaction_completed.connect(lambda transaction, **kw: seen.append(transaction), weak=False)
    old = make_transaction(user=user, clicked_on=timezone.now() - timedelta(days=1))
    latest = make_transaction(make_link(callback_url=POSTBACK), user=user)
    another = make_transaction(
        make_link(), user=user, clicked_on=timezone.now() - timedelta(hours=1)
    )
    done = buy(user, "19.99", order_id="A-1")
    transaction_completed.receivers.clear()
    assert done == latest
    assert seen == [done]
    assert states() == {old.pk: "fulfilled", another.pk: "fulfilled", latest.pk: "completed"}
    done.refresh_from_db()
    assert (str(done.money), done.order_id) == ("19.99 USD", "A-1")
    assert done.completed_on == done.fulfilled_on
    assert done.is_fulfilled
    [callback] = Callback.objects.all()
    assert done.relay == callback
    assert (callback.partner, callback.conversion, callback.expects) == (None, None, "success=true")
    assert called(callback) == (
        "/aff_lsr",
        {
            "transaction_id": NETWORK_ID,
            "amount": "19.99",
            "adv_sub": "A-1",
            "conversion_unique_id": f"{done.path}-{done.pk}",
        },
    )
    # The document's letter: without a partner nobody is credited.
    assert not Conversion.objects.exists()


def test_a_partners_is_credited_with_a_conversion(user):
    partner = make_partner()
    visitor = make_visitor(partner)
    link = make_link(partner=partner, callback_url=POSTBACK)
    make_transaction(link, user=user, visitor=visitor)
    done = buy(user, "5", order_id="A-1")
    conversion = Conversion.objects.get()
    assert done.conversion == conversion
    assert (conversion.visitor, conversion.user) == (visitor, user)
    assert conversion.trigger == services.TRIGGER
    assert str(conversion.money) == "5.00 USD"
    assert conversion.reference == f"A-1 #{done.pk}"
    assert done.relay.partner == partner
    assert done.relay.conversion == conversion


def test_where_the_deal_is_over_nobody_is_credited_or_told(user):
    partner = make_partner(active=False)
    link = make_link(partner=partner, callback_url=POSTBACK)
    make_transaction(link, user=user, visitor=make_visitor(partner))
    assert buy(user).state == "completed"
    assert not Conversion.objects.exists()
    assert not Callback.objects.exists()


@pytest.mark.parametrize(
    ("amount", "error"),
    [
        ("0", AmountNotPositive),
        ("-1", AmountNotPositive),
        ("10", BelowFloorPrice),
        ("9.99", BelowFloorPrice),
        ("12", BelowServiceFee),
        ("x", InvalidMoney),
        ("12.345", InvalidMoney),
        ("1e400", InvalidMoney),
        (10.5, InvalidMoney),
        (Decimal("NaN"), InvalidMoney),
        ("9" * 40, InvalidMoney),
    ],
)
def test_an_amount_that_is_not_enough_changes_nothing(user, settings, amount, error):
    settings.AFFILIATE_LINKS_MINIMUM_SERVICE_FEE = 12
    make_transaction(make_link(floor_minor=1000, callback_url=POSTBACK), user=user)
    with pytest.raises(error):
        buy(user, amount)
    assert Transaction.objects.open().count() == 1
    assert not Callback.objects.exists()
    assert buy(user, "12.01").state == "completed"


def test_a_floor_and_a_fee_are_of_a_currency(user, settings):
    settings.AFFILIATE_LINKS_MINIMUM_SERVICE_FEE = {"JPY": "100"}
    make_transaction(make_link(floor_minor=10, currency="JPY"), user=user)
    for amount, currency, error in (
        ("1000", "EUR", CurrencyMismatch),
        ("100", "JPY", BelowServiceFee),
        ("10", "", BelowFloorPrice),
        ("101.5", "", InvalidMoney),
        ("101", "XXX", InvalidMoney),
    ):
        with pytest.raises(error):
            buy(user, amount, currency=currency)
    assert str(buy(user, "101", currency="jpy").money) == "101 JPY"


def test_without_a_floor_any_currency_will_do(user):
    make_transaction(user=user)
    assert str(buy(user, "1.234", currency="KWD").money) == "1.234 KWD"


def test_whoever_came_through_no_link_completes_nothing(user):
    make_transaction(user=make_user())
    with pytest.raises(NoOpenTransaction):
        buy(user)


def test_what_is_fulfilled_is_not_paid_out_any_more(user):
    make_transaction(user=user)
    services.fulfill(item_id=ITEM, user=user)
    with pytest.raises(AlreadyFulfilled):
        buy(user)


@pytest.mark.parametrize("named", [{}, {"order_id": "A-1"}, {"request_key": "k"}])
def test_the_same_call_again_pays_once_and_answers_as_before(user, named):
    make_transaction(make_link(callback_url=POSTBACK), user=user)
    first = buy(user, "20", **named)
    assert [buy(user, amount, **named) for amount in ("20", "20.00", 20)] == [first] * 3
    assert Callback.objects.count() == 1


def test_an_order_is_the_same_whatever_the_calls_are_named(user):
    make_transaction(make_link(callback_url=POSTBACK), user=user)
    first = buy(user, order_id="A-1", request_key="one")
    make_transaction(make_link(callback_url=POSTBACK), user=user)
    assert buy(user, order_id="A-1", request_key="two") == first
    assert Transaction.objects.open().count() == 1


@pytest.mark.parametrize(
    "other",
    [{"amount": "21"}, {"currency": "EUR"}, {"user": "another"}, {"order_id": "A-2"}],
)
def test_the_same_key_with_something_else_is_a_conflict(user, other):
    make_transaction(user=user)
    said = {"item_id": ITEM, "user": user, "amount": "20", "order_id": "A-1", "request_key": "k"}
    services.complete(**said)
    if other.get("user"):
        other = {"user": make_user()}
    make_transaction(user=other.get("user", user))
    with pytest.raises(IdempotencyConflict):
        services.complete(**{**said, **other})
    assert Transaction.objects.filter(state="completed").count() == 1


def test_another_order_without_another_click_is_not_paid_out(user):
    make_transaction(user=user)
    buy(user, order_id="A-1")
    for named in ({"order_id": "A-2"}, {"request_key": "k"}):
        with pytest.raises(AlreadyFulfilled):
            buy(user, **named)
    with pytest.raises(AlreadyFulfilled):
        buy(user, "21")


def test_after_another_click_another_order_is(user):
    link = make_link()
    make_transaction(link, user=user)
    first = buy(user, order_id="A-1")
    make_transaction(link, user=user)
    second = buy(user, order_id="A-2")
    assert first != second
    assert buy(user, order_id="A-1") == first


def test_one_order_of_two_items_pays_each(user):
    for item_id in ("a", "b"):
        make_transaction(make_link(item_id=item_id), user=user)
    done = [
        services.complete(item_id=item_id, user=user, amount=5, order_id="A-1")
        for item_id in ("a", "b")
    ]
    assert done[0] != done[1]


def test_within_the_sites_own_transaction_it_stands_or_falls_with_it(user):
    make_transaction(make_link(callback_url=POSTBACK), user=user)
    with transaction.atomic():
        buy(user)
        transaction.set_rollback(True)
    assert Transaction.objects.open().count() == 1
    assert not Callback.objects.exists()


def test_it_costs_few_queries(user):
    make_transaction(make_link(callback_url=POSTBACK), user=user)
    with CaptureQueriesContext(connection) as queries, transaction.atomic():
        buy(user, order_id="A-1")
    asked = [each["sql"] for each in queries if "SAVEPOINT" not in each["sql"]]
    assert len([each for each in asked if not each.startswith(("BEGIN", "COMMIT"))]) <= 11, asked


def test_a_state_that_cannot_be_is_refused_by_the_database(user):
    made = make_transaction(user=user)
    rows = Transaction.objects.filter(pk=made.pk)
    for wrong in (
        {"state": "completed", "open_key": None},
        {"open_key": None},
        {"amount_minor": 5, "currency": "EUR"},
        {"state": "fulfilled"},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            rows.update(**wrong)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_transaction(made.link, user=user)


# The relay


def test_macros_come_from_the_click_or_the_purchase_and_never_money_from_the_click(user):
    names = [*relay.OF_CLICK, *relay.GIVEN, "amount", "currency", "status", "item_id", "user_id"]
    url = "http://127.0.0.1:9/p?" + "&".join(f"{name}={{{name}}}" for name in names)
    # What a visitor may have written into the address.
    forged = dict.fromkeys(names, "forged")
    query = {**forged, "aff_sub": ["1", "2"]}
    make_transaction(make_link(callback_url=url), user=user, query=query)
    done = buy(user, "7.5", given={"goal_id": "4", "adv_sub": "o&x=1", "amount": "99", "bad": "x"})
    _, told = called(done.relay)
    assert told == {
        **dict.fromkeys(relay.OF_CLICK, "forged"),
        "transaction_id": NETWORK_ID,
        "aff_sub": "1",
        "goal_id": "4",
        "adv_sub": "o&x=1",
        "amount": "7.50",
        "currency": "USD",
        "status": "approved",
        "item_id": ITEM,
        "user_id": str(user.pk),
    }


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://127.0.0.1:9/aff_lsr", "/aff_lsr?"),
        ("http://127.0.0.1:9/aff_lsr?", "/aff_lsr?"),
        ("http://127.0.0.1:9/aff_lsr?offer_id=3", "/aff_lsr?offer_id=3&"),
        ("http://127.0.0.1:9/aff_lsr?offer_id=3#x", "/aff_lsr?offer_id=3&"),
    ],
)
def test_a_url_without_macros_gets_the_clicks_query_and_the_amount(user, url, asked):
    query = {"transaction_id": NETWORK_ID, "aff_id": "9", "payout": "999", "x": "y"}
    make_transaction(make_link(callback_url=url), user=user, query=query)
    done = buy(user, "7.5", order_id="A-1")
    target = done.relay.url.removeprefix("http://127.0.0.1:9").partition("#")[0]
    own = f"transaction_id={NETWORK_ID}&aff_id=9&amount=7.50&adv_sub=A-1"
    assert target == f"{asked}{own}&conversion_unique_id={done.path}-{done.pk}"


def test_a_security_token_is_sent_and_not_kept(user, settings):
    with scripted(Says(200, body=b"success=true;")) as server:
        host = urlsplit(server.url).netloc
        settings.AFFILIATE_CALLBACK_TOKENS = {host: "se-cret"}
        link = make_link(callback_url=f"{server.url}/l?t={{transaction_id}}&s={{security_token}}")
        make_transaction(link, user=user)
        done = buy(user)
        assert "se-cret" not in done.relay.url
        deliver_due()
        assert server.heard[0].target == f"/l?t={NETWORK_ID}&s=se-cret"


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (b"success=true;", "delivered"),
        (b"success=false; err_msg=Invalid Trans. ID #x;", "refused"),
        (b"", "refused"),
    ],
)
def test_an_answer_of_200_alone_is_no_success(user, answer, state):
    with scripted(Says(200, body=answer)) as server:
        make_transaction(make_link(callback_url=f"{server.url}/l?t={{transaction_id}}"), user=user)
        done = buy(user)
        deliver_due()
    done.relay.refresh_from_db()
    assert done.relay.state == state
    assert (answer.decode() in done.relay.reason) == (state == "refused")
    assert done.state == "completed"


# Refund


def test_a_relay_that_has_not_left_is_canceled(user):
    seen = []
    transaction_refunded.connect(lambda transaction, **kw: seen.append(transaction), weak=False)
    partner = make_partner()
    link = make_link(partner=partner, callback_url=POSTBACK)
    make_transaction(link, user=user, visitor=make_visitor(partner))
    done = buy(user)
    refunded = services.refund(item_id=ITEM, user=user)
    assert refunded == done
    assert [each.pk for each in seen] == [done.pk]
    done.refresh_from_db()
    assert (done.state, done.relay.state, done.adjustment) == ("refunded", "canceled", None)
    assert done.refunded_on is not None
    assert done.conversion.reversed_on is not None
    assert services.refund(item_id=ITEM, user=user) == done
    assert Callback.objects.count() == 1


def test_one_that_has_left_is_taken_back_by_the_same_call_with_another_status(user):
    make_transaction(make_link(callback_url=POSTBACK + "&goal_id={goal_id}"), user=user)
    done = buy(user, "7.5", order_id="A-1", given={"goal_id": "4"})
    Callback.objects.update(state="delivered", attempts=1, due=None)
    services.refund(item_id=ITEM, user=user, order_id="A-1")
    done.refresh_from_db()
    assert done.relay.state == "delivered"
    path, told = called(done.adjustment)
    assert (path, told.pop("status")) == ("/aff_lsr", "rejected")
    assert (path, told) == called(done.relay)
    assert done.adjustment.state == "pending"
    assert done.adjustment.due <= timezone.now()


def test_a_status_in_the_links_own_words_is_filled(user):
    url = "http://127.0.0.1:9/p?t={transaction_id}&is={status}"
    make_transaction(make_link(callback_url=url), user=user)
    done = buy(user)
    assert called(done.relay)[1]["is"] == "approved"
    Callback.objects.update(state="dead", attempts=10, due=None)
    services.refund(item_id=ITEM, user=user)
    done.refresh_from_db()
    assert called(done.adjustment)[1] == {"t": NETWORK_ID, "is": "rejected"}


@pytest.mark.parametrize(
    ("relayed", "adjusted"),
    [
        ({"state": "refused", "attempts": 1}, False),
        ({"state": "dead", "attempts": 0}, False),
        ({"state": "canceled", "attempts": 0}, False),
        ({"state": "canceled", "attempts": 2}, True),
        ({"state": "dead", "attempts": 10}, True),
        ({"state": "pending", "attempts": 2, "due": timezone.now()}, True),
        ({"state": "parked", "attempts": 2}, True),
        ({"state": "parked", "attempts": 0}, False),
    ],
)
def test_the_network_is_told_only_what_it_may_have_heard_of(user, relayed, adjusted):
    make_transaction(make_link(callback_url=POSTBACK), user=user)
    done = buy(user)
    Callback.objects.update(**{"due": None, **relayed})
    services.refund(item_id=ITEM, user=user)
    done.refresh_from_db()
    assert (done.adjustment is not None) == adjusted
    assert done.relay.state not in ("pending", "parked")


@pytest.mark.django_db(transaction=True)
def test_while_the_call_is_under_way_it_is_taken_back_after_it(user, task_engine):
    make_transaction(make_link(callback_url=POSTBACK), user=user)
    done = buy(user)
    [claimed] = claims.Claimer().claim()
    before = timezone.now()
    services.refund(item_id=ITEM, user=user)
    done.refresh_from_db()
    assert (done.relay, done.relay.state) == (claimed, "canceled")
    # Whoever has claimed it may still make the call; this one must not be there before it.
    assert done.adjustment.due >= before + LEASE


def test_what_nobody_was_to_be_told_of_is_only_noted(user):
    make_transaction(user=user)
    buy(user)
    assert services.refund(item_id=ITEM, user=user).state == "refunded"
    assert not Callback.objects.exists()


def test_nothing_completed_is_nothing_to_refund(user):
    make_transaction(user=user)
    for order_id in ("", "A-1"):
        with pytest.raises(NothingToRefund):
            services.refund(item_id=ITEM, user=user, order_id=order_id)
    buy(user, order_id="A-1")
    with pytest.raises(NothingToRefund):
        services.refund(item_id=ITEM, user=user, order_id="A-2")
    assert states() == {Transaction.objects.get().pk: "completed"}


def test_after_a_refund_the_order_is_not_paid_out_again(user):
    make_transaction(make_link(callback_url=POSTBACK), user=user)
    done = buy(user, order_id="A-1")
    services.refund(item_id=ITEM, user=user)
    assert buy(user, order_id="A-1") == done
    with pytest.raises(AlreadyFulfilled):
        buy(user, order_id="A-2")
    assert Callback.objects.count() == 1


# Whose


def test_with_a_partner_only_their_links_count(user):
    anna, berta = make_partner(), make_partner()
    hers = make_transaction(make_link(partner=anna), user=user)
    with pytest.raises(NoOpenTransaction):
        buy(user, partner=berta)
    assert not services.has_open(item_id=ITEM, user=user, partner=berta)
    assert services.fulfill(item_id=ITEM, user=user, partner=berta) == 0
    done = buy(user, partner=anna, order_id="A-1")
    assert done == hers
    with pytest.raises(NoOpenTransaction):
        buy(user, partner=berta, order_id="A-1")
    with pytest.raises(NothingToRefund):
        services.refund(item_id=ITEM, user=user, partner=berta)
    assert services.refund(item_id=ITEM, user=user, partner=anna) == hers


# What others do at the same moment, and what staff may do later


def test_of_all_partners_clicks_the_latest_is_paid_or_none(user):
    anna, berta = make_partner(), make_partner()
    hers = make_transaction(make_link(partner=anna), user=user)
    earlier = make_transaction(
        make_link(partner=berta), user=user, clicked_on=timezone.now() - timedelta(days=20)
    )
    with pytest.raises(NoOpenTransaction):
        buy(user, "0.01", partner=berta)
    assert states() == {hers.pk: "open", earlier.pk: "open"}
    assert buy(user, partner=anna) == hers
    assert states() == {hers.pk: "completed", earlier.pk: "fulfilled"}


@pytest.mark.parametrize("nobody", [None, AnonymousUser()])
def test_nobody_has_what_strangers_clicked_on(nobody):
    """A guest's purchase is nobody's to pay for, and not the latest stranger's."""
    strangers = make_transaction(ident="b1")
    erased = make_transaction(
        state="completed", completed_on=timezone.now(), amount_minor=2000, currency="USD"
    )
    for named in ({}, {"order_id": "A-1"}):
        with pytest.raises(NoOpenTransaction):
            buy(nobody, **named)
    with pytest.raises(NothingToRefund):
        services.refund(item_id=ITEM, user=nobody)
    assert services.fulfill(item_id=ITEM, user=nobody) == 0
    assert not services.has_open(item_id=ITEM, user=nobody)
    assert services.acquire(ident="b1", user=nobody) == (0, 0)
    assert states() == {strangers.pk: "open", erased.pk: "completed"}


@pytest.mark.parametrize("item_id", ["", "  ", "a\0b", "\ud800", "x" * 201])
def test_an_item_that_can_be_none_keeps_no_order_from_being_placed(user, item_id):
    with pytest.raises(InvalidPurchase, match="item_id"):
        services.complete(item_id=item_id, user=user, amount="20", order_id="A-1")


@pytest.mark.parametrize(
    "said",
    [
        {"order_id": "x" * 201},
        {"order_id": "a\0b"},
        {"order_id": "\ud800"},
        {"given": {"adv_sub": "x" * 201}},
        {"given": {"promo_code": "a\nb"}},
    ],
)
def test_what_cannot_be_kept_of_a_purchase_is_refused(user, said):
    make_transaction(user=user)
    with pytest.raises(InvalidPurchase, match=next(iter(said.get("given", said)))):
        buy(user, **said)
    assert Transaction.objects.open().count() == 1


def test_an_order_may_be_a_number_and_blanks_around_it_are_none_of_it(user):
    make_transaction(user=user)
    first = buy(user, order_id=17)
    make_transaction(user=user)
    assert buy(user, order_id=" 17 ") == first
    assert first.order_id == "17"


def test_an_amount_that_is_none_keeps_no_order_from_being_placed(user):
    make_transaction(user=user)
    for amount in ("x", 1.5, "1.234"):
        with pytest.raises(NotCompleted), transaction.atomic():
            buy(user, amount)
    assert Transaction.objects.open().count() == 1


@pytest.mark.parametrize("attempts", [0, 1])
def test_the_relay_of_a_refunded_purchase_is_not_sent_again(user, attempts):
    make_transaction(make_link(callback_url=POSTBACK), user=user)
    done = buy(user)
    if attempts:
        Callback.objects.update(state="delivered", attempts=attempts, due=None)
    services.refund(item_id=ITEM, user=user)
    with pytest.raises(InvalidTransition, match="withdrawn"):
        outbox.send_again(done.relay)
    relays = Callback.objects.filter(pk=done.relay.pk)
    assert sum(outbox.send_all_again(relays)) == 0
    assert relays.get().state == ("delivered" if attempts else "canceled")


def test_what_was_told_is_taken_back_where_it_was_told(user):
    link = make_link(callback_url=POSTBACK)
    make_transaction(link, user=user)
    done = buy(user)
    Callback.objects.update(state="delivered", attempts=1, due=None)
    link.callback_url = ""
    link.save()
    services.refund(item_id=ITEM, user=user)
    done.refresh_from_db()
    assert called(done.adjustment)[0] == "/aff_lsr"
    assert called(done.adjustment)[1]["status"] == "rejected"


def test_a_refund_holds_back_what_the_partner_was_to_be_told_besides(user):
    partner = make_partner({services.TRIGGER: "http://127.0.0.1:9/x?v={visitor_id}"})
    make_transaction(make_link(partner=partner), user=user, visitor=make_visitor(partner))
    buy(user)
    [callback] = Callback.objects.all()
    assert callback.state == "pending"
    services.refund(item_id=ITEM, user=user)
    callback.refresh_from_db()
    assert (callback.state, callback.withdrawn) == ("canceled", True)


def test_a_row_that_was_read_before_its_user_was_erased_tells_nothing_of_them(user):
    make_transaction(make_link(callback_url=POSTBACK), user=user)
    stale = buy(user, order_id="marked-order")
    Callback.objects.update(state="delivered", attempts=1, due=None)
    forget_user(user)
    assert services.refund_transaction(stale).state == "refunded"
    assert "marked-order" not in str(list(Callback.objects.values()))
    assert Transaction.objects.get().adjustment is None


def test_a_newer_one_of_the_users_own_is_fulfilled_with_what_is_acquired(user, settings):
    settings.AFFILIATE_LINKS_PURCHASED = lambda who, item_id: "/here/"
    link = make_link()
    make_transaction(link, ident="b1", clicked_on=timezone.now() - timedelta(hours=1))
    make_transaction(link, user=user)
    assert services.acquire(ident="b1", user=user) == (1, 1)
    assert not Transaction.objects.open().exists()


def test_a_query_of_the_hooks_that_fails_undoes_nothing_else(user, settings, caplog):
    def fails(who, item_id):
        with connection.cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")

    settings.AFFILIATE_LINKS_PURCHASED = fails
    make_transaction(ident="b1")
    assert services.acquire(ident="b1", user=user) == (1, 0)
    assert Transaction.objects.get().user == user
    assert "AFFILIATE_LINKS_PURCHASED failed" in caplog.text


def test_a_url_that_names_only_the_token_is_completed_as_one_that_names_nothing(user):
    url = "http://127.0.0.1:9/aff_lsr?security_token={security_token}"
    make_transaction(make_link(callback_url=url), user=user)
    told = called(buy(user, "7.5").relay)[1]
    assert (told["transaction_id"], told["amount"]) == (NETWORK_ID, "7.50")


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor == "sqlite", reason="lets no two transactions write at once")
def test_a_login_at_the_moment_of_the_purchase_keeps_nobody_from_being_paid(user, task_engine):
    """The login closes the user's older transaction, and gives them a newer one of the browser."""
    link = make_link(callback_url=POSTBACK)
    make_transaction(link, user=user, clicked_on=timezone.now() - timedelta(hours=1))
    newer = make_transaction(link, ident="b1")
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            services.acquire(ident="b1", user=user)
            purchase = pool.submit(in_thread, buy, user)
            time.sleep(0.5)  # until it waits for what the login has locked
            assert not purchase.done()
        assert purchase.result(30) == newer
    assert Callback.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor == "sqlite", reason="lets no two transactions write at once")
def test_an_erasure_at_the_moment_of_the_purchase_leaves_nothing(user, task_engine):
    make_transaction(
        make_link(callback_url=POSTBACK), user=user, network_id="marked-click-1", query={}
    )
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            buy(user, order_id="marked-order")
            erasure = pool.submit(in_thread, forget_user, user)
            time.sleep(0.5)
        erasure.result(30)
    assert "marked" not in str([*Callback.objects.values(), *Transaction.objects.values()])
    assert not Callback.objects.waiting().exists()


def in_thread(call, *args):
    try:
        return call(*args)
    finally:
        connections.close_all()
