"""Row I8 of the promises: a member invites as many people as the site allows, and not one more.

However many pages of theirs are at it, and from wherever these say that they come. It is the one
limit of how often something may be done that the referrals have: a key may call as often as it
likes, as in the API of the links, and the API writes to nobody.
"""

import os
import random
from collections import Counter
from datetime import timedelta
from itertools import count

import pytest
from django.core import mail
from django.db import connection
from django.test import Client

from affiliations.referrals import indications, mails, views
from affiliations.referrals.indications import invite
from affiliations.referrals.models import EmailIndication
from tests.core.factories import make_user
from tests.core.promises.test_races import FIFTY, at_once
from tests.referrals.factories import make_key, make_member, make_program
from tests.referrals.rest import MOUNT

pytestmark = pytest.mark.django_db(transaction=True)
serial = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="has one writer at a time by itself"
)

EACH = int(os.environ.get("AFFILIATIONS_CALLS", "1000"))
LONG = [pytest.mark.long, pytest.mark.timeout(7200)]
LINK = "http://testserver/?ref=x"
PERIOD = timedelta(minutes=1)


@pytest.fixture
def members():
    make_program()
    return [make_member(user=make_user()) for _ in range(2)]


def ask_at_once(members, threads, calls):
    """Let threads invite somebody new with each call, for each of these members by turns."""
    numbers, seeds = count(1), count(1)
    sessions = []
    for each in members:
        client = Client()
        client.force_login(each.user)
        sessions.append(client.cookies)

    def work():
        seed, client = next(seeds), Client()
        draw = random.Random(seed)
        for turn in range(seed, seed + calls):
            client.cookies = sessions[turn % len(sessions)].copy()
            address = f"{draw.randrange(1, 224)}.{draw.randrange(256)}.0.1"
            answer = client.post(
                "/friends/",
                {"emails": f"friend-{next(numbers)}@example.com"},
                headers={
                    "x-forwarded-for": f"{address}, 10.0.0.1",
                    "x-real-ip": address,
                    "forwarded": f"for={address}",
                    "user-agent": f"Mozilla/5.0 {address}",
                },
                REMOTE_ADDR=address,
            )
            assert (answer.status_code, answer["Location"]) == (302, "/friends/")
        return

    at_once(threads, work)


def invited(member):
    """Return when a member's friends were invited, one after the other."""
    rows = EmailIndication.objects.filter(indicator=member).exclude(link="")
    return sorted(rows.values_list("created_on", flat=True))


def most(moments):
    """Return how many there were at most within any period."""
    return max(
        sum(0 <= (later - moment).total_seconds() < PERIOD.total_seconds() for later in moments)
        for moment in moments
    )


@pytest.mark.parametrize(
    ("limit", "threads", "calls"),
    [
        (7, 8, 5),
        (11, FIFTY, 3),
        pytest.param(100, 64, EACH, marks=LONG),
    ],
)
def test_nobody_is_invited_beyond_the_limit(members, settings, limit, threads, calls):
    settings.AFFILIATE_REFERRALS_INVITATIONS = (limit, timedelta(days=1))
    ask_at_once(members, threads, calls)
    for each in members:
        assert len(invited(each)) == limit
        assert invite(each, ["one-more@example.com"], LINK).refused[0].reason == "limit"
    # Each of them is written to, and nobody else is.
    mails.send_due()
    assert len({each.to[0] for each in mail.outbox}) == len(mail.outbox) == limit * len(members)
    assert EmailIndication.objects.count() == limit * len(members)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_within_no_minute_more_are_invited(members, settings):
    settings.AFFILIATE_REFERRALS_INVITATIONS = (100, PERIOD)
    ask_at_once(members, 64, EACH)
    for each in members:
        assert len(invited(each)) >= 100
        assert most(invited(each)) <= 100


def test_whoever_has_a_key_is_not_limited_and_writes_to_nobody(members, settings):
    settings.AFFILIATE_REFERRALS_INVITATIONS = (1, timedelta(days=1))
    client = Client(headers={"authorization": f"Bearer {make_key()}"})
    for number in range(3):
        sent = {"user_indicator": members[0].user_hash, "emails": f"friend-{number}@example.com"}
        assert client.post(f"{MOUNT}/emailindication/", sent).status_code == 201
    assert not EmailIndication.objects.exclude(link="").exists()
    assert not mail.outbox
    # Nor does what was noted so use up what the member may do.
    assert len(invite(members[0], ["new@example.com"], LINK).saved) == 1


# What would not hold


def overrun(members, settings):
    settings.AFFILIATE_REFERRALS_INVITATIONS = (3, timedelta(days=1))
    ask_at_once(members, 8, 3)
    return max(len(invited(each)) for each in members) > 3


@serial
def test_teeth_a_limiter_that_looks_and_then_acts(members, settings, monkeypatch):
    monkeypatch.setattr(indications, "locked", lambda rows, pk: rows.get(pk=pk))
    for _ in range(20):
        if overrun(members, settings):
            return
        EmailIndication.objects.all().delete()
    pytest.fail("twenty times nobody was in anybody's way")


def test_teeth_a_limiter_that_asks_where_a_page_comes_from(members, settings, monkeypatch):
    seen: Counter = Counter()

    def of_this_address(request, member, form, link):
        address = request.headers["X-Forwarded-For"]
        seen[address] += 1
        if seen[address] <= 3:
            emails = form.cleaned_data["emails"]
            indications._noted(member, emails, link=link, limit=None)
        return True

    monkeypatch.setattr(views, "_invited", of_this_address)
    assert overrun(members, settings)
