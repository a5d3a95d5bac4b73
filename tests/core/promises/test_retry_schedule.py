"""What is not delivered is tried again for three days, as the partner asks, and not for ever."""

from collections import Counter
from datetime import timedelta
from itertools import count, pairwise
from statistics import fmean

import pytest
from django.utils import timezone
from django.utils.http import http_date

from affiliations import egress, outbox, outcomes
from affiliations.models import Callback, CallbackAttempt, Destination, Subscription
from affiliations.testing import deliver, freeze
from tests.core.factories import make_partner
from tests.core.receivers.scripted import Says, scripted

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
#: What the example of Standard Webhooks 1.0.0 adds up to; written down again, not imported.
WAITS = [
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    *(timedelta(hours=hours) for hours in (2, 5, 10, 14, 20, 24)),
]
TOTAL = timedelta(hours=75, minutes=35, seconds=5)
LONG_AGO = "Sun, 06 Nov 1994 08:49:37 GMT"

numbers = count(1)


@pytest.fixture
def server():
    with scripted() as server:
        yield server


@pytest.fixture
def subscription(server):
    """A partner's wish to be told by the server."""
    return make_partner({"Order placed": f"{server.url}/x?v={{visitor_id}}"}).subscriptions.get()


def make_callback(server, subscription=None, **fields):
    """Return a callback to the server, to a host that nobody else is called at.

    What others do to a host decides when it is called, and is shown elsewhere.
    """
    partner = subscription.partner if subscription else make_partner()
    host = f"host-{next(numbers)}.example"
    outbox.know([host], "default")
    fields = {"partner": partner, "url": f"{server.url}/x?v=1", "host": host, **fields}
    return outbox.enqueue([Callback(subscription=subscription, **fields)])[0]


def until_settled(clock):
    """Deliver at each moment at which something falls due, until nothing waits."""
    while (first := Callback.objects.waiting().order_by("due").first()) is not None:
        clock.now = max(clock.now, first.due)
        if tuple(deliver()) == (0, 0):
            # Its host asked for patience too, and is let wait a little longer.
            clock.now = Destination.objects.get(pk=first.host).paused_until


# The schedule


def schedules(server, number):
    """Let callbacks fail until they are given up; return when each of them was tried."""
    server.answers = [Says(500)]
    with freeze() as clock:
        made = [make_callback(server) for _ in range(number)]
        until_settled(clock)
    assert set(Callback.objects.values_list("state", flat=True)) == {"dead"}
    return [list(each.attempt_log.values_list("started_on", flat=True)) for each in made]


def deviations(tried):
    """Return what is not as the promise has it, in words, of the times at which each was tried."""
    found = set()
    factors = []
    for times in tried:
        waits = [after - before for before, after in pairwise(times)]
        if len(waits) != len(WAITS):
            found.add(f"{len(times)} attempts")
            continue
        factors += [wait / wanted for wait, wanted in zip(waits, WAITS, strict=True)]
        if not TOTAL * 0.8 <= times[-1] - times[0] <= TOTAL * 1.2:
            found.add("the whole")
    if not all(0.8 <= factor <= 1.2 for factor in factors):
        found.add("a wait")
    if factors and len(set(factors)) < len(factors) / 2:
        found.add("all at the same moment")
    # Of 72, the mean of an even spread is off by 0.014, and once in 100,000 times by 0.06.
    if factors and not 0.94 <= fmean(factors) <= 1.06:
        found.add("on the average")
    return found


@pytest.mark.parametrize("number", [8, pytest.param(500, marks=pytest.mark.long)])
def test_ten_attempts_over_three_days_with_jitter(server, number):
    tried = schedules(server, number)
    assert deviations(tried) == set()
    assert len(server.heard) == 10 * number
    assert len({heard.headers["webhook-id"] for heard in server.heard}) == number


@pytest.mark.parametrize(
    ("name", "value", "caught"),
    [
        ("SCHEDULE", tuple(WAITS[:4]), "5 attempts"),
        ("SCHEDULE", tuple(SECOND * 5 * 4**power for power in range(9)), "the whole"),
        ("JITTER", 0.0, "all at the same moment"),
        ("JITTER", 0.6, "a wait"),
        ("MAX_ATTEMPTS", 9, "9 attempts"),
    ],
    ids=["short", "without a cap", "no jitter", "too much of it", "nine"],
)
def test_teeth_another_schedule(server, monkeypatch, name, value, caught):
    monkeypatch.setattr(outcomes, name, value)
    if name == "SCHEDULE":
        monkeypatch.setattr(outcomes, "MAX_ATTEMPTS", len(value) + 1)
    assert caught in deviations(schedules(server, 3))


def test_nothing_is_sent_a_millisecond_early(server):
    server.answers = [Says(500)]
    with freeze() as clock:
        callback = make_callback(server)
        deliver()
        callback.refresh_from_db()
        clock.now = callback.due - timedelta(milliseconds=1)
        assert deliver() == (0, 0)
        clock.now = callback.due
        assert deliver() == (1, 0)


# Retry-After


def wait_after(server, **headers):
    """Return for how long a callback waits after an answer of 503 with these headers."""
    server.answers = [Says(503, headers)]
    with freeze() as clock:
        callback = make_callback(server)
        assert deliver() == (1, 0)
        callback.refresh_from_db()
        assert callback.state == Callback.State.PENDING
        return callback.due - clock.now


def in_days(days):
    """Return the header that names a moment in so many days."""
    return http_date((timezone.now() + days * DAY).timestamp())


def not_as_asked(server):
    """Return the headers that are not honoured, or honoured for longer than a day."""
    asked = {
        "120": 120 * SECOND,
        " 3600 ": 3600 * SECOND,
        "86400": DAY,
        "86401": DAY,
        "999999999": DAY,
        "9" * 5000: DAY,
        in_days(0.5): DAY / 2,
        in_days(3): DAY,
        in_days(30_000): DAY,
    }
    found = []
    for header, wanted in asked.items():
        waited = wait_after(server, **{"Retry-After": header})
        # A date has whole seconds, and some time passed since it was written.
        if not wanted - 5 * SECOND <= waited <= wanted:
            found.append(header)
    return found


def test_retry_after_is_honoured_up_to_a_day(server):
    assert not_as_asked(server) == []


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("retry_after", lambda header, now: timedelta(0)),
        ("MAX_RETRY_AFTER", timedelta(days=36_500)),
        ("MAX_RETRY_AFTER", timedelta(minutes=1)),
    ],
    ids=["ignored", "without a cap", "with too low a cap"],
)
def test_teeth_retry_after(server, monkeypatch, name, broken):
    monkeypatch.setattr(outcomes, name, broken)
    assert not_as_asked(server)


@pytest.mark.parametrize(
    "header",
    [
        *("", "soon", "-5", "+5", "1.5", "1e9", "0x10", "٣", "nan", "0", "120, 240"),
        *(LONG_AGO, "Sun, 06 Nov 9994 25:61:61 GMT", "Someday, 99 Foo 0000 00:00:00 GMT"),
    ],
)
def test_what_is_no_retry_after_changes_nothing(server, header):
    waited = wait_after(server, **{"Retry-After": header})
    assert WAITS[0] * 0.8 <= waited <= WAITS[0] * 1.2


def test_retry_after_never_hurries_and_adds_no_attempt(server):
    server.answers = [Says(429, {"Retry-After": "90"})]
    with freeze() as clock:
        callback = make_callback(server)
        until_settled(clock)
    times = list(callback.attempt_log.values_list("started_on", flat=True))
    assert len(times) == 10
    first, *others = [after - before for before, after in pairwise(times)]
    # The host was asked for as well: to it, nobody comes at the same moment either.
    assert 90 * SECOND <= first <= 90 * SECOND * 1.2
    for wait, wanted in zip(others, WAITS[1:], strict=True):
        assert wait >= wanted * 0.8


# What is not tried again


def test_who_answers_410_is_called_no_more(server, subscription):
    server.answers = [Says(410), Says(200)]
    first, *others = [make_callback(server, subscription) for _ in range(4)]
    with freeze() as clock:
        deliver()
        assert len(server.heard) == 1
        for each in (first, subscription):
            each.refresh_from_db()
        assert (first.state, first.due, first.attempts) == ("dead", None, 1)
        assert first.reason == "The partner answered 410."
        assert subscription.off_since == clock.now
        assert subscription.off_reason == "The partner answered 410: this address is gone."
        clock.tick(days=30)
        assert deliver() == (0, 0)
    for each in others:
        each.refresh_from_db()
        # Not failed: no attempt was counted, and none was made.
        assert (each.state, each.due, each.attempts, each.reason) == ("parked", None, 0, "")
    assert CallbackAttempt.objects.count() == len(server.heard) == 1


def calls_after_410(server, subscription):
    server.answers = [Says(410)]
    for _ in range(4):
        make_callback(server, subscription)
    deliver()
    return len(server.heard)


def test_teeth_a_410_that_is_a_failure_like_any_other(server, subscription, monkeypatch):
    assert calls_after_410(server, subscription) == 1
    outbox.switch_on(subscription)
    monkeypatch.setattr(outbox, "switch_off", lambda subscription, *, reason: None)
    assert calls_after_410(server, subscription) > 2


def test_others_of_the_partner_are_still_called(server, subscription):
    other = Subscription.objects.create(
        partner=subscription.partner,
        trigger="User registered",
        callback_url=subscription.callback_url,
    )
    server.answers = [Says(410), Says(200)]
    make_callback(server, subscription)
    deliver()
    assert make_callback(server, other)
    assert deliver() == (1, 1)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308, 399])
def test_a_redirect_is_a_failure_that_nobody_follows(server, status):
    with scripted() as elsewhere:
        server.answers = [Says(status, {"Location": f"{elsewhere.url}/y"}), Says(200)]
        with freeze() as clock:
            callback = make_callback(server)
            assert deliver() == (1, 0)
            callback.refresh_from_db()
            assert callback.state == "pending"
            assert callback.reason == f"The partner answered {status}."
            clock.now = callback.due
            assert deliver() == (1, 1)
        assert elsewhere.heard == []
    assert len(server.heard) == 2


@pytest.mark.parametrize("body", [b"", b"status=error&reason=duplicate", b"SUCCESS=TRUE", b"\xff"])
def test_an_answer_without_what_is_expected_is_a_refusal(server, subscription, body):
    server.answers = [Says(200, {}, body)]
    with freeze() as clock:
        callback = make_callback(server, subscription, expects="success=true")
        assert deliver() == (1, 0)
        clock.tick(days=30)
        assert deliver() == (0, 0)
    callback.refresh_from_db()
    said = outcomes.kept_of(body) or "nothing"
    assert (callback.state, callback.due) == ("refused", None)
    assert callback.reason == f"{outcomes.REFUSED} It said: {said}"
    subscription.refresh_from_db()
    assert (subscription.failures, subscription.off_since) == (0, None)


@pytest.mark.parametrize(
    ("expects", "body"),
    [
        ("success=true", b"id=4&success=true"),
        ("größer", "ist größer".encode()),
        ("end", b" " * (egress.MAX_ANSWER - 3) + b"end"),
        ("", b"whatever"),
    ],
)
def test_an_answer_with_what_is_expected_is_none(server, expects, body):
    server.answers = [Says(200, {}, body)]
    callback = make_callback(server, expects=expects)
    assert deliver() == (1, 1)
    callback.refresh_from_db()
    assert (callback.state, callback.reason) == ("delivered", "")


def test_what_is_expected_of_a_failure_makes_it_no_success(server):
    server.answers = [Says(500, {}, b"success=true")]
    callback = make_callback(server, expects="success=true")
    assert deliver() == (1, 0)
    callback.refresh_from_db()
    assert callback.state == "pending"


def test_where_no_partner_can_be_is_called_once_in_vain(server, subscription, settings):
    settings.AFFILIATE_CALLBACK_ALLOW = ()
    callback = make_callback(server, subscription, url="http://10.0.0.1/x?v=1")
    with freeze() as clock:
        assert deliver() == (1, 0)
        clock.tick(days=30)
        assert deliver() == (0, 0)
    callback.refresh_from_db()
    subscription.refresh_from_db()
    assert (callback.state, callback.due, callback.attempts) == ("dead", None, 1)
    assert callback.reason.startswith("The address 10.0.0.1 ")
    assert callback.reason.endswith("No partner can be there.")
    assert (subscription.failures, subscription.off_since) == (0, None)


# What fails on our side


def lose_the_key(settings, host):
    settings.SECRET_KEY = "another " * 10


def lose_the_proxy(settings, host):
    settings.AFFILIATE_EGRESS_PROXY = "http://127.0.0.1:9"


def mistype_the_proxy(settings, host):
    settings.AFFILIATE_EGRESS_PROXY = "proxy:3128"


def forget_its_password(settings, host):
    settings.AFFILIATE_EGRESS_PROXY = host.replace("127.0.0.1", "somebody@127.0.0.1")


@pytest.mark.parametrize(
    ("go_wrong", "status"),
    [(lose_the_key, 0), (lose_the_proxy, 0), (mistype_the_proxy, 0), (forget_its_password, 407)],
)
def test_what_is_our_own_fault_counts_against_nobody(
    server, subscription, settings, go_wrong, status
):
    url = "http://127.0.0.2/x?v=1"
    server.answers = [Says(status)]
    with freeze() as clock:
        callback = make_callback(server, subscription, url=url)
        go_wrong(settings, server.url)
        for attempts in range(1, outcomes.MAX_ATTEMPTS):
            assert deliver() == (1, 0)
            callback.refresh_from_db()
            assert (callback.state, callback.attempts) == ("pending", attempts)
            clock.now = callback.due
    host = Destination.objects.get(pk=callback.host)
    assert (host.failures, host.failing_since, host.paused_until) == (0, None, None)
    subscription.refresh_from_db()
    assert (subscription.failures, subscription.failing_since) == (0, None)
    assert subscription.off_since is None


def test_what_a_partner_answers_through_a_proxy_counts(server, subscription, settings):
    server.answers = [Says(502)]
    callback = make_callback(server, subscription, url="http://127.0.0.2/x?v=1")
    settings.AFFILIATE_EGRESS_PROXY = server.url
    assert deliver() == (1, 0)
    assert Destination.objects.get(pk=callback.host).failures == 1
    assert Subscription.objects.get().failures == 1


# Switched on again


def let_go(subscription, number):
    """Switch a subscription on, and return in which second each of its callbacks is let go."""
    Callback.objects.bulk_create(
        Callback(
            partner=subscription.partner,
            subscription=subscription,
            url="http://127.0.0.1:9/x",
            state=Callback.State.PARKED,
            due=None,
        )
        for _ in range(number)
    )
    with freeze() as clock:
        assert outbox.switch_on(subscription) == number
        dues = Callback.objects.order_by("pk").values_list("due", flat=True)
        return [int((due - clock.now) / SECOND) for due in dues]


def too_fast(seconds):
    """Return the seconds with more than their share: one at first, twice as many each minute."""
    return [second for second, n in Counter(seconds).items() if n > 2 ** ((second + 1) / 60) + 1]


def test_what_was_parked_is_let_go_slowly_at_first(subscription):
    seconds = let_go(subscription, 3000)
    assert too_fast(seconds) == []
    assert seconds == sorted(seconds), "the oldest first"
    assert not Callback.objects.exclude(state="pending", token=None, attempts=0).exists()
    in_minute = [sum(second // 60 == minute for second in seconds) for minute in range(5)]
    # 60 / ln 2 = 87 in the first minute, and twice as many in each that follows.
    for before, after in pairwise(in_minute):
        assert 1.9 <= after / before <= 2.1
    assert 85 <= in_minute[0] <= 88


@pytest.mark.parametrize(
    "ramp", [lambda position: 0, lambda position: position // 30], ids=["at once", "30 a second"]
)
def test_teeth_no_ramp(subscription, monkeypatch, ramp):
    monkeypatch.setattr(outbox, "ramp", ramp)
    assert too_fast(let_go(subscription, 300))


def test_a_subscription_that_is_on_again_is_called_by_and_by(server, subscription):
    with freeze() as clock:
        outbox.switch_off(subscription, reason="a holiday")
        for _ in range(10):
            make_callback(server, subscription)
        assert deliver() == (0, 0)
        subscription.refresh_from_db()
        assert outbox.switch_on(subscription) == 10
        calls = []
        for _ in range(12):
            deliver()
            calls.append(len(server.heard))
            clock.tick(seconds=1)
    assert calls[0] <= 2
    assert calls[4] <= 6
    assert calls[-1] == 10
    subscription.refresh_from_db()
    assert (subscription.off_since, subscription.off_reason) == (None, "")
    assert (subscription.failures, subscription.failing_since) == (0, None)


# Switched off by failures


def off_after(server, subscription, moments):
    """Let one call fail at each moment, days from the first; return at which it was switched off.

    A moment below zero is that of a call that arrives.
    """
    started = timezone.now()
    for moment in moments:
        server.answers = [Says(200 if moment < 0 else 500)]
        with freeze(started + abs(moment) * DAY):
            callback = make_callback(server, subscription)
            deliver()
            callback.refresh_from_db()
            # Its repetitions are no part of this.
            if callback.state == Callback.State.PENDING:
                outbox.cancel(callback, reason="")
        subscription.refresh_from_db()
        if subscription.off_since:
            return moment
    return None


HOUR = 1 / 24
AN_HOUR_OF_FAILURES = [number * HOUR / 30 for number in range(30)]
SIX_DAYS_WITH_THREE = [0, 3, 6]
SIX_DAYS_WITH_MANY = [number / 4 for number in range(25)]
WITH_A_SUCCESS = [*SIX_DAYS_WITH_MANY[:18], -4.4, *SIX_DAYS_WITH_MANY[18:]]
TWENTY_AND_THEN_SILENCE = [*AN_HOUR_OF_FAILURES[:19], 5.01]


def test_a_subscription_is_switched_off_after_days_of_failures(server, subscription):
    assert off_after(server, subscription, SIX_DAYS_WITH_MANY) == 5
    assert subscription.off_reason == "Every attempt has failed for 5 days."
    make_callback(server, subscription)
    heard = len(server.heard)
    assert deliver() == (0, 0)
    assert len(server.heard) == heard
    assert Callback.objects.filter(state="parked").count() == 1


def test_twenty_failures_and_five_days_are_enough(server, subscription):
    assert off_after(server, subscription, TWENTY_AND_THEN_SILENCE) == 5.01


SPARED = {
    "many within an hour": AN_HOUR_OF_FAILURES,
    "few in six days": SIX_DAYS_WITH_THREE,
    "nineteen in six days": [*SIX_DAYS_WITH_MANY[:18], 6],
    "a success between": WITH_A_SUCCESS,
}


@pytest.mark.parametrize("moments", SPARED.values(), ids=SPARED)
def test_a_subscription_is_not_switched_off_for_less(server, subscription, moments):
    assert off_after(server, subscription, moments) is None


@pytest.mark.parametrize(
    ("name", "value", "moments"),
    [
        ("OFF_AFTER", timedelta(0), AN_HOUR_OF_FAILURES),
        ("OFF_FAILURES", 1, SIX_DAYS_WITH_THREE),
    ],
    ids=["on a bare count", "on time alone"],
)
def test_teeth_switched_off_for_less(server, subscription, monkeypatch, name, value, moments):
    monkeypatch.setattr(outcomes, name, value)
    assert off_after(server, subscription, moments) is not None
