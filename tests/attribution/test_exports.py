"""The history as files: the same figures, written once, and whole at any moment."""

import json
from datetime import UTC, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from affiliations import attribution
from affiliations.attribution import exports
from affiliations.attribution.engines import DuckDB
from affiliations.attribution.exceptions import InvalidReport, UnreadableExport
from affiliations.attribution.exports import export
from affiliations.attribution.questions import MODELS
from affiliations.models import Conversion, Visitor
from affiliations.privacy import forget_user
from affiliations.services import reverse_conversion
from affiliations.tracking.models import Hit
from tests.attribution.factories import DAY, by_label
from tests.core.factories import make_partner, make_user, make_visitor
from tests.tracking.factories import hit, make_property, say

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


def days_ago(number):
    """Return noon, by UTC, so many days ago."""
    noon = timezone.now().astimezone(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
    return noon - number * DAY


@pytest.fixture
def shop():
    return make_property()


@pytest.fixture
def here(tmp_path):
    return tmp_path / "history"


def brought(shop, who, source, moment):
    url = f"https://shop.example/?utm_source={source}&utm_medium=cpc"
    hit(shop, who, url=url, happened_on=moment)


def buys(user, moment, minor=1000):
    """Have a user convert who was sent by nobody just then."""
    visitor = make_visitor(make_partner(), user=user, clicked_on=days_ago(900))
    Visitor.objects.filter(pk=visitor.pk).update(referred_on=days_ago(900))
    return Conversion.objects.create(
        visitor=visitor,
        user=user,
        trigger="Order placed",
        reference=f"order {user.pk}",
        created_on=moment,
        amount_minor=minor,
        currency="EUR",
    )


@pytest.fixture
def orders(shop):
    """Three people who were brought in the last week, two of whom have bought."""
    people = [make_user() for _ in range(3)]
    for number, user in enumerate(people):
        say(shop, f"user:{user.pk} cookie:c{number}")
        for day, source in enumerate(["google", "bing", "mail"][: number + 1]):
            brought(shop, f"cookie:c{number}", source, days_ago(6 - day))
    return [buys(user, days_ago(2), 1000 + user.pk) for user in people[1:]]


def week(**more):
    return {"since": days_ago(7), "until": days_ago(1), "by": "source", "lookback": DAY * 9, **more}


def begins(here):
    """Write an export of what there is since ten days."""
    return export(here, since=days_ago(17).date())


def test_the_same_figures_as_of_the_site_itself(orders, here):
    done = begins(here)
    assert (done.touchpoints, done.conversions) == (6, 2)
    asked = week(lead="Order placed")
    live = attribution.attribute(MODELS, **asked).to_pylist()
    read = attribution.attribute(MODELS, source=here, **asked).to_pylist()
    assert len(live) == 3 * len(MODELS)
    for one, other in zip(live, read, strict=True):
        for name in ("conversions", "effect"):
            assert one.pop(name) == pytest.approx(other.pop(name), abs=1e-9)
        assert one == other
    asked = week()
    assert attribution.top_paths(source=here, **asked) == attribution.top_paths(**asked)
    assert attribution.durations(source=here, **asked) == attribution.durations(**asked)


def test_whatever_the_directory_is_called(orders, here):
    odd, other = here / "it's [a] *star?", here / "it's a *star!"
    begins(odd)
    begins(other)
    # What the pattern would find as well, if it were one.
    (other / "people.parquet").write_bytes(b"no parquet")
    found = attribution.attribute(source=odd, **week())
    assert by_label(found) == by_label(attribution.attribute(**week()))


def test_only_what_is_new_is_written(shop, orders, here):
    begins(here)
    files = {path: path.stat().st_mtime_ns for path in here.glob("*/day=*/*.parquet")}
    assert len(files) == 2 * 18
    brought(shop, "cookie:c0", "mail", days_ago(1))
    done = export(here)
    assert (done.first, done.last) == (days_ago(2).date(), days_ago(0).date())
    again = {path for path, when in files.items() if path.stat().st_mtime_ns != when}
    assert {path.parent.name for path in again} == {f"day={days_ago(n).date()}" for n in range(3)}
    assert done.touchpoints == 1


def test_what_was_told_late(shop, orders, here):
    begins(here)
    brought(shop, "cookie:c1", "mail", days_ago(5))
    assert "mail" not in by_label(
        attribution.attribute("linear", source=here, **week(until=days_ago(3)))
    )
    export(here, since=days_ago(6).date())
    found = attribution.attribute("linear", source=here, **week())
    assert found == attribution.attribute("linear", **week())
    assert sum(by_label(found, "touchpoints").values()) == 6


def test_what_was_taken_back(orders, here):
    begins(here)
    export(here)
    first, second = orders
    reverse_conversion(first)
    Conversion.objects.filter(pk=second.pk).update(reversed_minor=400)
    second.reversals.create(amount_minor=400, key="x")
    # Its day is not among the late ones.
    export(here, late=0)
    found = attribution.attribute("first", source=here, **week())
    assert by_label(found, "amount_minor")["google"] == second.amount_minor - 400
    assert sum(by_label(found).values()) == pytest.approx(1)


def test_two_who_turn_out_to_be_one(shop, orders, here):
    stranger_day = days_ago(3)
    brought(shop, "cookie:stranger", "radio", stranger_day)
    begins(here)
    assert "radio" not in by_label(attribution.attribute("linear", source=here, **week()))
    say(shop, f"user:{orders[0].user_id} cookie:stranger")
    export(here, late=0)
    found = attribution.attribute("linear", source=here, **week())
    assert by_label(found)["radio"] == pytest.approx(1 / 3)
    assert found == attribution.attribute("linear", **week())


def test_whoever_is_erased_is_in_no_report(orders, here):
    begins(here)
    user = orders[0].user
    forget_user(user)
    export(here, late=0)
    found = attribution.attribute("linear", source=here, **week())
    assert found == attribution.attribute("linear", **week())
    assert sum(by_label(found).values()) == pytest.approx(1)


def test_a_landing_after_midnight(shop, here):
    user = make_user()
    say(shop, f"user:{user.pk} cookie:night")
    midnight = days_ago(3).replace(hour=0)
    partner = make_partner()
    visitor = make_visitor(partner, user=user, clicked_on=midnight - MINUTE / 2)
    Visitor.objects.filter(pk=visitor.pk).update(referred_on=midnight - MINUTE / 2)
    url = "https://shop.example/?utm_campaign=late-show"
    hit(shop, "cookie:night", url=url, happened_on=midnight + MINUTE / 4)
    buys(user, days_ago(2))
    begins(here)
    assert Hit.objects.count() == 1
    for by, label in (("campaign", "late-show"), ("partner", partner.uid)):
        found = attribution.attribute("linear", source=here, **week(by=by))
        assert by_label(found) == {label: 1}
        assert by_label(found, "touchpoints") == {label: 1}


class Interrupted(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("at", [0, 1, 7])
def test_a_day_is_there_whole_or_not_at_all(shop, orders, here, monkeypatch, at):
    begins(here)
    before = attribution.attribute("linear", source=here, **week())
    brought(shop, "cookie:c1", "mail", days_ago(5))
    write, calls = DuckDB.write, []

    def interrupted(self, rows, path):
        calls.append(path)
        if len(calls) > at:
            path.write_bytes(b"PAR1 and no more")
            raise Interrupted
        return write(self, rows, path)

    monkeypatch.setattr(DuckDB, "write", interrupted)
    with pytest.raises(Interrupted):
        export(here, since=days_ago(5).date())
    found = attribution.attribute("linear", source=here, **week())
    if at == 0:
        assert found == before
    assert not [path for path in here.rglob("*") if path.name.startswith(".")]
    monkeypatch.undo()
    export(here, since=days_ago(5).date())
    assert attribution.attribute("linear", source=here, **week()) == attribution.attribute(
        "linear", **week()
    )


def test_teeth_to_write_where_it_is_read(shop, orders, here, monkeypatch):
    begins(here)

    def in_place(engine, rows, path):
        path.write_bytes(b"PAR1 and no more")
        raise Interrupted

    monkeypatch.setattr(exports, "_written", in_place)
    with pytest.raises(Interrupted):
        export(here, since=days_ago(6).date())
    with pytest.raises(Exception, match=r"(?i)parquet|file"):
        attribution.attribute("linear", source=here, **week())


def test_nothing_has_ever_happened(here):
    assert export(here) is None
    assert not here.exists()
    with pytest.raises(UnreadableExport, match=r"^source: there is no export"):
        attribution.attribute("linear", source=here, **week())


def test_from_the_beginning(shop, here):
    user = make_user()
    say(shop, f"user:{user.pk} cookie:x")
    brought(shop, "cookie:x", "google", days_ago(3))
    assert export(here).first == days_ago(3).date()
    # Nothing was before, so that no more of it need be there.
    assert attribution.attribute("linear", source=here, **week()).num_rows == 0


def test_what_an_export_does_not_hold(orders, here):
    begins(here)
    with pytest.raises(InvalidReport, match=r"^until: the export ends at"):
        attribution.attribute("linear", source=here, **week(until=timezone.now() + DAY))
    with pytest.raises(InvalidReport, match=r"^since: less the lookback is before"):
        attribution.attribute("linear", source=here, **week(lookback=DAY * 30))
    with pytest.raises(InvalidReport, match=r"^engine: the database reads no export"):
        attribution.attribute("linear", source=here, engine="database", **week())
    with pytest.raises(InvalidReport, match=r"^source: spark reads"):
        attribution.attribute("linear", engine="spark", **week())


def test_no_day_is_left_out(orders, here, monkeypatch):
    then = days_ago(4)
    with monkeypatch.context() as patched:
        patched.setattr(exports.timezone, "now", lambda: then)
        begins(here)
    with pytest.raises(InvalidReport, match=r"^since: would leave out days from"):
        export(here, since=days_ago(2).date())
    with pytest.raises(InvalidReport, match=r"^since: must not be after today"):
        export(here, since=days_ago(-2).date())
    assert export(here).first == days_ago(6).date()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("{}", "does not say what there is"),
        ("[]", "does not say what there is"),
        (
            json.dumps({"version": 2, "first": "2026-01-01", "is_whole": True, "exported_on": 1}),
            "is of version 2, not 1",
        ),
    ],
)
def test_what_is_no_export(orders, here, text, message):
    begins(here)
    (here / exports.ABOUT).write_text(text)
    with pytest.raises(UnreadableExport, match=message):
        attribution.attribute("linear", source=here, **week())
    with pytest.raises(UnreadableExport, match=message):
        export(here)


def test_the_command(orders, here, capsys, settings):
    with pytest.raises(CommandError, match=r"^directory: say where to"):
        call_command("export_touchpoints")
    with pytest.raises(CommandError, match=r"^--late: must not be below 0"):
        call_command("export_touchpoints", str(here), "--late", "-1")
    with pytest.raises(CommandError, match=r"is no day, such as"):
        call_command("export_touchpoints", str(here), "--since", "yesterday")
    settings.AFFILIATE_ATTRIBUTION_EXPORT = here
    call_command("export_touchpoints", "--since", str(days_ago(8).date()))
    assert "6 touchpoints and 2 conversions written" in capsys.readouterr().out
    (here / exports.ABOUT).write_text("{")
    with pytest.raises(CommandError, match=r"is no JSON"):
        call_command("export_touchpoints")


def test_a_report_of_it_ends_where_it_does(orders, here, capsys):
    asked = ("attribution_report", "--by", "source", "--format", "csv")
    export(here)
    call_command(*asked)
    of_the_site = capsys.readouterr().out
    call_command(*asked, "--source", str(here))
    assert capsys.readouterr().out == of_the_site
    assert of_the_site.count("last,") == 3
    (here / exports.ABOUT).write_text("{")
    with pytest.raises(CommandError, match=r"is no JSON"):
        call_command(*asked, "--source", str(here))
    (here / exports.ABOUT).unlink()
    with pytest.raises(CommandError, match=r"^--source: there is no export in"):
        call_command(*asked, "--source", str(here))
    with pytest.raises(CommandError, match=r"^--source: there is no export in"):
        call_command(*asked, "--source", __file__)
    with pytest.raises(CommandError, match=r"^x+: File name too long$"):
        call_command(*asked, "--source", "x" * 5000)
