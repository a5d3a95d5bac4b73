"""Visitors are put into the buckets that Flagship's SDKs put them into."""

import json
from pathlib import Path

import pytest

from affiliations.experiments.allocation import reallocated, spread
from affiliations.experiments.hashing import bucket, digest, encoded

#: What both SDKs came to, when it was computed by their own code.
VECTORS = json.loads((Path(__file__).parent / "data" / "vectors.json").read_text())["vectors"]


def same(encode):
    """Return the rows that a way of encoding comes to the SDKs' hash for."""
    return [row for row in VECTORS if digest(encode(row["hashed_string"])) == row["sdk_hash"]]


def test_every_vector():
    assert same(encoded) == VECTORS
    for row in VECTORS:
        found = bucket(row["variation_group_id"], row["visitor_id"])
        assert found == row["sdk_mod_100"], row


def test_that_would_notice_plain_utf_8():
    missed = [row for row in VECTORS if row not in same(str.encode)]
    assert missed == [row for row in VECTORS if not row["same_as_standard"]] != []


def shares_of(row):
    return {each["id"]: each["allocation"] or 0 for each in row["allocations"]}


@pytest.mark.parametrize(
    "row", VECTORS, ids=lambda row: f"{row['variation_group_id']}-{row['sdk_mod_100']}"
)
def test_the_variation_of_every_vector(row):
    shares = shares_of(row)
    if sum(shares.values()) > 100 or any(each % 1 for each in shares.values()):
        # Campaigns here have neither; what the clients make of them is not ours to decide.
        pytest.skip("more than all, or a part of a bucket")
    owners = spread(reallocated([], {name: int(each) for name, each in shares.items()}))
    assert owners[bucket(row["variation_group_id"], row["visitor_id"])] == row["variation"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("é", b"\xc3\xa9"),
        ("e\u0301", b"e\xcc\x81"),
        ("\uffff", b"\xef\xbf\xbf"),
        # Three bytes, of which the first lost the bits above it.
        ("\U00010000", b"\xf0\x80\x80"),
        ("\U0010ffff", b"\xef\xbf\xbf"),
        # Half a letter takes whatever follows along; at the end it is by itself.
        ("\ud83d\ude00", b"\xf0\x9f\x98\x80"),
        ("\ud83da", b"\xf0\x9f\x91\xa1"),
        ("a\ud83d", b"a\xed\xa0\xbd"),
    ],
    ids=ascii,
)
def test_what_is_hashed_of_a_letter(text, told):
    assert encoded(text) == told
