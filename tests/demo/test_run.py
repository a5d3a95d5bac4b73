"""`python -m dummy_project`: it starts, starts again, and says what is in its way."""

import re
import sqlite3
from contextlib import closing

import pytest
import requests

from .conftest import free_port

pytestmark = pytest.mark.once

TOLD = "SELECT callback_url FROM affiliations_subscription WHERE callback_url <> ''"


def rows(file, query):
    with closing(sqlite3.connect(file)) as connection:
        return [row[0] for row in connection.execute(query)]


@pytest.fixture(scope="module")
def opened_once(open_demo, tmp_path_factory):
    """Return the file of a demo that was open once: its past takes long to live."""
    file = tmp_path_factory.mktemp("demo") / "demo.sqlite3"
    with open_demo(file):
        pass
    return file


@pytest.fixture
def file(opened_once, tmp_path):
    """Return a copy of it, of the test's own."""
    copy = tmp_path / "demo.sqlite3"
    # Not of the file alone: some of it may still be in the log beside it.
    with closing(sqlite3.connect(opened_once)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def test_it_prints_where_to_click(open_demo, tmp_path):
    with open_demo(tmp_path / "demo.sqlite3") as demo:
        for path in (
            "/partner-site/",
            "/sign-up/",
            "/partner-site/log/",
            "/network/",
            "/admin/",
            "/admin/affiliations_rewards/",
            "/admin/affiliations_attribution/attributionreport/?by=channel",
            "/api/links/docs",
        ):
            assert f"{demo.url}{path}" in demo.banner
            assert requests.get(demo.url + path, timeout=10).status_code == 200
        assert "admin / admin (this demo only)" in demo.banner


def test_it_finds_everything_again_on_another_port(open_demo, file):
    tables = ("affiliations_partner", "affiliations_subscription", "auth_user", "shop_product")
    first = {table: rows(file, f"SELECT id FROM {table}") for table in tables}
    with open_demo(file) as demo:
        assert first == {table: rows(file, f"SELECT id FROM {table}") for table in tables}
        addresses = rows(file, TOLD)
        assert all(each.startswith(f"{demo.url}/partner-site/callback/") for each in addresses)
        assert len(addresses) == 2
        assert demo.url in requests.get(f"{demo.url}/partner-site/", timeout=10).text


def test_its_partners_have_earned_for_some_months(open_demo, python, file):
    entries = rows(file, "SELECT id FROM affiliations_rewards_entry")
    with open_demo(file) as demo:
        log = requests.get(f"{demo.url}/partner-site/log/", timeout=10).text
        assert re.search(r"Anna has earned <strong>[1-9][0-9]+\.[0-9]{2} EUR</strong>", log)
        assert "signature verified" not in log
    states = "SELECT DISTINCT {} FROM affiliations_rewards_{} ORDER BY 1"
    assert rows(file, states.format("kind", "entry")) == [
        "commission",
        "credit",
        "payout",
        "reversal",
    ]
    outcomes = rows(file, states.format("outcome", "review"))
    assert outcomes == ["open", "rejected", "released"]
    assert rows(file, states.format("state", "payout")) == ["draft", "failed", "paid"]
    assert rows(file, "SELECT name FROM affiliations_rewards_commissionrule") == [
        "Orders",
        "Orders that friends bring",
        "Sign-ups",
        "Orders that friends bring",
    ]
    audit = ("manage", "audit_ledger")
    done = python("-m", "dummy_project", "--database-url", f"sqlite:///{file}", *audit)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "Nothing differs." in done.stdout
    # It was not lived twice.
    assert rows(file, "SELECT id FROM affiliations_rewards_entry") == entries


def test_the_links_of_the_network_follow_it_but_for_one_that_was_deleted(open_demo, file):
    with closing(sqlite3.connect(file)) as connection, connection:
        deleted = "UPDATE affiliations_links_link SET deleted_on = ? WHERE path = 'dusk-cup'"
        connection.execute(deleted, ("2026-01-01 00:00:00",))
    with open_demo(file) as demo:
        for path in ("xfghjde45", "WTY76R"):
            answer = requests.get(f"{demo.url}/router/{path}", allow_redirects=False, timeout=10)
            assert answer.headers["Location"].startswith(f"{demo.url}/")
        assert requests.get(f"{demo.url}/router/dusk-cup", timeout=10).status_code == 404
        called = rows(file, "SELECT callback_url FROM affiliations_links_link")
    assert len(called) == 3
    assert all(each.startswith(f"{demo.url}/network/aff_lsr?") for each in called)


def test_it_leaves_an_address_elsewhere_alone(open_demo, file):
    elsewhere = "https://anna.example/{visitor_id}"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "UPDATE affiliations_subscription SET callback_url = ? WHERE callback_url <> ''",
            (elsewhere,),
        )
    with open_demo(file):
        addresses = rows(file, TOLD)
    assert addresses == [elsewhere, elsewhere]


def test_a_port_that_is_busy_is_named_and_another_suggested(open_demo, python, file):
    with open_demo(file) as demo:
        port = demo.url.rpartition(":")[2]

        done = python("-m", "dummy_project", "--port", port)

    assert done.returncode == 1
    assert f"Port {port} is busy" in done.stderr
    assert f"--port {int(port) + 1}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("sqlite:////nowhere/at/all.sqlite3", "unable to open database file"),
        ("a database, please", "Scheme '://' is unknown"),
    ],
)
def test_a_database_that_cannot_be_had_is_no_traceback(python, url, problem):
    done = python("-m", "dummy_project", "--port", str(free_port()), "--database-url", url)

    assert done.returncode == 1
    assert problem in done.stderr
    assert "Look at: --database-url" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_package_that_is_missing_is_no_traceback(python):
    without = "import sys; sys.modules['ninja'] = None"
    run = "from dummy_project.__main__ import main; sys.exit(main(['--check']))"

    done = python("-c", f"{without}; {run}")

    assert done.returncode == 1
    assert "ninja" in done.stderr
    assert "Look at: pip install -e '.[demo]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("port", ["0", "65536", "eighty"])
def test_a_port_that_is_none_is_refused(python, port):
    done = python("-m", "dummy_project", "--port", port)

    assert done.returncode == 2
    assert f"'{port}' is no number from 1 to 65535" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["check", "--fail-level", "WARNING"],
        ["makemigrations", "--check", "--dry-run"],
    ],
    ids=" ".join,
)
def test_commands_of_django_are_passed_on(python, tmp_path, command):
    url = f"sqlite:///{tmp_path}/demo.sqlite3"

    done = python("-m", "dummy_project", "--database-url", url, "manage", *command)

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_call_that_the_shop_did_not_make_is_refused(open_demo, file):
    forged = {
        "webhook-id": "msg_1",
        "webhook-timestamp": "1795216762",
        "webhook-signature": "v1,AAAA",
    }
    with open_demo(file) as demo:
        address = f"{demo.url}/partner-site/callback/order/1/?amount=9999"
        assert requests.get(address, headers=forged, timeout=10).status_code == 401
        assert requests.get(address, timeout=10).status_code == 401
        log = requests.get(f"{demo.url}/partner-site/log/", timeout=10).text
    assert log.count("refused: ") == 2
    assert "signature verified" not in log
