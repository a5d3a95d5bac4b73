"""Whatever is signed, the official verifier accepts; whatever was changed, nobody does."""

import json
import random
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from unittest import mock

import pytest
from standardwebhooks import webhooks
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from affiliations import outbox, signing
from affiliations.exceptions import InvalidSignature
from affiliations.models import Callback, Subscription, partners
from affiliations.services import record_conversion
from affiliations.testing import callback_server, deliver, freeze
from tests.core.factories import make_partner, make_visitor

SECRET = b"s" * 32
NOW = 1_750_000_000
NUMBER = 10_000
LONGEST = 20_000

official = Webhook(signing.encode_secret(SECRET))


@contextmanager
def official_clock(now):
    """Let the official verifier take it to be `now`, in Unix seconds or as a datetime."""
    moment = now if isinstance(now, datetime) else datetime.fromtimestamp(now, UTC)

    class Frozen(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(moment.timestamp(), tz)

    with mock.patch.object(webhooks, "datetime", Frozen):
        yield


def headers_of(body, webhook_id, timestamp=NOW, secrets=(SECRET,)):
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signing.signature_header(secrets, webhook_id, timestamp, body),
    }


def passes_officially(body, headers, verifier=official):
    """Tell whether the official verifier lets a message through."""
    try:
        verifier.verify(body, headers, json_parse=False)
    except (WebhookVerificationError, ValueError):
        # A malformed signature, or a body that is no UTF-8, is a plain ValueError there.
        return False
    return True


def passes(body, headers, secrets=(SECRET,), now=NOW):
    """Tell whether our own verifier lets a message through."""
    try:
        signing.verify(secrets, headers, body, now)
    except InvalidSignature:
        return False
    return True


def generated(number, seed=8):
    """Yield ids and bodies, of any length up to 20 kB and in all of Unicode; half are JSON."""
    source = random.Random(seed)
    ranges = [(32, 127), (0, 32), (0xA0, 0x600), (0x4E00, 0x5000), (0x1F600, 0x1F650)]
    ranges += [(0x200B, 0x2030), (0xFFF0, 0xFFFF), (0x10FFF0, 0x10FFFF)]
    letters = [chr(source.randrange(*source.choice(ranges))) for _ in range(50_000)]
    text = "".join(letters)
    for number_of in range(number):
        size = LONGEST if number_of % 100 == 0 else int(source.paretovariate(0.4)) % LONGEST
        start = source.randrange(len(text) - LONGEST)
        body = text[start : start + size]
        if source.random() < 0.5:
            message = {body[:40]: body, "b": [1.0, None, 1e3], "a": {"é": body[:7]}}
            blanks = source.choice([(",", ":"), (", ", ": "), (" ,\n", "\t:")])
            body = json.dumps(message, ensure_ascii=source.random() < 0.5, separators=blanks)
        yield signing.new_webhook_id(), body.encode()[:LONGEST].decode(errors="ignore").encode()


# Bodies


def mismatches(number, sign):
    """Count the generated bodies, signed by `sign`, over which the two verifiers stumble."""
    found = Counter()
    with official_clock(NOW):
        for webhook_id, body in generated(number):
            headers = sign(body, webhook_id)
            found["official"] += not passes_officially(body, headers)
            found["ours"] += not passes(body, headers)
            found["bytes"] += len(body)
    return found


@pytest.mark.parametrize("number", [NUMBER, pytest.param(200_000, marks=pytest.mark.long)])
def test_the_official_verifier_takes_every_body(number):
    found = mismatches(number, headers_of)
    assert (found["official"], found["ours"]) == (0, 0)
    assert found["bytes"] > number * 500


def reserialised(body):
    try:
        return json.dumps(json.loads(body)).encode()
    except ValueError:
        return body


def test_teeth_signing_json_that_was_read_and_written_again():
    found = mismatches(500, lambda body, webhook_id: headers_of(reserialised(body), webhook_id))
    # Half are JSON, and of these a few were written in just that way.
    assert found["official"] == found["ours"] > 150


@pytest.mark.parametrize("number", [500])
def test_the_official_signer_signs_the_same(number):
    moment = datetime.fromtimestamp(NOW, UTC)
    for webhook_id, body in generated(number, seed=3):
        theirs = official.sign(webhook_id, moment, body.decode())
        assert headers_of(body, webhook_id)["webhook-signature"] == theirs


# Tampers


def one_byte_changed(source, data):
    """Return `data` with one byte another."""
    changed = bytearray(data)
    changed[source.randrange(len(changed))] ^= source.randrange(1, 256)
    return bytes(changed)


def accepted_tampers(number, sign=headers_of):
    """Change one byte in each of so many messages; count what is let through all the same."""
    source = random.Random(9)
    accepted = Counter()
    with official_clock(NOW):
        for webhook_id, body in generated(number, seed=source.random()):
            headers = sign(body, webhook_id)
            place = source.choice(["body", *headers])
            accepted[f"made at {place}"] += 1
            if place == "body":
                body = one_byte_changed(source, body or b"x")
            else:
                digest = headers[place]
                changed = one_byte_changed(source, digest.encode()).decode("latin-1")
                if place == "webhook-timestamp" and source.random() < 0.5:
                    # Hardly any other byte makes a time that is not too far off.
                    other = source.choice([each for each in "0123456789" if each != digest[-1]])
                    changed = digest[:-1] + other
                headers = {**headers, place: changed}
            accepted["ours"] += passes(body, headers)
            if passes_officially(body, headers):
                # Base64 has four spellings of a digest's end, and there all of them pass.
                same = place == "webhook-signature" and changed[:45] == digest[:45]
                accepted["respelled" if same else "official"] += 1
    return accepted


@pytest.mark.parametrize("number", [NUMBER, pytest.param(200_000, marks=pytest.mark.long)])
def test_no_message_with_one_byte_changed_passes(number):
    accepted = accepted_tampers(number)
    assert (accepted["ours"], accepted["official"]) == (0, 0)
    places = ("body", "webhook-id", "webhook-timestamp", "webhook-signature")
    assert min(accepted[f"made at {place}"] for place in places) > number / 5
    assert accepted["respelled"] < number / 100


@pytest.mark.parametrize("unsigned", ["id", "time", "body"])
def test_teeth_a_signature_that_leaves_something_out(monkeypatch, unsigned):
    sign = signing.sign

    def less(secret, webhook_id, timestamp, payload):
        return sign(
            secret,
            "" if unsigned == "id" else webhook_id,
            0 if unsigned == "time" else timestamp,
            b"" if unsigned == "body" else payload,
        )

    monkeypatch.setattr(signing, "sign", less)
    assert accepted_tampers(1_000)["ours"] > 20


# The edges of the time


EDGES = [
    (-301, False),
    (-300.000001, False),
    (-300, True),
    (-299.999999, True),
    (0, True),
    (299.999999, True),
    (300, True),
    (300.000001, False),
    (301, False),
]


@pytest.mark.parametrize(("age", "accepted"), EDGES)
def test_the_edges_are_exact_and_those_of_the_official_verifier(age, accepted):
    headers = headers_of(b"{}", "msg_1")
    assert passes(b"{}", headers, now=NOW + age) is accepted
    exactly = datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=age)
    with official_clock(exactly):
        assert passes_officially(b"{}", headers) is accepted


def test_teeth_an_edge_that_is_a_second_off(monkeypatch):
    headers = headers_of(b"{}", "msg_1")
    verify = signing.verify
    for tolerance in (299, 301):
        monkeypatch.setattr(signing, "verify", partial(verify, tolerance=tolerance))
        assert [passes(b"{}", headers, now=NOW + age) for age, _ in EDGES] != [
            accepted for _, accepted in EDGES
        ]


# Over the wire


@pytest.fixture
def server():
    with callback_server() as server:
        yield server


def officially(secret):
    return Webhook(signing.encode_secret(secret))


def convert(server, method="POST", reference="A-17", clicked="x"):
    """Record a conversion of which a partner is told; return the partner."""
    partner = make_partner()
    Subscription.objects.create(
        partner=partner, trigger="Order placed", callback_url=server.callback_url, method=method
    )
    visitor = make_visitor(partner, click_id=clicked)
    known = {visitor.pk: "session"}
    record_conversion(trigger="Order placed", reference=reference, known=known)
    return partner


TEXTS = ["A-17", "größer € 漢字 😀", '"}{\\"\n\t', "a\u2028b\u0085c", "+ %20&=?#"]


@pytest.mark.django_db
@pytest.mark.parametrize("text", TEXTS)
def test_what_arrives_passes_over_its_raw_bytes(server, text):
    partner = convert(server, reference=text, clicked=text)
    assert deliver() == (1, 1)
    [call] = server.received
    [secret] = partner.signing_secrets()
    message = officially(secret).verify(call.body, call.headers)
    assert message["type"] == "conversion"
    assert message["data"]["reference"] == message["data"]["click_id"] == text
    assert call.body == Callback.objects.get().body.encode()
    assert len(call.body) < LONGEST
    assert not passes_officially(call.body + b" ", call.headers, officially(secret))


@pytest.mark.django_db
def test_teeth_a_posted_body_that_is_signed_written_anew(server, monkeypatch):
    monkeypatch.setattr(
        signing, "payload", lambda method, target, body: json.dumps(json.loads(body)).encode()
    )
    partner = convert(server)
    deliver()
    [call] = server.received
    assert not passes_officially(call.body, call.headers, officially(*partner.signing_secrets()))


@pytest.mark.django_db
@pytest.mark.parametrize("text", TEXTS)
def test_a_get_passes_over_its_request_target(server, text):
    partner = convert(server, "GET", reference=text)
    deliver()
    [call] = server.received
    assert call.query["reference"] == text
    officially(*partner.signing_secrets()).verify(call.target, call.headers, json_parse=False)


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_each_repetition_has_the_same_bytes_and_a_signature_of_its_own(server, method):
    server.answers = [500, None, 302, 200]
    with freeze() as clock:
        partner = convert(server, method, reference="größer")
        verifier = officially(*partner.signing_secrets())
        for attempt in range(4):
            deliver()
            call = server.received[attempt]
            with official_clock(clock.now):
                verifier.verify(
                    call.body if method == "POST" else call.target,
                    call.headers,
                    json_parse=False,
                )
            clock.tick(hours=3)
    assert len({(call.target, call.body) for call in server.received}) == 1
    assert len({call.headers["webhook-id"] for call in server.received}) == 1
    for name in ("webhook-timestamp", "webhook-signature"):
        assert len({call.headers[name] for call in server.received}) == 4


# Rotation


def failed_verifications(server, every):
    """Rotate a secret under traffic; return the calls that a partner could not verify.

    One that still has the old secret must pass for a day, and one that has the new one always.
    """
    failed, calls = [], 0
    with freeze() as clock:
        partner = make_partner()
        [old] = partner.signing_secrets()
        new = signing.decode_secret(partner.rotate_secret())
        rotated = clock.now
        while (passed := clock.now - rotated) <= 1.25 * timedelta(days=1):
            outbox.enqueue(
                [
                    Callback(
                        partner=partner,
                        method="POST",
                        url=f"{server.url}/x?v=1",
                        body=json.dumps({"passed": str(passed)}),
                    )
                ]
            )
            assert deliver() == (1, 1)
            call = server.received[-1]
            wanted = [True, passed < timedelta(days=1)]
            with official_clock(clock.now):
                had = [
                    passes_officially(call.body, call.headers, officially(each))
                    for each in (new, old)
                ]
            if had != wanted or had != [passes_ours(call, each) for each in (new, old)]:
                failed.append((passed, had))
            calls += 1
            clock.now += every
    assert calls > 20
    return failed


def passes_ours(call, secret):
    try:
        call.verify(secret)
    except InvalidSignature:
        return False
    return True


@pytest.mark.django_db
@pytest.mark.parametrize(
    "every",
    [timedelta(minutes=30), pytest.param(timedelta(seconds=30), marks=pytest.mark.long)],
)
def test_nobody_fails_to_verify_while_a_secret_is_rotated(server, every):
    assert failed_verifications(server, every) == []


@pytest.mark.django_db
def test_the_end_of_the_old_secret_is_exact():
    with freeze() as clock:
        partner = make_partner()
        [old] = partner.signing_secrets()
        new = signing.decode_secret(partner.rotate_secret())
        clock.tick(days=1, microseconds=-1)
        assert partner.signing_secrets() == [new, old]
        clock.tick(microseconds=1)
        assert partner.signing_secrets() == [new]


@pytest.mark.django_db
def test_teeth_a_rotation_without_an_overlap(server, monkeypatch):
    monkeypatch.setattr(partners, "ROTATION", timedelta(0))
    assert failed_verifications(server, timedelta(hours=1))


@pytest.mark.django_db
def test_teeth_the_old_secret_for_ever(server, monkeypatch):
    monkeypatch.setattr(partners, "ROTATION", timedelta(days=9))
    assert failed_verifications(server, timedelta(hours=1))


@pytest.mark.django_db
def test_teeth_one_signature_only(server, monkeypatch):
    header = signing.signature_header
    monkeypatch.setattr(
        signing, "signature_header", lambda secrets, *rest: header(secrets[:1], *rest)
    )
    assert failed_verifications(server, timedelta(hours=1))
