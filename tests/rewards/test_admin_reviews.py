"""The queue of reviews: what waits, in which order, and decisions that are made once."""

import re
import threading
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone

from affiliations.admin import acting
from affiliations.exceptions import InvalidTransition
from affiliations.money import Money
from affiliations.rewards import ledger, reviews
from affiliations.rewards.admin import reviews as admin
from affiliations.rewards.models import Entry, Review
from affiliations.services import reverse_conversion
from affiliations.testing import freeze
from tests.core.factories import make_partner, make_user
from tests.core.promises.test_races import at_once
from tests.rewards.factories import account_of, convert, make_rule, total
from tests.rewards.test_admin_accounts import (
    HOSTILE,
    address,
    boss,
    cells,
    page,
    staff_with,
    text_of,
    told,
)

pytestmark = pytest.mark.django_db

ODD = "tests.rewards.test_admin_reviews.odd_address"
SURE = {"confirmed": "yes"}


def odd_address(commission):
    return f"{HOSTILE} of {commission.conversion.reference}"


@pytest.fixture
def partner(settings):
    settings.AFFILIATE_APPROVAL = True
    make_rule(10)
    return make_partner(name="Anna")


@pytest.fixture
def odd(settings):
    settings.AFFILIATE_FLAGS = (ODD,)


def act(client, action, *rows, **more):
    data = {"action": action, "_selected_action": [row.pk for row in rows], "index": 0, **more}
    return client.post(address("review_changelist"), data, follow=True)


def listed(client, **query):
    """Return the references of the conversions that the list shows."""
    text = page(client, "review_changelist", **query)
    return [re.search(r"\((.*)\)", each)[1] for each in cells(text, "conversion_")]


def outcomes():
    return [*Review.objects.order_by("pk").values_list("outcome", flat=True)]


class TestQueue:
    def test_what_has_waited_longest_is_first(self, partner):
        with freeze() as clock:
            for number in range(3):
                convert(partner, reference=f"A-{number}")
                clock.tick(days=1)
            client = boss()
            assert listed(client) == ["A-0", "A-1", "A-2"]
            text = page(client, "review_changelist")
            assert "<h1>Reviews: 3 open</h1>" in text
            assert cells(text, "since")[0].endswith("(3 days ago)")
            first, _second, third = Review.objects.order_by("pk")
            reviews.release(first, by=make_user())
            reviews.release(third, by=make_user())
            assert listed(client) == ["A-1"]
            assert listed(client, outcome="released") == ["A-2", "A-0"]
            assert "<h1>Reviews: 1 open</h1>" in page(client, "review_changelist")

    def test_it_says_what_is_held_and_why(self, admin_client, partner, odd):
        conversion = convert(partner, reference="A-1")
        reverse_conversion(conversion, Money(2500, "EUR"))
        convert(partner, reference="A-2")
        convert(make_partner(name="Bert"), reference="A-3")
        text = page(admin_client, "review_changelist")
        assert cells(text, "whose") == ["Anna3 others open"] * 4 + ["Bert1 other open"] * 2
        reasons = [each[:11] for each in cells(text, "held_for")]
        assert reasons == ["approval by", "odd address"] * 3
        assert cells(text, "left")[::2] == ["7.50 EUR", "10.00 EUR", "10.00 EUR"]
        assert HOSTILE not in text
        assert f"?partner={partner.uid}" in text

    def test_it_is_filtered(self, admin_client, partner, odd):
        convert(partner, reference="A-1")
        convert(make_partner(name="Bert"), reference="A-2")
        assert listed(admin_client, partner="Bert") == ["A-2", "A-2"]
        assert listed(admin_client, reason="approval") == ["A-1", "A-2"]
        assert listed(admin_client, reason="odd_address", partner="Anna") == ["A-1"]
        assert (
            listed(admin_client, reason="\0nothing") == listed(admin_client, reason=HOSTILE) == []
        )
        assert listed(admin_client, outcome="rejected") == []
        assert len(listed(admin_client, outcome="junk")) == 4

    @pytest.mark.parametrize("count", [1, 30])
    def test_it_takes_the_same_queries_however_long(
        self, admin_client, django_assert_num_queries, partner, odd, count
    ):
        for number in range(count):
            convert(make_partner(), reference=f"A-{number}")
        # Session and user; how many are open; how many are listed; the rows; their entries,
        # accounts, partners, commissions and conversions; what is left of them; how many others.
        with django_assert_num_queries(12):
            page(admin_client, "review_changelist")

    def test_the_page_explains_it(self, admin_client, partner, odd):
        convert(partner, reference="A-1")
        review = Review.objects.get(reason="odd_address")
        text = page(admin_client, "review_change", review.pk)
        assert "odd address: Commission on Order placed (A-1), Anna" in text
        assert "It pays 10 % of the amount." in text
        assert HOSTILE not in text
        assert 'name="action" value="release"' in text
        reviews.release(review, by=make_user("carla"))
        text = page(admin_client, "review_change", review.pk)
        assert 'name="action"' not in text
        assert "carla" in text

    def test_what_is_not_of_a_partner_is_shown_too(self, admin_client):
        account = ledger.account_of("member:7", "EUR")
        entry = ledger.post(account, Money(5, "EUR"), kind="credit", key="k")
        review = Review.objects.create(entry=entry, reason="by hand")
        assert cells(page(admin_client, "review_changelist"), "whose") == ["member:7"]
        page(admin_client, "review_change", review.pk)
        for action in ("release", "reject"):
            assert act(admin_client, action, review).status_code == 200


class TestDeciding:
    def test_to_release_is_asked_first(self, admin_client, partner):
        with freeze() as clock:
            convert(partner, reference="A-1")
            clock.tick(days=31)
            client = boss()
            review = Review.objects.get()
            text = text_of(act(client, "release", review))
            assert "10.00 EUR, approval by staff: Commission on Order placed (A-1), Anna" in text
            assert outcomes() == ["open"]
            assert told(act(client, "release", review, **SURE)) == ["1 review was released."]
            assert ledger.balance(account_of(partner)).available == 1000
        assert outcomes() == ["released"]
        assert Review.objects.get().resolved_by.is_superuser
        assert LogEntry.objects.get().get_change_message() == "Released."

    def test_to_reject_says_what_is_taken_back_for_ever(self, admin_client, partner, odd):
        reverse_conversion(convert(partner), Money(2500, "EUR"))
        convert(partner, minor=777, currency="JPY")
        text = unescape(text_of(act(admin_client, "reject", *Review.objects.all())))
        # Two reviews of each: it is taken back once.
        assert "7.50 EUR, 78 JPY is taken back from the partners. It never comes again" in text
        assert outcomes() == ["open"] * 4
        answer = act(
            admin_client, "reject", *Review.objects.all(), **SURE, memo="Bought by a robot"
        )
        assert told(answer) == ["2 commissions were rejected."]
        assert outcomes() == ["rejected", "moot"] * 2
        assert (total(partner), total(partner, "JPY")) == (0, 0)
        memos = {entry.memo for entry in Entry.objects.filter(key__startswith="rejected:")}
        assert memos == {"Rejected in review: Bought by a robot"}
        assert {log.get_change_message() for log in LogEntry.objects.all()} == {
            "Rejected: Bought by a robot"
        }
        text = page(admin_client, "account_change", account_of(partner).pk)
        assert "Bought by a robot" in text

    def test_without_a_memo_it_does_not_say_the_reason(self, admin_client, partner):
        convert(partner)
        act(admin_client, "reject", *Review.objects.all(), **SURE)
        assert Entry.objects.get(kind="reversal").memo == "Rejected in review"

    @pytest.mark.parametrize("memo", ["a\0b", "x" * 201])
    def test_a_memo_that_cannot_be_kept_is_refused(self, admin_client, partner, memo):
        convert(partner)
        answer = act(admin_client, "reject", Review.objects.get(), **SURE, memo=memo)
        assert 'class="errorlist"' in answer.content.decode()
        assert outcomes() == ["open"]

    def test_all_that_is_selected_of_a_partners(self, admin_client, partner):
        other = make_partner(name="Bert")
        for each in (partner, other, partner):
            convert(each)
        url = f"{address('review_changelist')}?partner={partner.uid}"
        data = {"action": "reject", "select_across": "1", "index": 0, **SURE}
        data["_selected_action"] = [Review.objects.first().pk]
        answer = admin_client.post(url, data, follow=True)
        assert told(answer) == ["2 commissions were rejected."]
        assert (total(partner), total(other)) == (0, 1000)

    def test_no_more_than_a_page_at_once(self, admin_client, partner, monkeypatch):
        monkeypatch.setattr(acting, "AT_ONCE", 1)
        for _ in range(2):
            convert(partner)
        answer = act(admin_client, "reject", *Review.objects.all(), **SURE)
        assert told(answer) == ["Please select at most 1 at a time."]
        assert outcomes() == ["open", "open"]

    @pytest.mark.parametrize("action", ["release", "reject"])
    def test_a_second_click_is_told(self, admin_client, partner, action):
        convert(partner)
        review = Review.objects.get()
        act(admin_client, action, review, **SURE)
        answer = act(admin_client, action, review, **SURE)
        assert told(answer) == ["Nothing of this is open any more: somebody has decided on it."]
        assert LogEntry.objects.count() == 1

    @pytest.mark.parametrize("action", ["release", "reject"])
    def test_who_comes_second_is_told(self, admin_client, partner, monkeypatch, action):
        convert(partner, reference="A-1")
        decide = getattr(reviews, action)

        def meanwhile(review, **named):
            # It was open when the list was read.
            reviews._resolve(review, "released", None, timezone.now(), "default")
            return decide(review, **named)

        monkeypatch.setattr(reviews, action, meanwhile)
        answer = act(admin_client, action, Review.objects.get(), **SURE)
        about = "approval by staff: Commission on Order placed (A-1), Anna"
        assert told(answer) == [f"Somebody else has decided meanwhile: {about}."]
        assert (total(partner), LogEntry.objects.count()) == (1000, 0)

    def test_who_may(self, partner):
        convert(partner)
        review = Review.objects.get()
        viewer, other = staff_with("view_review"), staff_with("view_account", "change_account")
        text = page(viewer, "review_changelist")
        assert 'value="reject"' not in text
        assert 'name="action"' not in page(viewer, "review_change", review.pk)
        for client in (viewer, other, Client()):
            for action in ("release", "reject"):
                act(client, action, review, **SURE)
        assert outcomes() == ["open"]
        assert other.get(address("review_changelist")).status_code == 403
        assert viewer.get(address("review_add")).status_code == 403
        assert boss().get(address("review_delete", review.pk)).status_code == 403
        decider = staff_with("view_review", "change_review")
        assert told(act(decider, "release", review, **SURE)) == ["1 review was released."]


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def decided(self, partner):
        """Let four of the staff reject the same; return how many were told that they did."""
        convert(partner)
        review = Review.objects.get()
        clients = [staff_with("view_review", "change_review") for _ in range(4)]
        answers = at_once(4, lambda: act(clients.pop(), "reject", review, **SURE))
        assert [answer.status_code for answer in answers] == [200] * 4
        # By their text, as what Django's test client notes of them is mixed up between threads.
        said = [answer.content.decode().count("1 commission was rejected.") for answer in answers]
        return sum(said), LogEntry.objects.count()

    def test_of_four_who_reject_at_once_one_does(self, partner):
        assert self.decided(partner) == (1, 1)
        assert total(partner) == 0

    def test_teeth_a_rejection_that_tells_everybody_it_was_theirs(self, partner, monkeypatch):
        reject, barrier = reviews.reject, threading.Barrier(4)

        def eager(review, **named):
            barrier.wait(30)  # all have read that it is open
            try:
                return reject(review, **named)
            except InvalidTransition:
                return None

        monkeypatch.setattr(admin.reviews, "reject", eager)
        assert self.decided(partner) == (4, 4)


def test_reasons_have_words():
    assert admin.worded("approval") == "approval by staff"
    assert admin.worded("my_own_check") == "my own check"


def test_it_counts_no_further_than_it_must(admin_client, partner, monkeypatch):
    monkeypatch.setattr(admin, "BOUND", 2)
    for _ in range(3):
        convert(partner)
    assert "<h1>Reviews: 2+ open</h1>" in page(admin_client, "review_changelist")
    assert Review.objects.filter(opened_on__gt=timezone.now() - timedelta(days=1)).count() == 3
