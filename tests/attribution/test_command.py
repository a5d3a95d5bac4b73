"""The report on the command line: what it prints is what `attribute` says."""

import csv
import re
import sys
from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from affiliations import attribution
from affiliations.attribution.management.commands.attribution_report import aligned
from affiliations.attribution.tables import Laid
from affiliations.management import progress
from tests.attribution.factories import DAY, START, converted, touched
from tests.core.factories import make_partner, make_user
from tests.tracking.factories import make_property, say

pytestmark = pytest.mark.django_db

MARCH = ("--since", "2026-03-01", "--until", "2026-04-01")


@pytest.fixture
def shop():
    """Two people, of whom one was brought by two sources and bought twice, in two currencies."""
    prop = make_property()
    anna, bert = make_user(), make_user()
    say(prop, f"user:{anna.pk} cookie:anna")
    say(prop, f"user:{bert.pk} cookie:bert")
    touched(prop, "cookie:anna", "google", 1)
    touched(prop, "cookie:anna", "=mail", 5)
    touched(prop, "cookie:bert", "google", 2)
    converted(prop, anna, 6, minor=123456, currency="EUR")
    converted(prop, anna, 7, minor=777, currency="JPY")
    converted(prop, bert, 8, trigger="Signed up")
    return prop


def run(*args, **streams):
    out = StringIO()
    call_command("attribution_report", *args, stdout=out, **streams)
    return out.getvalue()


def lines(text):
    return [line.split() for line in text.splitlines()]


def test_a_table(shop):
    assert lines(run(*MARCH, "--by", "source", "--model", "last")) == [
        ["model", "source", "conversions", "amount", "paths", "touchpoints", "effect"],
        ["last", "google", "1.00", "1", "1"],
        ["last", "=mail", "1.00", "1234.56", "EUR", "1", "1"],
        ["last", "google", "0.00", "0.00", "EUR", "1", "1"],
        ["last", "=mail", "1.00", "777", "JPY", "1", "1"],
        ["last", "google", "0.00", "0", "JPY", "1", "1"],
    ]


def test_numbers_stand_below_one_another(shop):
    printed = run(*MARCH, "--by", "source").splitlines()
    end = printed[0].index("conversions") + len("conversions")
    assert {line[end - 3] for line in printed[1:]} == {"."}


def test_models_are_named_again_and_again_or_by_commas(shop):
    named = run(*MARCH, "--model", "last,linear", "--model", "markov", "--by", "source")
    assert list(dict.fromkeys(line[0] for line in lines(named)[1:])) == [
        "last",
        "linear",
        "markov",
    ]


def test_partners_are_named(shop):
    partner = make_partner(name="Anna’s shop")
    user = make_user()
    say(shop, f"user:{user.pk} cookie:carl")
    touched(shop, "cookie:carl", "x", 3, partner_id=partner.pk)
    converted(shop, user, 4, minor=100, currency="EUR")
    printed = run(*MARCH)
    assert ["last", partner.uid, "Anna’s", "shop", "1.00", "1.00", "EUR", "1", "1"] in lines(
        printed
    )
    assert ["last", "none", "1.00", "1234.56", "EUR", "1", "2"] in lines(printed)
    assert f"Anna’s shop ({partner.uid})" in run(*MARCH, "--paths")


def test_csv_holds_no_formula(shop, tmp_path):
    text = run(*MARCH, "--by", "source", "--format", "csv", "--model", "linear")
    found = list(csv.DictReader(StringIO(text)))
    assert {row["source"] for row in found} == {"google", "'=mail"}
    euros = [Decimal(row["amount"]) for row in found if row["currency"] == "EUR"]
    assert euros == [Decimal("617.28"), Decimal("617.28")]
    file = tmp_path / "report.csv"
    assert run(*MARCH, "--by", "source", "--format", "csv", "--output", str(file)) == ""
    assert file.read_bytes().startswith(b"\xef\xbb\xbfmodel,source,")


def test_parquet_is_the_report_itself(shop, tmp_path):
    file = tmp_path / "report.parquet"
    run(*MARCH, "--by", "source", "--model", "linear", "--format", "parquet", "--output", str(file))
    asked = {"since": START, "until": START + 31 * DAY, "by": "source"}
    assert pq.read_table(file).equals(attribution.attribute("linear", **asked))


@pytest.mark.skipif(connection.vendor == "mysql", reason="computes no reports")
def test_the_database_says_the_same(shop):
    asked = (*MARCH, "--by", "source", "--model", "linear,markov")
    assert run(*asked, "--engine", "database") == run(*asked)


def test_paths_and_durations(shop):
    assert lines(run(*MARCH, "--by", "source", "--paths"))[1:] == [
        ["google", "1"],
        ["google", ">", "=mail", "1", "1234.56", "EUR"],
        ["google", ">", "=mail", "1", "777", "JPY"],
    ]
    assert lines(run(*MARCH, "--durations")) == [
        ["days", "conversions", "touchpoints"],
        ["5", "1", "2"],
        ["6", "2", "3"],
    ]


def test_one_trigger_and_fewer_days_back(shop):
    assert lines(run(*MARCH, "--by", "source", "--trigger", "Signed up"))[1:] == [
        ["last", "google", "1.00", "1", "1"]
    ]
    printed = run(*MARCH, "--by", "source", "--lookback-days", "2")
    assert {line[1] for line in lines(printed)[1:]} == {"=mail"}
    assert run(*MARCH, "--lookback-days", "1", "--trigger", "x").startswith("No conversions")


def test_a_lead(shop):
    asked = (*MARCH, "--by", "source", "--model", "w_shaped", "--lead", "Signed up")
    assert {line[0] for line in lines(run(*asked))[1:]} == {"w_shaped"}


def test_the_last_thirty_days_unless_it_is_said(shop):
    user = make_user()
    say(shop, f"user:{user.pk} cookie:new")
    from_now = (timezone.now() - START) / DAY
    touched(shop, "cookie:new", "recent", from_now - 3)
    converted(shop, user, from_now - 2)
    touched(shop, "cookie:new", "recent", from_now - 34)
    converted(shop, user, from_now - 33)
    assert lines(run("--by", "source"))[1:] == [["last", "recent", "1.00", "1", "1"]]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--model", "best"], "--model: must be one of last, "),
        (["--model", "last,last"], "--model: must name one model"),
        (["--model", "w_shaped"], "--lead: w_shaped needs the trigger of leads"),
        (["--by", "colour"], "--by: must be one of partner, "),
        (["--since", "2026-05-01"], "--until: must be later than since"),
        (["--since", "soon"], "Error: argument --since: 'soon' is no date"),
        (["--order", "9"], "--order: must be a whole number from 1 to 4"),
        (["--order", "x"], "Error: argument --order: invalid int value"),
        (["--engine", "abacus"], "--engine: must be one of duckdb, database"),
        (["--lookback-days", "0"], "Error: argument --lookback-days: '0' is no number of days"),
        (["--lookback-days", "9" * 5000], "Error: argument --lookback-days: '9999"),
        (["--format", "parquet"], "--output: parquet needs a file"),
        (["--output", "/nowhere/at/all"], "--output: "),
        (["--format", "parquet", "--output", "/nowhere/at/all"], "--output: "),
    ],
)
def test_what_cannot_be_asked(wrong, message):
    with pytest.raises(CommandError) as caught:
        run(*MARCH, *wrong)
    assert str(caught.value).startswith(message)


def test_without_duckdb_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(CommandError, match=r"pip install django-affiliations\[attribution\]"):
        run(*MARCH)


def test_what_would_move_the_cursor_is_not_printed():
    printed = aligned(Laid(["source", "conversions"], [["\x1b[2Jx\n", 1.0], [None, 2.5]]))
    assert printed[1:] == ["\ufffd[2Jx\ufffd         1.00", "none           2.50"]


class Terminal(StringIO):
    def isatty(self):
        return True


def test_a_terminal_is_told_each_step(shop, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.001)
    terminal = Terminal()
    run(*MARCH, "--model", "last,markov", stderr=terminal)
    said = terminal.getvalue()
    assert re.search(r"\r\033\[K[a-z ]+ … \d+ s", said)
    assert said.endswith("\r\033[K")


def test_a_report_tells_its_steps(shop):
    told = []
    asked = {"since": START, "until": START + timedelta(days=31)}
    attribution.attribute(["last", "markov"], progress=told.append, **asked)
    assert told == [
        "reading conversions",
        "reading touchpoints",
        "following people",
        "weighing by markov",
        "adding up",
    ]
