"""Signatures fit the official library's, and nothing that was changed passes."""

import hmac
import random
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from affiliations import signing
from affiliations.exceptions import InvalidSignature

SECRET = b"s" * 32
OTHER = b"o" * 32
NOW = 1_750_000_000
DERIVED = "a39f67be35b09d06d099010b95ad6ffac3e67cb5339395dfcfe0c5079f5ddc37"
FINGERPRINT = "30c716b6"


def signed(payload, secrets=(SECRET,), webhook_id="msg_1", timestamp=NOW):
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signing.signature_header(secrets, webhook_id, timestamp, payload),
    }


def passes(headers, payload, secrets=(SECRET,), now=NOW):
    try:
        signing.verify(secrets, headers, payload, now)
    except InvalidSignature:
        return False
    return True


def generated(number):
    """Yield ids and bodies of every length, in all of Unicode."""
    source = random.Random(8)
    for _ in range(number):
        letters = [chr(source.choice([32, 160, 0x4E00, 0x1F600]) + source.randrange(90))]
        body = "".join(source.choice('{}[]":,.é漢\n\0 ab1') for _ in range(source.randrange(200)))
        yield signing.new_webhook_id(), (letters[0] + body).encode()


def test_the_official_library_agrees():
    official = Webhook(signing.encode_secret(SECRET))
    now = int(time.time())
    for webhook_id, body in generated(1_000):
        headers = signed(body, webhook_id=webhook_id, timestamp=now)
        official.verify(body, headers, json_parse=False)
        theirs = official.sign(webhook_id, datetime.fromtimestamp(now, UTC), body.decode())
        assert headers["webhook-signature"] == theirs
        assert passes({**headers, "webhook-signature": theirs}, body, now=now)


def test_the_official_library_takes_either_secret_of_a_rotation():
    headers = signed(b"{}", secrets=[SECRET, OTHER], timestamp=int(time.time()))
    for secret in (SECRET, OTHER):
        Webhook(signing.encode_secret(secret)).verify("{}", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(signing.encode_secret(b"third")).verify("{}", headers)


def one_byte_changed(source, text):
    position = source.randrange(len(text))
    changed = bytearray(text)
    changed[position] ^= source.randrange(1, 256)
    return bytes(changed)


def accepted_tampers(sign, verify):
    """Count the messages with one byte changed, anywhere, that `verify` lets through."""
    source = random.Random(9)
    accepted = 0
    for webhook_id, body in generated(1_000):
        headers = sign(body, webhook_id=webhook_id)
        assert verify(headers, body)
        accepted += verify(headers, one_byte_changed(source, body))
        for name in headers:
            changed = one_byte_changed(source, headers[name].encode()).decode("latin-1")
            accepted += verify({**headers, name: changed}, body)
    return accepted


def test_no_tampered_message_passes():
    assert accepted_tampers(signed, passes) == 0


def test_signing_the_body_alone_is_caught():
    def sign(body, webhook_id):
        return {**signed(body, webhook_id=webhook_id), "webhook-signature": digest(body)}

    def digest(body):
        return hmac.new(SECRET, body, "sha256").hexdigest()

    def verify(headers, body):
        return headers["webhook-signature"] == digest(body)

    assert accepted_tampers(sign, verify) == 2_000


@pytest.mark.parametrize(
    ("age", "accepted"),
    [(-301, False), (-300, True), (0, True), (300, True), (300.5, False), (301, False)],
)
def test_the_edges_of_the_tolerance(age, accepted):
    assert passes(signed(b"x"), b"x", now=NOW + age) is accepted


def test_a_time_that_is_none_passes_nothing():
    assert not passes(signed(b"x"), b"x", now=float("nan"))


def test_several_secrets_and_signatures():
    both = signed(b"x", secrets=[OTHER, SECRET])
    assert len(both["webhook-signature"].split(" ")) == 2
    signing.verify(SECRET, both, b"x", NOW)
    signing.verify((each for each in [b"new", OTHER]), both, b"x", NOW)
    assert not passes(both, b"x", secrets=[b"third"])
    assert not passes(both, b"x", secrets=[])
    foreign = {**both, "webhook-signature": f"v1a,xx v2 {both['webhook-signature']}"}
    assert passes(foreign, b"x")


def test_names_of_headers_in_any_case():
    assert passes({name.title(): value for name, value in signed(b"x").items()}, b"x")


def test_a_dot_in_the_id_moves_no_border():
    # "a.5" sent at 6 with "x" and "a" sent at 5 with "6.x" sign the same bytes.
    headers = signed(f"{NOW}.x".encode(), webhook_id="a", timestamp=NOW - 1)
    moved = {**headers, "webhook-id": f"a.{NOW - 1}", "webhook-timestamp": str(NOW)}
    assert not passes(moved, b"x")


GARBAGE = st.one_of(
    st.text(alphabet=st.characters(exclude_categories=[])),
    st.sampled_from(
        ["", "v1,", "v1", ",", "v1,====", "v1,é", "\ud800", "9" * 5000, "-1", "٣", "1.5"]
    ),
    st.none(),
    st.integers(),
    st.binary(),
)


@given(
    st.dictionaries(
        st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature", "x"]), GARBAGE
    ),
    st.binary(),
)
def test_garbage_is_refused_and_nothing_else(headers, payload):
    assert not passes(headers, payload)
    assert not passes({**signed(payload), **headers, "webhook-signature": "v1,AA"}, payload)


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_named(missing):
    headers = signed(b"x")
    del headers[missing]
    with pytest.raises(InvalidSignature, match=f"^{missing}: "):
        signing.verify(SECRET, headers, b"x", NOW)


def test_what_is_signed():
    assert signing.payload("GET", "/cb?id=1", b"ignored") == b"/cb?id=1"
    assert signing.payload("get", "/cb?id=1", b"") == b"/cb?id=1"
    assert signing.payload("POST", "/cb", b"{}") == b"{}"


def test_ids_are_new_each_time():
    ids = {signing.new_webhook_id() for _ in range(10_000)}
    assert len(ids) == 10_000
    assert all(
        len(each) == 30 and each.startswith("msg_") and each[4:].isalnum() and each.isascii()
        for each in ids
    )


@given(st.binary(min_size=1, max_size=64))
def test_secrets_as_text_and_back(secret):
    text = signing.encode_secret(secret)
    assert text.startswith("whsec_")
    assert signing.decode_secret(f" {text}\n") == secret


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_a", "whsec_é", "whsec_a b=", "whsec_\ud800"])
def test_what_is_no_secret(text):
    with pytest.raises(InvalidSignature, match=r"^secret: "):
        signing.decode_secret(text)


def test_derived_secrets_never_change():
    # Partners hold these: a release that derives others silently breaks every signature.
    assert signing.derive_secret("site key", "salt").hex() == DERIVED
    assert signing.key_fingerprint("site key") == FINGERPRINT
    assert signing.derive_secret(b"site key", "salt").hex() == DERIVED
    assert signing.key_fingerprint(b"site key") == FINGERPRINT


def test_every_key_and_salt_has_its_own_secret():
    pairs = [("a", "bc"), ("ab", "c"), ("abc", ""), ("", "abc"), ("a", "b"), ("a" * 5000, "b")]
    secrets = {signing.derive_secret(key, salt) for key, salt in pairs}
    assert len(secrets) == len(pairs)
    assert {len(secret) for secret in secrets} == {32}
    for key, salt in pairs:
        assert signing.key_fingerprint(key) not in signing.derive_secret(key, salt).hex()
