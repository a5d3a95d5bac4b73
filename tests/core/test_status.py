"""How the delivery does, as figures, and the commands that tell it and act on it."""

import io
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.urls import resolve
from django.utils import timezone

from affiliations import status
from affiliations.delivery import Tally
from affiliations.management.commands import affiliations_status as status_command
from affiliations.management.commands import deliver_callbacks as deliver_command
from affiliations.management.commands import resend_callbacks as resend_command
from affiliations.management.progress import Progress
from affiliations.models import Callback, CallbackAttempt, Destination
from affiliations.testing import callback_server, freeze
from tests.core.factories import make_partner

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
HOSTILE = 'a"b\\c\nd{e}'


def make_callback(partner=None, **fields):
    """Return a callback in any state, of which nobody is told."""
    fields = {"partner": partner or make_partner(), "url": "http://127.0.0.1:9/x", **fields}
    if fields.get("state", "pending") != "pending":
        fields = {"due": None, "settled_on": timezone.now(), **fields}
    return Callback.objects.create(**fields)


def make_attempts(*moments, status=200, partner=None):
    callback = make_callback(partner, state="delivered")
    CallbackAttempt.objects.bulk_create(
        CallbackAttempt(
            callback=callback, number=number, started_on=moment, duration_ms=1, status=status
        )
        for number, moment in enumerate(moments)
    )


@pytest.fixture
def clock():
    with freeze(NOW) as clock:
        yield clock


# Figures


@pytest.fixture
def partners(clock):
    """Two partners, one with a callback of each kind and one with two that are due."""
    anna, bert = make_partner(name="Anna"), make_partner(name="Bert")
    make_partner(name="Carl")
    lease = {"token": "0" * 32, "due": NOW + 30 * SECOND}
    for fields in (
        {"due": NOW},
        {"due": NOW - 90 * SECOND},
        lease,
        {"due": NOW + HOUR},
        {"state": "parked", "settled_on": None},
        {"state": "dead"},
        {"state": "dead", "settled_on": NOW - 25 * HOUR},
        {"state": "refused"},
        {"state": "refused", "settled_on": NOW - 25 * HOUR},
        {"state": "delivered"},
        {"state": "canceled"},
    ):
        make_callback(anna, **fields)
    for _ in range(2):
        make_callback(bert, due=NOW - HOUR)
    return anna, bert


def test_what_waits_and_what_failed_is_counted_for_each_partner(partners):
    found = status.figures()
    ones = {"in_flight": 1, "waiting": 1, "parked": 1, "dead": 1, "refused": 1}
    none = dict.fromkeys(ones, 0)
    anna, bert = partners
    last_minute = {"attempts": 0, "delivered": 0}
    assert found["partners"] == [
        {"uid": anna.uid, "name": "Anna", "due": 2, "oldest": 90.0, **ones, **last_minute},
        {"uid": bert.uid, "name": "Bert", "due": 2, "oldest": 3600.0, **none, **last_minute},
    ]
    assert found["total"] == {"due": 4, "oldest": 3600.0, **ones, **last_minute}
    assert found["at"] == NOW.isoformat()
    assert json.loads(json.dumps(found)) == found


def test_nothing_at_all(clock):
    found = status.figures()
    assert (found["partners"], found["hosts"]) == ([], [])
    assert set(found["total"].values()) == {0}


def test_the_last_minute(clock):
    anna, bert, carl = (make_partner(name=name) for name in ("Anna", "Bert", "Carl"))
    make_attempts(NOW, NOW - 59 * SECOND, NOW - 61 * SECOND, partner=anna)
    make_attempts(NOW, status=500, partner=anna)
    make_attempts(NOW, status=None, partner=bert)
    make_attempts(NOW, status=302, partner=bert)
    make_attempts(NOW - 61 * SECOND, partner=carl)
    make_callback(bert, due=NOW)
    found = status.figures()
    rows = [found["total"], *found["partners"]]
    rates = [(each.get("name"), each["attempts"], each["delivered"]) for each in rows]
    assert rates == [(None, 5, 2), ("Anna", 3, 2), ("Bert", 2, 0)]
    # Who waits for nothing and has nothing waiting is told of all the same.
    assert [each["due"] for each in found["partners"]] == [0, 1]


def test_hosts_that_fail_are_named_the_worst_first(clock):
    since = NOW - HOUR
    for host, fields in {
        "well.example": {},
        "one.example": {"failures": 1, "failing_since": since},
        "b.example": {"failures": 30, "failing_since": since, "paused_until": NOW + HOUR},
        "a.example": {"failures": 30, "failing_since": since, "paused_until": NOW - SECOND},
    }.items():
        Destination.objects.create(host=host, **fields)
    expected = {"failures": 30, "failing_since": since.isoformat()}
    assert status.figures()["hosts"] == [
        {"host": "a.example", "paused_until": None, **expected},
        {"host": "b.example", "paused_until": (NOW + HOUR).isoformat(), **expected},
        {"host": "one.example", "paused_until": None, **expected, "failures": 1},
    ]


@pytest.mark.parametrize("number", [0, 1, 40])
def test_the_figures_take_the_same_queries_however_many_there_are(
    clock, django_assert_num_queries, number
):
    for each in range(number):
        make_callback()
        Destination.objects.create(host=f"{each}.example", failures=1)
    # Callbacks; their partners; attempts; hosts.
    with django_assert_num_queries(4 if number else 3):
        assert len(status.figures()["partners"]) == number
    with django_assert_num_queries(1):
        status.attempts_by_hour()


# By the hour


def test_the_attempts_of_each_of_the_last_hours(clock):
    make_attempts(NOW, NOW - SECOND, NOW - HOUR, NOW - HOUR + SECOND, NOW - HOUR - SECOND)
    make_attempts(NOW - 48 * HOUR, NOW - 48 * HOUR - SECOND, NOW - 47 * HOUR)
    make_attempts(NOW - 10 * HOUR, status=503)
    make_attempts(NOW - 10 * HOUR, status=None)
    arrived, failed = status.attempts_by_hour()
    assert len(arrived) == len(failed) == status.HOURS == 48
    # An hour is from its start to just before the next one's.
    assert arrived[-3:] == [0, 1, 4]
    assert arrived[:3] == [1, 1, 0]
    assert failed[-10] == 2
    assert (sum(arrived), sum(failed)) == (7, 2)


def test_an_empty_outbox_has_its_hours_too(clock):
    assert status.attempts_by_hour() == ([0] * 48, [0] * 48)


# Prometheus


LABEL = r'[a-z_]+="(?:[^"\\\n]|\\[\\"n])*"'
SAMPLE = re.compile(rf"([a-z_]+)(?:\{{({LABEL}(?:,{LABEL})*)\}})? (-?[0-9.]+)")


def parsed(text):
    """Read Prometheus' text format as its documentation has it; fail where it is none."""
    assert text.endswith("\n")
    types, helps, samples = {}, {}, {}
    for line in text[:-1].split("\n"):
        if line.startswith("# TYPE "):
            name, kind = line.removeprefix("# TYPE ").split(" ")
            assert name not in types
            assert name in helps
            types[name] = kind
        elif line.startswith("# HELP "):
            name, words = line.removeprefix("# HELP ").split(" ", 1)
            assert name not in helps
            assert words
            helps[name] = words
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            name, labels, value = match.groups()
            assert types[name] == "gauge"
            pairs = re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', labels or "")
            key = (name, *((label, unescaped(text)) for label, text in pairs))
            assert key not in samples, "told twice"
            samples[key] = float(value)
    assert {key[0] for key in samples} <= types.keys() == helps.keys()
    return samples


def unescaped(text):
    return re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), text)


def test_prometheus_is_told_the_same(partners):
    anna, bert = partners
    make_attempts(NOW, NOW, partner=anna)
    make_attempts(NOW, status=500, partner=anna)
    Destination.objects.create(host="a.example", failures=3)
    samples = parsed(status.prometheus(status.figures()))
    callbacks = "affiliations_callbacks"
    states = ("due", "in_flight", "waiting", "parked", "dead", "refused")
    for partner, values in ((anna, (2, 1, 1, 1, 1, 1)), (bert, (2, 0, 0, 0, 0, 0))):
        for state, value in zip(states, values, strict=True):
            assert samples[callbacks, ("partner", partner.uid), ("state", state)] == value
    assert samples["affiliations_callbacks_oldest_seconds",] == 3600
    attempts = "affiliations_attempts_last_minute"
    for partner, delivered, failed in ((anna, 2, 1), (bert, 0, 0)):
        whose = ("partner", partner.uid)
        assert samples[attempts, whose, ("outcome", "delivered")] == delivered
        assert samples[attempts, whose, ("outcome", "failed")] == failed
    assert samples["affiliations_hosts_failing",] == 1
    assert len(samples) == 2 * (len(states) + 2) + 2


def test_whatever_a_partner_is_called_ends_no_line(clock):
    found = status.figures()
    row = dict.fromkeys((*status.COUNTED, *status.RATES), 7)
    found["partners"] = [{"uid": HOSTILE, "name": HOSTILE, "oldest": 0.0, **row}]
    samples = parsed(status.prometheus(found))
    assert samples["affiliations_callbacks", ("partner", HOSTILE), ("state", "due")] == 7


def test_teeth_a_label_that_is_not_escaped(clock, monkeypatch):
    monkeypatch.setattr(status, "_escaped", lambda text: text)
    with pytest.raises(AssertionError):
        test_whatever_a_partner_is_called_ends_no_line(clock)


def test_the_page_is_for_whoever_has_the_token(rf, settings, clock):
    settings.AFFILIATE_METRICS_TOKEN = "a-token-of-some-length"
    view = resolve("/metrics", urlconf="affiliations.urls").func
    denied = view(rf.get("/metrics"))
    assert (denied.status_code, denied.content) == (401, b"")
    token = {"Authorization": "Bearer a-token-of-some-length"}
    answer = view(rf.get("/metrics", headers=token))
    assert answer["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "no-store" in answer["Cache-Control"]
    assert parsed(answer.content.decode())


# affiliations_status


def said_by(name, *args, **options):
    out = io.StringIO()
    call_command(name, *args, stdout=out, **options)
    return out.getvalue()


def test_the_table(partners):
    anna, bert = partners
    since = NOW - HOUR
    Destination.objects.create(
        host="b.example", failures=3000, failing_since=since, paused_until=NOW + HOUR
    )
    make_attempts(NOW, NOW, partner=anna)
    make_attempts(NOW, status=500, partner=anna)
    lines = said_by("affiliations_status").splitlines()
    assert [" ".join(line.split()) for line in lines[:4]] == [
        "partner due in flight waiting parked dead refused calls/min oldest",
        f"Anna {anna.uid} 2 1 1 1 1 1 3 1.5 min",
        f"Bert {bert.uid} 2 0 0 0 0 0 0 1.0 h",
        "in all 4 1 1 1 1 1 3 1.0 h",
    ]
    paused = f"3,000 in a row, paused until {(NOW + HOUR).isoformat()}"
    assert lines[4:] == [
        "",
        "3 attempts in the last minute, 2 delivered",
        f"b.example fails since {since.isoformat()}, {paused}",
    ]
    # Columns are columns: each number ends where its title does.
    ends = {line.index(" 1 ") for line in lines[1:2]}
    assert {lines[0].index("in flight") + len("in flight") - 2} == ends


def test_the_table_of_nothing(clock):
    lines = said_by("affiliations_status").splitlines()
    assert lines[1].split() == ["in", "all", *"0000000", "-"]
    assert lines[-1] == "0 attempts in the last minute, 0 delivered"


def test_the_json_is_the_figures(partners):
    assert json.loads(said_by("affiliations_status", json=True)) == status.figures()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "-"),
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1.0 min"),
        (5400, "1.5 h"),
        (86_400, "1.0 d"),
        (9e6, "104.2 d"),
    ],
)
def test_a_time_span_for_people(seconds, text):
    assert status_command.ago(seconds) == text


# resend_callbacks


def states():
    return list(Callback.objects.order_by("pk").values_list("state", flat=True))


ALL = ["dead", "refused", "canceled", "delivered", "parked", "pending"]


@pytest.fixture
def rows(clock):
    """One callback in each state, of one partner, a day after the other; the last one waits."""
    partner = make_partner()
    days = timedelta(days=1)
    return [
        make_callback(
            partner,
            state=state,
            created_on=NOW - (6 - number) * days,
            **({"due": NOW + HOUR} if state == "pending" else {}),
        )
        for number, state in enumerate(ALL)
    ]


def resent(rows):
    """Return the states that the callbacks had which are to be sent again now."""
    again = set(Callback.objects.filter(resent_on__isnull=False).values_list("pk", flat=True))
    return [state for row, state in zip(rows, ALL, strict=True) if row.pk in again]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"partner": "uid"}, ["dead"]),
        ({"since": "2026-06-01"}, ["dead"]),
        ({"since": "2026-06-26T12:00"}, []),
        ({"since": "2026-06-25T12:00:00+00:00"}, ["dead"]),
        ({"since": "2026-06-01", "state": "dead,refused"}, ["dead", "refused"]),
        ({"since": "2026-06-01", "until": "2026-06-25"}, []),
        (
            {"since": "2026-06-26", "until": "2026-06-29", "state": ",".join(ALL[:5])},
            ["refused", "canceled", "delivered"],
        ),
        ({"partner": "uid", "state": "parked"}, ["parked"]),
        *(({"id": [index]}, [state]) for index, state in enumerate(ALL[:5])),
        ({"id": [5]}, []),
        ({"id": [0, 3]}, ["dead", "delivered"]),
        ({"id": [0, 3], "state": "delivered"}, ["delivered"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("dry", [True, False], ids=["dry", "wet"])
def test_those_that_are_meant_are_sent_again(rows, options, expected, dry):
    arguments = []
    for name, value in options.items():
        value = [rows[each].webhook_id for each in value] if name == "id" else value
        value = rows[0].partner.uid if value == "uid" else value
        for each in value if isinstance(value, list) else [value]:
            arguments += [f"--{name}", each]
    before = states()
    if dry:
        said = said_by("resend_callbacks", "--dry-run", *arguments)
        assert said == f"{len(expected)} callbacks would be sent again.\n"
        assert (states(), resent(rows)) == (before, [])
        return
    assert said_by("resend_callbacks", *arguments) == f"{len(expected)} callbacks are sent again.\n"
    assert resent(rows) == expected
    assert Callback.objects.count() == len(rows)
    # The order given twice is carried out once.
    assert said_by("resend_callbacks", *arguments) == "0 callbacks are sent again.\n"


def test_another_partners_are_left(rows):
    make_callback(state="dead")
    said_by("resend_callbacks", partner=rows[0].partner.uid)
    assert Callback.objects.filter(state="dead").count() == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "Say which: --id, --partner or --since."),
        (["--until", "2026-07-01"], "Say which"),
        (["--state", "dead"], "Say which"),
        (["--id", "msg_unknown"], "msg_unknown"),
        (["--partner", "nobody12"], "nobody12"),
        (["--since", "yesterday"], "'yesterday' is no date"),
        (["--since", "2026-02-30"], "'2026-02-30' is no date"),
        (["--since", "2026-02-03T25:00"], "'2026-02-03T25:00' is no date"),
        (["--partner", "x", "--state", "dead,pending"], "'pending' is none of dead"),
        (["--partner", "x", "--state", ""], "'' is none of dead"),
    ],
)
@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry", "wet"])
def test_what_names_nothing_is_complained_about_by_name(rows, arguments, complaint, dry):
    with pytest.raises(CommandError, match=re.escape(complaint)):
        call_command("resend_callbacks", *arguments, *dry)
    assert resent(rows) == []


def test_one_that_is_unknown_among_others_sends_none(rows):
    known = rows[0].webhook_id
    with pytest.raises(CommandError, match="msg_x"):
        call_command("resend_callbacks", "--id", known, "--id", "msg_x", "--id", "msg_y")
    assert resent(rows) == []


def test_a_date_is_one_by_the_sites_clock(settings):
    settings.TIME_ZONE = "Pacific/Auckland"
    assert resend_command.moment("2026-07-01") == NOW - 24 * HOUR
    assert resend_command.moment("2026-07-01T12:00:00Z") == NOW


# deliver_callbacks


def test_it_says_what_it_did():
    with callback_server() as server:
        make_callback(url=f"{server.url}/x", host=server.url.removeprefix("http://"))
        said = said_by("deliver_callbacks")
    assert re.fullmatch(r"1 attempted, 1 delivered in \d+\.\d s \(\d+ a second\)\n", said)
    assert said_by("deliver_callbacks", once=True).startswith("0 attempted, 0 delivered in ")


@pytest.mark.parametrize(
    ("tally", "seconds", "text"),
    [
        ((0, 0), 0.0, "0 attempted, 0 delivered in 0.0 s (0 a second)"),
        ((12_345, 12_000), 10.0, "12,345 attempted, 12,000 delivered in 10.0 s (1,234 a second)"),
    ],
)
def test_the_line_of_figures(tally, seconds, text):
    assert deliver_command.figures(Tally(*tally), seconds) == text


@pytest.mark.parametrize(
    "arguments",
    [
        ["--threads", "0"],
        ["--threads", "257"],
        ["--threads", "-1"],
        ["--threads", "two"],
        ["--threads", "²"],
        ["--batch", "0"],
        ["--batch", ""],
        ["--loop", "--once"],
    ],
)
def test_options_that_are_none(arguments):
    with pytest.raises(CommandError):
        call_command("deliver_callbacks", *arguments)


def test_options_reach_the_courier(monkeypatch):
    made = []

    class Noted(deliver_command.Courier):
        def __init__(self, threads, **options):
            made.append((threads, options["batch"]))
            super().__init__(threads, **options)

        def run(self, *, loop=False):
            made.append(loop)
            return Tally(0, 0)

    monkeypatch.setattr(deliver_command, "Courier", Noted)
    assert said_by("deliver_callbacks", "--loop", "--threads", "256", "--batch", "3") == ""
    said_by("deliver_callbacks")
    assert made == [(256, 3), True, (1, None), False]


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Ticking:
    """Shows a time that goes on by so much at each look."""

    def __init__(self, step):
        self.step, self.now = step, 0.0

    def monotonic(self):
        self.now += self.step
        return self.now


def command(err):
    out = io.StringIO()
    return deliver_command.Command(stdout=out, stderr=err), out


def test_a_bar_is_drawn_on_a_terminal_only(monkeypatch):
    monkeypatch.setattr("affiliations.management.progress.time", Ticking(1.0))
    for _ in range(8):
        make_callback()
    screen = Terminal()
    drawing, _ = command(screen)
    report = drawing.on_a_terminal()
    for attempted in (0, 2, 8):
        report(Tally(attempted, 0))
    drawing.progress.clear()
    assert screen.getvalue().split("\r\033[K") == [
        "",
        "························ 0 of 8 callbacks",
        "██████·················· 2 of 8 callbacks",
        "████████████████████████ 8 of 8 callbacks",
        "",
    ]
    file = io.StringIO()
    quiet, out = command(file)
    quiet.handle(threads=1, batch=None, loop=False)
    assert file.getvalue() == ""
    assert "\r" not in out.getvalue()
    assert "8 attempted" in out.getvalue()


def test_without_a_terminal_there_is_a_line_now_and_then(monkeypatch):
    monkeypatch.setattr("affiliations.management.progress.time", Ticking(4.0))
    lines, out = command(io.StringIO())
    report = lines.in_lines()
    for attempted in (1, 2, 30, 31, 32, 40, 40, 40, 40, 40, 41):
        report(Tally(attempted, attempted // 2))
    # Every third look, over twelve seconds; none where nothing was done.
    assert out.getvalue().splitlines() == [
        "30 attempted, 15 delivered in 12.0 s (2 a second)",
        "10 attempted, 5 delivered in 12.0 s (1 a second)",
    ]


def test_progress_is_drawn_now_and_then_and_a_count_where_the_whole_is_unknown(monkeypatch):
    ticking = Ticking(0.04)
    monkeypatch.setattr("affiliations.management.progress.time", ticking)
    screen = Terminal()
    screen.write_ = screen.write
    screen.write = lambda text, ending="\n": screen.write_(text + ending)
    progress = Progress(screen, "rows")
    ticking.now = 10.0
    for done in range(7):
        progress.show(done * 1000)
    drawn = screen.getvalue().split("\r\033[K")
    assert drawn == ["", "0 rows", "3,000 rows", "6,000 rows"]
