"""What is held for review: let go once, or taken back once, whoever else is at it."""

import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection
from django.utils import timezone

from affiliations.exceptions import InvalidTransition
from affiliations.models import Conversion
from affiliations.money import Money
from affiliations.rewards import commissions, ledger, reviews
from affiliations.rewards.models import Entry, Review
from affiliations.rewards.signals import entry_posted
from affiliations.services import reverse_conversion
from affiliations.testing import freeze
from tests.core.factories import make_partner, make_user
from tests.core.promises.test_races import at_once
from tests.rewards.factories import account_of, convert, make_rule, total

pytestmark = pytest.mark.django_db

ODD, RARE = "tests.rewards.test_reviews.odd", "tests.rewards.test_reviews.rare"


def odd(commission):
    return f"user {commission.conversion.user}"


def rare(commission):
    return "not seen often"


def fine(commission):
    return ""


@pytest.fixture
def flagged(settings):
    """Have every commission flagged for two reasons."""
    settings.AFFILIATE_FLAGS = (ODD, RARE)


@pytest.fixture
def staff():
    return make_user("staff")


@pytest.fixture
def partner():
    make_rule(10)
    return make_partner()


def outcomes():
    return dict(Review.objects.values_list("reason", "outcome"))


def test_what_has_to_be_approved_is_held_until_it_is(settings, partner, staff):
    settings.AFFILIATE_APPROVAL = True
    with freeze() as clock:
        convert(partner)
        review = Review.objects.get()
        assert (review.reason, review.detail, review.outcome) == ("approval", "", "open")
        clock.tick(days=31)
        before = timezone.now()
        assert ledger.balance(account_of(partner)) == (1000, 0, "EUR")
        clock.tick(seconds=1)
        assert reviews.release(review, by=staff) is review
        assert ledger.balance(account_of(partner)) == (1000, 1000, "EUR")
        assert ledger.balance(account_of(partner), as_of=before) == (1000, 0, "EUR")
        stored = Review.objects.get()
        assert (stored.outcome, stored.resolved_by) == ("released", staff)
        assert stored.resolved_on == review.resolved_on == timezone.now()


def test_what_is_released_early_is_still_held_by_its_date(settings, partner, staff):
    settings.AFFILIATE_APPROVAL = True
    convert(partner)
    reviews.release(Review.objects.get(), by=staff)
    assert ledger.balance(account_of(partner)) == (1000, 0, "EUR")


def test_it_is_held_until_the_last_review_is_released(flagged, partner, staff):
    with freeze() as clock:
        convert(partner)
        clock.tick(days=31)
        first, second = Review.objects.all()
        reviews.release(first, by=staff)
        assert ledger.balance(account_of(partner)).available == 0
        reviews.release(second, by=staff)
        assert ledger.balance(account_of(partner)).available == 1000


def test_a_rejection_takes_back_all_of_it_and_says_so(flagged, partner, staff):
    with freeze() as clock:
        conversion = convert(partner, user=make_user("marked"))
        entry = Entry.objects.get()
        clock.tick(days=31)
        reversal = reviews.reject(Review.objects.get(reason="odd"), by=staff)
        assert reversal == Entry.objects.get(kind="reversal")
        assert (reversal.minor, reversal.reverses, reversal.key) == (
            -1000,
            entry,
            f"rejected:{entry.pk}",
        )
        # Partners read it: not what to avoid. And what the flag said could never be erased there.
        assert reversal.memo == "Rejected in review"
        assert outcomes() == {"odd": "rejected", "rare": "moot"}
        assert ledger.balance(account_of(partner)) == (0, 0, "EUR")
        reverse_conversion(conversion, Money(5000, "EUR"))
        reverse_conversion(conversion)
        assert ledger.balance(account_of(partner)) == (0, 0, "EUR")
        assert Entry.objects.count() == 2
        assert outcomes() == {"odd": "rejected", "rare": "moot"}


def test_others_hear_of_a_rejection(flagged, partner, staff):
    convert(partner)
    heard = []

    def hear(*, entry, **kwargs):
        heard.append(entry)

    entry_posted.connect(hear)
    try:
        reversal = reviews.reject(Review.objects.first(), by=staff)
    finally:
        entry_posted.disconnect(hear)
    assert heard == [reversal]


def test_a_rejection_takes_back_what_a_refund_has_left(flagged, partner, staff):
    conversion = convert(partner)
    reverse_conversion(conversion, Money(2500, "EUR"))
    assert outcomes() == {"odd": "open", "rare": "open"}
    assert reviews.reject(Review.objects.first(), by=staff).minor == -750
    assert total(partner) == 0


def test_a_refund_in_full_leaves_nothing_to_decide_on(flagged, partner, staff):
    other = convert(partner)
    conversion = convert(partner)
    review = Review.objects.get(entry__commission__conversion=conversion, reason="odd")
    rows = Review.objects.filter(entry__commission__conversion=conversion)
    reviews.release(rows.get(reason="rare"), by=staff)
    reverse_conversion(conversion, Money(2500, "EUR"))
    assert dict(rows.values_list("reason", "outcome")) == {"odd": "open", "rare": "released"}
    reverse_conversion(conversion)
    assert dict(rows.values_list("reason", "outcome")) == {"odd": "moot", "rare": "released"}
    for decide in (reviews.release, reviews.reject):
        with pytest.raises(InvalidTransition, match="review"):
            decide(review, by=staff)
    assert Entry.objects.filter(key__startswith="rejected:").count() == 0
    theirs = Review.objects.filter(entry__commission__conversion=other)
    assert set(theirs.values_list("outcome", flat=True)) == {"open"}


def test_where_rounding_has_left_nothing_a_rejection_posts_nothing(flagged, partner, staff):
    conversion = convert(partner, minor=10)
    # Of the one cent there is, more than half.
    reverse_conversion(conversion, Money(9, "EUR"))
    assert total(partner) == 0
    assert reviews.reject(Review.objects.first(), by=staff) is None
    assert Entry.objects.count() == 2
    assert sorted(outcomes().values()) == ["moot", "rejected"]


@pytest.mark.parametrize("first", [reviews.release, reviews.reject])
@pytest.mark.parametrize("then", [reviews.release, reviews.reject])
def test_a_review_is_decided_on_once(flagged, partner, staff, first, then):
    convert(partner)
    review, late = Review.objects.get(reason="odd"), Review.objects.get(reason="odd")
    first(review, by=staff)
    before = list(Review.objects.values()), Entry.objects.count()
    with pytest.raises(InvalidTransition, match="review"):
        then(late, by=make_user())
    assert (list(Review.objects.values()), Entry.objects.count()) == before
    assert late.outcome == "open"


def test_a_rejection_that_fails_has_decided_nothing(flagged, partner, staff):
    convert(partner)
    entry = Entry.objects.get()
    taken = ledger.reversal_of(entry, 1, key=f"rejected:{entry.pk}", now=timezone.now())
    taken.save()
    review = Review.objects.first()
    with pytest.raises(IntegrityError):
        reviews.reject(review, by=staff)
    assert review.outcome == "open"
    assert set(outcomes().values()) == {"open"}
    assert total(partner) == 999


def test_each_partner_is_reviewed_alone(flagged, shared, staff):
    make_rule(10)
    partners = [make_partner(), make_partner()]
    convert(*partners)
    assert Review.objects.count() == 4
    theirs = Review.objects.filter(entry__account=account_of(partners[0]))
    reviews.reject(theirs.first(), by=staff)
    assert [total(each) for each in partners] == [0, 500]


@pytest.mark.parametrize(
    ("flags", "approval", "queries", "opened"),
    [([fine, fine], False, 3, 0), ([odd, fine, rare], True, 4, 6)],
)
def test_all_reviews_cost_one_query(
    settings, shared, django_assert_num_queries, flags, approval, queries, opened
):
    partners = [make_partner(), make_partner()]
    make_rule(10)
    convert(*partners)
    conversion = convert(*partners)
    shares = list(conversion.shares.select_related("visitor__partner"))
    Conversion.objects.filter(pk=conversion.pk).update(reference="again", key="again")
    conversion.pk = conversion.key = None
    conversion.save()
    settings.AFFILIATE_FLAGS, settings.AFFILIATE_APPROVAL = flags, approval
    # The rules of the second partner are one more.
    with django_assert_num_queries(queries + 1):
        commissions.earn(conversion, shares)
    assert Review.objects.count() == opened


# At once

STAFF = 8


def decided_at_once():
    """Let so many people decide on one review at the same moment; return what came of it."""
    partner = make_partner()
    convert(partner, minor=10_000)
    held = Review.objects.filter(entry__account=account_of(partner))
    pk = held.get(reason="odd").pk
    users = [make_user() for _ in range(STAFF)]

    def decide():
        user = users.pop()
        review = Review.objects.get(pk=pk)
        time.sleep(0.02)
        try:
            (reviews.release if user.pk % 2 else reviews.reject)(review, by=user)
        except InvalidTransition:
            return "too late", None
        except IntegrityError:
            return "failed", None
        return review.outcome, user

    answers = at_once(STAFF, decide)
    counted = Counter(answer for answer, _ in answers)
    [winner] = [user for _, user in answers if user is not None][:1]
    found = Review.objects.get(pk=pk)
    reversals = Entry.objects.filter(account=account_of(partner), kind="reversal")
    agreed = {"released": (1000, 0), "rejected": (0, 1)}[found.outcome]
    return {
        "too late": counted["too late"],
        "winner": counted[found.outcome] == 1 and found.resolved_by == winner,
        "agrees": (total(partner), reversals.count()) == agreed,
    }


ONE_WINS = {"too late": STAFF - 1, "winner": True, "agrees": True}


@pytest.mark.django_db(transaction=True)
def test_of_eight_who_decide_at_once_one_does(flagged, partner):
    for _ in range(5):
        assert decided_at_once() == ONE_WINS


def trusting(review, outcome, by, now, using):
    """Go by what the review was when it was read."""
    if review.outcome != "open":
        raise InvalidTransition("review: is not open any more")
    Review.objects.filter(pk=review.pk).update(outcome=outcome, resolved_on=now, resolved_by=by)


@pytest.mark.django_db(transaction=True)
def test_teeth_a_decision_that_trusts_what_it_has_read(flagged, partner, monkeypatch):
    monkeypatch.setattr(reviews, "_resolve", trusting)
    assert decided_at_once() != ONE_WINS


def rejected_and_refunded(monkeypatch):
    """Reject what is refunded at the same moment, each waiting for the other to have looked."""
    partner, staff = make_partner(), make_user()
    conversion = convert(partner, minor=10_000)
    looked = threading.Barrier(2)
    make = ledger.reversal_of

    def reversal_of(*args, **named):
        with suppress(threading.BrokenBarrierError):
            looked.wait(1)
        return make(*args, **named)

    review = Review.objects.get(entry__account=account_of(partner), reason="odd")
    work = [
        lambda: reviews.reject(review, by=staff),
        lambda: reverse_conversion(Conversion.objects.get(pk=conversion.pk)),
    ]

    def run():
        with suppress(InvalidTransition):
            work.pop()()

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "reversal_of", reversal_of)
        at_once(2, run)
    rows = Review.objects.filter(entry__account=account_of(partner))
    with freeze(timezone.now() + timedelta(days=31)):
        found = ledger.balance(account_of(partner))
    return found.total, found.available, rows.filter(outcome="open").count()


@pytest.mark.django_db(transaction=True)
def test_what_is_rejected_and_refunded_at_once_is_taken_back_once(flagged, partner, monkeypatch):
    for _ in range(3):
        assert rejected_and_refunded(monkeypatch) == (0, 0, 0)


@pytest.mark.skipif(connection.vendor == "sqlite", reason="has one writer at a time by itself")
@pytest.mark.django_db(transaction=True)
def test_teeth_a_rejection_without_the_lock(flagged, partner, monkeypatch):
    monkeypatch.setattr(ledger, "lock", lambda account_ids, using: None)
    assert rejected_and_refunded(monkeypatch)[0] == -1000
