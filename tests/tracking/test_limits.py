"""How often somebody may write: who is held to it, what they are told, and what it costs."""

import json
import os
import subprocess
import sys
import time

import pytest
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import OperationalError
from django.test import Client as Browser

from affiliations.tracking import limits
from affiliations.tracking.conf import Rate, rate_of
from affiliations.tracking.models import Allowance, Hit, Identity, Property
from tests.core.promises.chaos import ROOT
from tests.tracking.factories import hit, make_event_type, make_property

pytestmark = pytest.mark.django_db

ADDRESS, OTHER = "81.2.69.160", "81.2.69.161"
BLOG = "https://blog.example"


@pytest.fixture(autouse=True)
def nothing_taken():
    limits.forget()
    yield
    limits.forget()


@pytest.fixture
def shop():
    made = make_property(public_key="SHOP", origins=[BLOG])
    make_event_type(made, public_key="BUY")
    return made


def post(address=ADDRESS, raw=None, where="events", headers=None, **fields):
    told = {"public_key": "SHOP", "type": "pageview", "aliases": ["c"], **fields}
    member = {"events": "event", "identities": "identity"}[where]
    body = json.dumps({member: told}) if raw is None else raw
    browser = Browser(REMOTE_ADDR=address)
    url = f"/attribution/{where}"
    return browser.post(url, body, content_type="application/json", headers=headers)


def ask(secret, address=ADDRESS):
    url = f"/attribution/api/v1/SHOP/customers/42?secret={secret}"
    return Browser(REMOTE_ADDR=address).get(url)


def statuses(number, call=post, *args, **options):
    return [call(*args, **options).status_code for _ in range(number)]


def end_all():
    """Let all periods end, also those that this process knows of."""
    Allowance.objects.update(ends=0)
    for each in limits._leases.values():
        each.until = 0.0


# Who is held to it


def test_the_limits_of_a_site(settings):
    assert (rate_of("address"), rate_of("key")) == (Rate(20_000, 3600), None)
    settings.AFFILIATE_TRACKING_LIMITS = {"key": "5/s"}
    assert (rate_of("address"), rate_of("key")) == (Rate(20_000, 3600), Rate(5, 1))
    settings.AFFILIATE_TRACKING_LIMITS = {"address": None, "key": "3/d"}
    assert (rate_of("address"), rate_of("key")) == (None, Rate(3, 86_400))


def test_an_address_writes_no_more_than_that(shop, settings):
    settings.AFFILIATE_TRACKING_LIMITS = {"address": "3/d"}
    assert statuses(3) == [201] * 3
    answer = post()
    assert (answer.status_code, answer["Cache-Control"]) == (429, "private, no-store")
    told = {"error": "address: there are too many requests", "field": "address"}
    assert answer.json() == told
    assert 86_390 < int(answer["Retry-After"]) <= 86_400
    assert post(where="identities", client_id="42").status_code == 429
    assert (Hit.objects.count(), Identity.objects.count()) == (3, 1)
    # Others are others, whatever a request says that it was passed on for.
    assert post(OTHER).status_code == 201
    forged = {"x-forwarded-for": OTHER, "x-real-ip": OTHER, "forwarded": f"for={OTHER}"}
    assert post(headers=forged).status_code == 429


def test_what_cannot_be_read_counts_as_well(shop, settings):
    settings.AFFILIATE_TRACKING_LIMITS = {"address": "3/d"}
    assert statuses(1, raw="{") + statuses(1, public_key="?") + statuses(1, url=5) == [
        400,
        401,
        400,
    ]
    assert post().status_code == 429
    # To be refused by its method is no work, and a browser asks first for each page's sake.
    browser = Browser(REMOTE_ADDR=ADDRESS)
    assert browser.get("/attribution/events").status_code == 405
    assert browser.options("/attribution/events").status_code == 204


def test_a_property_is_written_to_no_more_than_that(shop, settings):
    settings.AFFILIATE_TRACKING_LIMITS = {"key": "2/d"}
    other = make_property()
    # Of another site it is refused before, and would use it up for everybody.
    stray = statuses(3, headers={"origin": "https://evil.example"})
    assert stray + statuses(1, public_key="?") == [403, 403, 403, 401]
    assert [post(each).status_code for each in (ADDRESS, OTHER)] == [201, 201]
    answer = post("9.9.9.9", headers={"origin": BLOG})
    assert (answer.status_code, answer.json()["field"]) == (429, "public_key")
    assert answer["Access-Control-Allow-Origin"] == BLOG
    assert post(public_key=other.public_key).status_code == 201


@pytest.mark.parametrize(
    ("one", "another", "is_same"),
    [
        ("2a02:1:2:3::1", "2a02:1:2:3:ffff::2", True),
        ("2a02:1:2:3::1", "2a02:1:2:4::1", False),
        ("::ffff:81.2.69.160", "81.2.69.160", True),
        ("81.2.69.160", "81.2.69.161", False),
    ],
)
def test_whoever_has_a_network_has_all_of_its_addresses(shop, settings, one, another, is_same):
    settings.AFFILIATE_TRACKING_LIMITS = {"address": "1/d"}
    assert post(one).status_code == 201
    assert post(another).status_code == (429 if is_same else 201)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "::1", "fc00::1", "", "unix:"])
def test_a_proxy_is_not_everybody_behind_it(shop, settings, address):
    settings.AFFILIATE_TRACKING_LIMITS = {"address": "1/d"}
    assert statuses(3, address=address) == [201] * 3
    assert not Allowance.objects.exists()


def test_wrong_secrets_are_counted_and_right_ones_are_not(settings):
    settings.AFFILIATE_TRACKING_LIMITS = {"address": "3/d"}
    _, secret = Property.objects.issue(name="Shop", public_key="SHOP")
    assert statuses(9, ask, secret) == [404] * 9
    assert statuses(3, ask, "wrong") == [401] * 3
    refused = ask("wrong")
    assert (refused.status_code, refused.json()["field"]) == (429, "address")
    assert int(refused["Retry-After"]) > 1
    # Nor is anybody told any more which one would be right.
    assert ask(secret).content == refused.content
    assert ask(secret, OTHER).status_code == 404
    # It is no other limit's.
    assert post().status_code == 201


def test_a_right_secret_gives_nothing_back_to_the_next_period(settings):
    settings.AFFILIATE_TRACKING_LIMITS = {"address": "3/d"}
    taken = limits.take("address", "x")
    end_all()
    assert [limits.take("address", "x").wait for _ in range(3)] == [0] * 3
    limits.give_back(taken)
    assert limits.take("address", "x").wait


# Periods


def test_a_period_begins_with_the_first_use_and_ends(shop, settings):
    settings.AFFILIATE_TRACKING_LIMITS = {"address": "2/d"}
    assert statuses(3) == [201, 201, 429]
    end_all()
    assert statuses(3) == [201, 201, 429]
    limits.forget()
    Allowance.objects.update(ends=0)
    assert statuses(3) == [201, 201, 429]
    assert Allowance.objects.count() == 1


def test_it_ends_by_itself(shop, settings):
    settings.AFFILIATE_TRACKING_LIMITS = {"address": "1/s"}
    refused = [post() for _ in range(9)][-1]
    assert refused["Retry-After"] == "1"
    time.sleep(1.05)
    assert post().status_code == 201


def test_a_period_is_measured_by_the_clock_of_the_database(settings):
    settings.AFFILIATE_TRACKING_LIMITS = {"address": "100/h"}
    limits.take("address", "x")
    ends = Allowance.objects.get().ends
    assert abs(ends - 1000 * (time.time() + 3600)) < 60_000
    limits.forget()
    limits.take("address", "x")
    assert Allowance.objects.get().ends == ends


def test_a_shorter_period_begins_at_once(settings):
    settings.AFFILIATE_TRACKING_LIMITS = {"address": "1/d"}
    assert [limits.take("address", "x").wait > 0 for _ in range(2)] == [False, True]
    settings.AFFILIATE_TRACKING_LIMITS = {"address": "2/h"}
    assert [limits.take("address", "x").wait > 0 for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("number", [1, 2, 15, 16, 17, 100, 255, 256, 257, 1000])
def test_it_is_exact_whatever_is_taken_at_once(settings, number):
    settings.AFFILIATE_TRACKING_LIMITS = {"address": f"{number}/d"}
    waits = [limits.take("address", "x").wait for _ in range(number + 3)]
    assert [each > 0 for each in waits] == [False] * number + [True] * 3
    assert Allowance.objects.get().used == number


def test_what_others_have_taken_is_taken(settings):
    settings.AFFILIATE_TRACKING_LIMITS = {"address": "100/d"}
    limits.take("address", "x")
    Allowance.objects.update(used=99)
    assert [limits.take("address", "x").wait > 0 for _ in range(8)] == [False] * 6 + [True] * 2


# What it costs


@pytest.mark.parametrize("limit", ["address", "key"])
def test_queries(shop, settings, django_assert_num_queries, limit):
    settings.AFFILIATE_TRACKING_LIMITS = {"address": None, limit: "1000/d"}
    other = make_property(public_key="OTHER")
    hit(other, "cookie:c")
    assert post().status_code == 201
    # To see what is left, and to take of it: in a savepoint, as the test is a transaction.
    for more, times in ((0, 15), (4, 1), (0, 31), (4, 1)):
        for _ in range(times):
            with django_assert_num_queries(1 + more):
                assert post().status_code == 201
    # Somebody new: it is taken by one statement.
    with django_assert_num_queries(1 + 3):
        assert post(OTHER, public_key="OTHER").status_code == 201


def test_over_the_limit_nothing_is_asked(shop, settings, django_assert_num_queries):
    settings.AFFILIATE_TRACKING_LIMITS = {"address": "1/d"}
    statuses(2)
    with django_assert_num_queries(0):
        assert post().status_code == 429


def test_strangers_take_no_more_memory_than_there_is_for_them(settings, monkeypatch):
    monkeypatch.setattr(limits, "SIZE", 10)
    settings.AFFILIATE_TRACKING_LIMITS = {"address": "100/d"}
    for number in range(30):
        limits.take("address", f"{number}")
        limits.take("address", "busy")
    assert len(limits._leases) == 10
    # Whoever comes all the time is still known: of theirs nothing was lost.
    assert limits.take("address", "busy").lease.size > 1
    busy = [each for each in limits._leases.items() if each[0][2] == "busy"]
    assert len(busy) == 1
    assert Allowance.objects.order_by("-used")[0].used == 31 + busy[0][1].left
    # Nobody else is let in beyond their limit for having been forgotten.
    assert sum(not limits.take("address", "0").wait for _ in range(200)) == 100 - 6


def test_what_is_kept_is_no_address(shop):
    post()
    assert ADDRESS not in str(list(Allowance.objects.values()))
    assert Allowance.objects.get().digest == limits._digest(f"address {ADDRESS}/32")
    limits.forget()
    post()
    assert Allowance.objects.count() == 1


def test_what_has_ended_is_deleted_a_day_later(shop, capsys, monkeypatch):
    monkeypatch.setattr(limits, "BATCH", 2)
    for number in range(7):
        limits.take("address", f"{number}")
    now = int(time.time() * 1000)
    digests = [each.pk for each in Allowance.objects.all()]
    Allowance.objects.filter(pk__in=digests[:5]).update(ends=now - 90_000_000)
    Allowance.objects.filter(pk=digests[5]).update(ends=now - 80_000_000)
    call_command("purge_hits", dry_run=True)
    assert Allowance.objects.count() == 7
    call_command("purge_hits")
    assert {each.pk for each in Allowance.objects.all()} == set(digests[5:])
    # It begins anew for whoever was deleted, and is known here.
    end_all()
    assert not limits.take("address", "0").wait


# Where something is wrong


def test_where_the_database_cannot_be_asked_nobody_is_held_up(
    shop, settings, monkeypatch, caplog, django_assert_num_queries
):
    settings.AFFILIATE_TRACKING_LIMITS = {"address": "1/d"}
    asked = []

    def fail(*args, **options):
        asked.append(args)
        raise OperationalError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(limits, "_draw", fail)
        assert statuses(5) == [201] * 5
    # It is not asked again at once, and the log is not full of it.
    assert len(asked) == 1
    assert [each.levelname for each in caplog.records] == ["ERROR"]
    assert ADDRESS not in caplog.text
    limits._paused_until = 0.0
    assert statuses(2) == [201, 429]


def test_who_is_never_fast_enough_is_let_through(shop, settings, monkeypatch, caplog):
    settings.AFFILIATE_TRACKING_LIMITS = {"address": "5/d"}
    assert post().status_code == 201
    monkeypatch.setattr(limits, "_changed", lambda rows, using, **fields: False)
    assert post().status_code == 201
    assert "others have been faster" in caplog.text


def test_no_thread_gives_out_what_a_period_that_has_ended_had(settings):
    """One that was held up between taking some and saying so."""
    key = ("address", Rate(100, 86_400), "x")
    now = time.monotonic()
    limits._leases[key] = limits.Lease(5, 6, now + 100)
    assert limits._merged(key, limits.Lease(6, 6, now - 1)).left == 5
    assert limits._merged(key, limits.Lease(6, 12, now + 99)).left == 11
    assert limits._leases[key] == limits.Lease(11, 12, now + 99)
    # Nothing more is to be had, but what is left is.
    assert limits._merged(key, limits.Lease(0, 0, now + 99)) == limits.Lease(11, 0, now + 99)
    assert limits._merged(key, limits.Lease(3, 3, now + 99)).size == 0


FORKED = """
import os, time, django
django.setup()
from affiliations.tracking import limits
limits._leases["x"] = limits.Lease(5, 6, time.monotonic() + 100)
limits._lock.acquire()
pid = os.fork()
if not pid:
    os._exit(len(limits._leases) + limits._lock.locked())
assert os.waitpid(pid, 0)[1] == 0
assert len(limits._leases) == 1
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="has no fork")
def test_a_process_that_is_forked_spends_nothing_that_its_parent_has_taken():
    subprocess.run([sys.executable, "-c", FORKED], cwd=ROOT, check=True)


def test_the_site_s_own_hits_are_not_limited(shop, settings):
    settings.AFFILIATE_TRACKING_LIMITS = {"address": "1/d", "key": "1/d"}
    assert all(hit(shop, "cookie:c") for _ in range(5))
    assert django_settings.AFFILIATE_TRACKING_LIMITS
