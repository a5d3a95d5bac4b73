"""The documentation says what the code does: names, defaults, ids, links, and examples that run."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import which
from socket import create_connection, create_server
from textwrap import dedent
from typing import Any, NamedTuple
from xml.etree import ElementTree

import django
import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.checks import run_checks
from django.core.management import get_commands, load_command_class
from django.test import RequestFactory, override_settings
from django.urls import include, path

import affiliations
from affiliations import (
    callbackurl,
    decisions,
    delivery,
    egress,
    exceptions,
    outbox,
    outcomes,
    receivers,
    services,
    signals,
    signing,
    status,
    tasks,
    testing,
    triggers,
)
from affiliations.conf import Settings
from affiliations.decisions import Candidate, decide
from affiliations.models import Callback, Conversion, Visitor
from affiliations.testing import (
    assert_converted,
    assert_not_converted,
    callback_server,
    deliver,
    refer,
)
from affiliations.triggers import complete_trigger
from tests.core.factories import make_partner, make_user, make_visitor
from tests.shop.models import Order

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *(page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts),
]
REFERENCE = DOCS / "reference"


class Block(NamedTuple):
    """A fenced block of a page; `name` is that of the comment before it, `<!-- test: name -->`."""

    page: str
    name: str
    language: str
    code: str


FENCE = re.compile(
    r"^(?P<indent> *)(?:<!-- test: (?P<name>[a-z-]+) -->\n(?P=indent))?"
    r"```(?P<language>\S*)\n(?P<code>.*?)\n(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


def blocks() -> Iterator[Block]:
    for page in PAGES:
        for match in FENCE.finditer(page.read_text(encoding="utf-8")):
            yield Block(
                page.relative_to(ROOT).as_posix(),
                match["name"] or "",
                match["language"],
                dedent(match["code"]),
            )


BLOCKS = list(blocks())


def code(page: str, name: str) -> str:
    """Return a page's block of that name."""
    [found] = [each.code for each in BLOCKS if (each.page, each.name) == (page, name)]
    return found


def run(page: str, name: str, **names: Any) -> dict[str, Any]:
    """Run a page's block of that name, with these names defined, and return what it defines."""
    names["__name__"] = f"{page}:{name}"
    exec(compile(code(page, name), names["__name__"], "exec"), names)
    return names


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def rows(path: Path) -> list[list[str]]:
    """Return the cells of every row of a page's tables."""
    lines = [line for line in text(path).splitlines() if line.startswith("| ")]
    # An escaped pipe would part a cell in two; the pages have none.
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# Names


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", REFERENCE / "settings.md"], ids=lambda page: page.name
)
def test_the_settings_and_their_defaults_are_those_of_the_code(page):
    table = {
        quoted(cells[0])[0]: eval(quoted(cells[1])[0], {"timedelta": timedelta})
        for cells in rows(page)
        if cells[0].startswith("`AFFILIATE_")
    }
    declared = {each.setting: each.default for each in Settings.declared()}
    assert table == declared
    assert list(table) == list(declared)


def test_each_setting_is_explained_and_has_its_check():
    page = text(REFERENCE / "settings.md")
    checks = {quoted(cells[0])[0]: cells[2] for cells in rows(REFERENCE / "settings.md")[1:]}
    for each in Settings.declared():
        assert checks[each.setting] == f"`{each.check_id}`"
        assert f"\n`{each.setting}`\n: " in page


def test_the_checks_are_those_of_the_code():
    package = Path(affiliations.__file__).parent
    sources = "".join(text(package / name) for name in ("conf.py", "checks.py"))
    in_code = set(re.findall(r'"(affiliations\.[EWI]\d{3})"', sources))
    in_docs = [quoted(cells[0])[0] for cells in rows(REFERENCE / "checks.md")[1:]]
    assert sorted(in_docs) == sorted(in_code)


def test_every_public_name_is_in_the_reference():
    reference = "".join(text(page) for page in sorted(REFERENCE.glob("*.md")))
    words = set(re.findall(r"\w+", reference))
    for module in (
        triggers,
        services,
        testing,
        signals,
        outbox,
        outcomes,
        delivery,
        egress,
        status,
        exceptions,
    ):
        missing = set(module.__all__) - words
        assert not missing, f"{module.__name__}: {missing}"


def test_every_error_is_listed_with_what_it_also_is():
    listed = {
        quoted(cells[0])[0]: [*quoted(cells[1]), *quoted(cells[2])]
        for cells in rows(REFERENCE / "python-api.md")[1:]
    }
    assert listed == {
        name: [error.__mro__[2].__name__, error.code]
        for name in exceptions.__all__
        if (error := getattr(exceptions, name)) is not exceptions.AffiliationsError
        and error.__name__ == name
    }


#: What the package keeps for itself.
PRIVATE = {
    "Partner": {"secret_salt", "secret_fingerprint", "previous_salt", "previous_fingerprint"},
    "Conversion": {"key"},
    "Callback": {"token", "attempts_before", "withdrawn"},
    "ApiKey": {"digest"},
    "Destination": {"turn"},
}


def test_every_model_is_in_the_reference_with_its_fields():
    page = text(REFERENCE / "models.md")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    models = {each.__name__: each for each in apps.get_app_config("affiliations").get_models()}
    assert set(sections) == set(models)
    for name, model in models.items():
        fields = {each.name for each in [*model._meta.fields, *model._meta.many_to_many]}
        documented = {
            field
            for line in sections[name].splitlines()
            if line.startswith("| `")
            for field in quoted(line.split("|")[1])
        }
        assert documented == fields - {"id"} - PRIVATE.get(name, set()), name


def options(app: str, name: str) -> set[str]:
    """Return what a command takes beside what Django gives each, or those that it is made of."""
    command = load_command_class(app, name)
    of_django = next(
        each for each in type(command).__mro__ if each.__module__.startswith("django.")
    )
    common = {action.dest for action in of_django().create_parser("manage.py", name)._actions}
    return {
        option
        for action in command.create_parser("manage.py", name)._actions
        if action.dest not in common
        for option in action.option_strings or [action.dest.upper()]
    }


def documented_options(page: Path) -> dict[str, set[str]]:
    """Return what a page says that each command takes, such as `manage.py name --option FILE`."""
    found = {}
    for name, rest in re.findall(r"^`manage\.py (\w+)(.*)`$", text(page), re.MULTILINE):
        words = re.findall(r"--[a-z-]+|[A-Z]+", re.sub(r"(--[a-z-]+) [A-Z]+", r"\1", rest))
        found[name] = set(words)
    return found


def commands(app: str) -> dict[str, set[str]]:
    """Return what each command of an app takes."""
    names = [name for name, owner in get_commands().items() if owner == app]
    return {name: options(app, name) for name in names}


def test_every_command_is_in_the_reference_with_its_options():
    page = REFERENCE / "commands.md"
    assert documented_options(page) == commands("affiliations")
    assert set(re.findall(r"manage\.py (\w+)", text(page))) == {*commands("affiliations")}


def test_the_placeholders_and_the_schedule_are_those_of_the_code():
    table = rows(DOCS / "how-to" / "callbacks.md")
    named = [quoted(cells[0])[0] for cells in table if cells[0].startswith("`{")]
    assert named == [f"{{{name}}}" for name in callbackurl.PLACEHOLDERS]
    waits = [cells[1].split() for cells in table if cells[0].isdecimal()]
    assert waits[0] == []
    assert (
        tuple(timedelta(**{unit: int(number)}) for number, unit in waits[1:]) == outcomes.SCHEDULE
    )
    assert sum(outcomes.SCHEDULE, timedelta()) // timedelta(minutes=1) == 75 * 60 + 35


def test_every_reason_to_drop_a_visit_is_explained():
    table = rows(DOCS / "explanation" / "how-attribution-is-decided.md")
    assert len(table) == 1 + len(decisions.DROPPED)


def test_staff_read_the_names_that_the_admin_has():
    page = " ".join(text(DOCS / "how-to" / "staff.md").split())
    for model, model_admin in admin.site._registry.items():
        if model._meta.app_label.startswith("affiliations"):
            for name in model_admin.actions:
                assert f"*{getattr(model_admin, name).short_description}*" in page
    for state in Callback.State.labels:
        assert f"*{str(state).capitalize()}*" in page


@pytest.mark.django_db
def test_the_signals_are_sent_with_what_the_reference_says(client):
    seen: dict[str, tuple[str, set[str]]] = {}

    def note(name: str) -> Any:
        def receiver(sender: Any, signal: Any, **arguments: Any) -> None:
            seen[name] = (sender.__name__, set(arguments))

        return receiver

    noted = {name: note(name) for name in signals.__all__}
    for name, receiver in noted.items():
        getattr(signals, name).connect(receiver)
    try:
        refer(client, make_partner({"User registered": "https://p.example/?v={visitor_id}"}))
        client.post("/signup/", {"username": "ada"})
        services.reverse_conversion(Conversion.objects.get())
        services.export_user(User.objects.get())
        services.forget_user(User.objects.get())
    finally:
        for name, receiver in noted.items():
            getattr(signals, name).disconnect(receiver)
    assert seen == {
        quoted(cells[0])[0]: (quoted(cells[1])[0], set(quoted(cells[2])))
        for cells in rows(REFERENCE / "signals.md")[1:]
    }


# Links and pictures


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(page):
    prose = FENCE.sub("", text(page))
    links = re.findall(r"\]\(([^()\s]+)\)", prose)
    images = re.findall(r"```\{image\} (\S+)", text(page))
    for link in [*links, *images]:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), f"{page}: {link}"
        assert not anchor or anchor in anchors(target), f"{page}: {link}"


def test_the_picture_stands_alone():
    picture = DOCS / "_static" / "flow.svg"
    root = ElementTree.parse(picture).getroot()
    assert root.get("role") == "img"
    assert "href" not in text(picture)


# The README


VENV = "python3 -m venv .venv && .venv/bin/pip install -e "
DEMO = f"{VENV}'.[demo]' && .venv/bin/python -m dummy_project"
TESTS = f"{VENV}'.[test]' && .venv/bin/pytest"


def test_the_readme_has_the_two_commands_that_ci_runs():
    commands = [each.code for each in BLOCKS if (each.page, each.language) == ("README.md", "sh")]
    assert commands[:2] == [DEMO, TESTS]
    ci = ROOT / ".ci" / "run"
    if not ci.exists():
        pytest.skip(".ci/run is not here")
    assert TESTS in text(ci)
    # The demo's lane has another directory for its environment, and adds --check.
    assert "pip\" install -e '.[demo]'" in text(ci)
    assert "-m dummy_project --check" in text(ci)


def test_the_readme_has_a_place_for_the_figures():
    readme = text(ROOT / "README.md")
    assert readme.count("<!-- benchmarks -->") == readme.count("<!-- /benchmarks -->") == 1


def test_the_readmes_settings_are_right():
    with override_settings(**capitals(run("README.md", "integration"))):
        assert ours(run_checks()) == []


def capitals(names: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in names.items() if name.isupper()}


def ours(messages: list[Any]) -> list[Any]:
    return [each for each in messages if each.id.startswith("affiliations.")]


# Examples


@pytest.mark.parametrize(
    "block",
    [each for each in BLOCKS if each.language == "python"],
    ids=lambda block: f"{block.page}:{block.name}",
)
def test_every_python_block_compiles(block):
    compile(block.code, block.page, "exec")


def test_every_named_block_is_run_here():
    sources = "".join(map(text, sorted(Path(__file__).parent.glob("test_*.py"))))
    used = re.findall(r'(?:code|run)\(\s*"([^"]+)", "([a-z-]+)"', sources)
    # The names of its blocks are parameters, and its own tests see to them all.
    elsewhere = "docs/how-to/attribution-reports.md"
    named = {(each.page, each.name) for each in BLOCKS if each.name and each.page != elsewhere}
    assert named == set(used)


def place(number="A-1", **fields):
    return Order.objects.create(number=number, **{"total": "12.50", **fields})


@pytest.mark.django_db
def test_triggers_as_tuple_and_as_trigger(client):
    declared = [
        *run("docs/how-to/triggers.md", "tuple")["AFFILIATE_TRIGGERS"],
        *run("docs/how-to/triggers.md", "trigger")["AFFILIATE_TRIGGERS"],
    ]
    partner = make_partner({"User registered": "", "Order placed": ""})
    with override_settings(AFFILIATE_TRIGGERS=declared):
        assert ours(run_checks()) == []
        refer(client, partner)
        client.post("/signup/", {"username": "ada"})
        client.post("/order/", {"number": "A-1", "total": "12.50"})
        place(user=Visitor.objects.get().user, number="A-2")
    assert_converted("User registered")
    first, _ = assert_converted("Order placed", times=2)
    assert (first.reference, str(first.money)) == ("A-1", "12.50 EUR")


@pytest.mark.django_db
def test_a_signal_of_ones_own():
    source = code("docs/how-to/triggers.md", "own-signal").replace(
        "shop.signals", "tests.shop.signals"
    )
    names: dict[str, Any] = {}
    exec(source, names)
    user = make_user()
    make_visitor(make_partner({"Order paid": ""}), user=user)
    with override_settings(AFFILIATE_TRIGGERS=names["AFFILIATE_TRIGGERS"]):
        assert ours(run_checks()) == []
        order = place(user=user)
        assert_not_converted("Order paid")
        order.pay()
    [conversion] = assert_converted("Order paid", reference="A-1")
    assert str(conversion.money) == "12.50 EUR"


@pytest.mark.django_db
def test_a_receiver_of_ones_own():
    receiver = run("docs/how-to/triggers.md", "own-receiver")["large_order"]
    user = make_user()
    make_visitor(make_partner({"Large order": ""}), user=user)
    post_save = "django.db.models.signals.post_save"
    with override_settings(AFFILIATE_TRIGGERS=[("Large order", post_save, receiver, "shop.Order")]):
        place(user=user, number="small", total=99)
        place(user=user, number="large", total=100)
    assert_converted("Large order", reference="large")


@pytest.mark.django_db
def test_a_trigger_completed_by_hand():
    import_orders = run("docs/how-to/triggers.md", "by-hand")["import_orders"]
    user = make_user()
    make_visitor(make_partner({"Order placed": ""}), user=user)
    orders = Order.objects.bulk_create(
        [Order(number=str(number), total=1, user=user) for number in range(3)]
    )
    assert_not_converted("Order placed")
    import_orders(orders)
    import_orders(orders)
    assert_converted("Order placed", times=3)


@pytest.mark.django_db
def test_a_call_looks_as_it_is_shown():
    shown = code("docs/how-to/callbacks.md", "wire").splitlines()
    with callback_server() as server:
        url = f"{server.url}/postback?visitor={{visitor_id}}&order={{reference}}&sum={{amount}}"
        visitor = make_visitor(make_partner({"Order placed": url}), user=make_user())
        complete_trigger(
            None,
            "Order placed",
            user=visitor.user,
            reference="A-17",
            amount="12.50",
            currency="EUR",
        )
        assert deliver() == (1, 1)
        [call] = server.received
    assert shown[0] == f"{call.method} {call.target} HTTP/1.1".replace(f"={visitor.pk}&", "=7&")
    headers = dict(line.split(": ", 1) for line in shown[1:])
    assert [name.lower() for name in headers] == list(call.headers)
    own = {"host", "user-agent", "webhook-id", "webhook-timestamp", "webhook-signature"}
    for name, value in headers.items():
        assert name.lower() in own or call.headers[name.lower()] == value
    # What differs from call to call is of the same form.
    for name in own - {"host", "user-agent"}:
        form = re.sub(r"[\w+/]", "x", headers[name])
        assert re.sub(r"[\w+/]", "x", call.headers[name]) == form


@pytest.mark.django_db
def test_a_posted_body_looks_as_it_is_shown():
    shown = code("docs/how-to/callbacks.md", "body").strip()
    sub_ids = {"sub1": "newsletter"}
    with callback_server() as server:
        partner = make_partner()
        address = {"callback_url": f"{server.url}/x", "method": "POST"}
        partner.subscriptions.create(trigger="Order placed", **address)
        visitor = make_visitor(partner, user=make_user(), click_id="77f1", sub_ids=sub_ids)
        of_order = {"reference": "A-17", "amount": "12.50", "currency": "EUR"}
        complete_trigger(None, "Order placed", user=visitor.user, **of_order)
        assert deliver() == (1, 1)
        [call] = server.received
    body = call.body.decode()
    for name, value in (("visitor_id", str(visitor.pk)), ("partner_uid", partner.uid)):
        body = body.replace(f'"{name}":"{value}"', f'"{name}":"{json.loads(shown)["data"][name]}"')
    moment = json.loads(body)["timestamp"]
    assert body.replace(moment, json.loads(shown)["timestamp"]) == shown
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", moment)


SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def test_the_call_that_partners_may_try_is_genuine():
    assert f"`{SECRET}`" in text(DOCS / "how-to" / "verify-callbacks.md")
    request, *lines = code("docs/how-to/verify-callbacks.md", "vector").splitlines()
    headers = dict(line.split(": ", 1) for line in lines)
    method, target, _ = request.split(" ")
    payload = signing.payload(method, target, b"")
    now = int(headers["webhook-timestamp"])
    signing.verify(signing.decode_secret(SECRET), headers, payload, now)


def signed(content: str, *secrets: bytes, at: float | None = None) -> dict[str, str]:
    timestamp = int(time.time() if at is None else at)
    webhook_id = signing.new_webhook_id()
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signing.signature_header(
            secrets, webhook_id, timestamp, content.encode()
        ),
    }


TARGET = "/postback?visitor=7&order=A%2F17&name=%C3%84"


def calls() -> list[tuple[str, dict[str, str], bool]]:
    """Return what was signed, headers, and whether a partner is to believe them."""
    ours, other = signing.decode_secret(SECRET), b"another"
    good = signed(TARGET, ours)
    body = code("docs/how-to/callbacks.md", "body")
    return [
        (body, signed(body, ours), True),
        (body, signed(json.dumps(json.loads(body)), ours), False),
        (TARGET, good, True),
        (TARGET, signed(TARGET, other, ours), True),
        (TARGET, signed(TARGET, ours, other), True),
        (TARGET, signed(TARGET, other), False),
        (TARGET.replace("7", "8"), good, False),
        (TARGET, {**good, "webhook-id": "msg_2"}, False),
        (TARGET, {**good, "webhook-timestamp": str(int(good["webhook-timestamp"]) - 1)}, False),
        (TARGET, signed(TARGET, ours, at=time.time() - 310), False),
        (TARGET, signed(TARGET, ours, at=time.time() + 310), False),
        (TARGET, {**good, "webhook-timestamp": "soon"}, False),
        (TARGET, {**good, "webhook-signature": "v1,"}, False),
        (TARGET, {**good, "webhook-signature": "ä"}, False),
        (TARGET, {}, False),
    ]


def test_partners_verify_in_python():
    is_genuine = run("docs/how-to/verify-callbacks.md", "verify-python")["is_genuine"]
    for content, headers, genuine in calls():
        assert is_genuine(SECRET, content.encode(), headers) is genuine, headers
    request = RequestFactory().get(TARGET)
    assert request.get_full_path() == TARGET
    # Why the page warns of values in the path.
    assert RequestFactory().get("/order/A%2F17").get_full_path() == "/order/A/17"


def test_partners_verify_in_php(tmp_path):
    php = which("php")
    if php is None:
        pytest.skip("no php on PATH")
    script = tmp_path / "verify.php"
    script.write_text(
        "<?php\n"
        + code("docs/how-to/verify-callbacks.md", "verify-php")
        + "\n[, $secret, $calls] = $argv;"
        + "\n$check = fn($call) => is_genuine($secret, $call[0], $call[1]);"
        + "\necho json_encode(array_map($check, json_decode($calls, true)));",
        encoding="utf-8",
    )
    given = calls()
    done = subprocess.run(
        [php, script, SECRET, json.dumps(given)], capture_output=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == [genuine for _, _, genuine in given]


def test_partners_verify_in_node(tmp_path):
    node = which("node")
    if node is None:
        pytest.skip("no node on PATH")
    script = tmp_path / "verify.cjs"
    script.write_text(
        code("docs/how-to/verify-callbacks.md", "verify-node")
        + "\nconst [secret, calls] = process.argv.slice(2);"
        + "\nconst answers = JSON.parse(calls).map((call) => isGenuine(secret, call[0], call[1]));"
        + "\nconsole.log(JSON.stringify(answers));",
        encoding="utf-8",
    )
    given = calls()
    done = subprocess.run(
        [node, script, SECRET, json.dumps(given)], capture_output=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == [genuine for _, _, genuine in given]


class Shop:
    """A stand-in for the package that `ShopConfig` says it is in."""

    __path__ = [str(ROOT / "tests" / "shop")]


@pytest.mark.django_db(transaction=True)
def test_the_first_attempt_can_be_left_to_the_command():
    config = run("docs/how-to/callbacks.md", "no-wake")["ShopConfig"]("shop", Shop)
    with callback_server() as server:
        visitor = make_visitor(make_partner({"T": server.callback_url}), user=make_user())
        try:
            complete_trigger(None, "T", user=visitor.user, reference="1")
            assert len(server.received) == 1
            config.ready()
            complete_trigger(None, "T", user=visitor.user, reference="2")
            assert len(server.received) == 1
        finally:
            receivers.connect()
        assert deliver() == (1, 1)


@pytest.mark.django_db
def test_consent(client, settings):
    settings.AFFILIATE_CONSENT = run("docs/how-to/consent-and-cookies.md", "consent")["may_record"]
    partner = make_partner()
    for answer in ("", "no"):
        client.cookies["consent"] = answer
        assert client.get(partner.link("/")).status_code == 302
        assert not Visitor.objects.exists()
    client.cookies["consent"] = "yes"
    refer(client, partner)


AskFirst = run("docs/how-to/consent-and-cookies.md", "ask-first")["AskFirst"]


@pytest.mark.django_db
def test_a_link_waits_for_the_answer(client, settings):
    settings.AFFILIATE_CONSENT = lambda request: request.COOKIES.get("consent") == "yes"
    settings.MIDDLEWARE = [f"{__name__}.AskFirst", *settings.MIDDLEWARE]
    partner = make_partner()
    response = client.get(partner.link("/echo/?a=1"))
    assert (response.status_code, response.content) == (200, b"a=1")
    assert not Visitor.objects.exists()
    client.cookies["consent"] = "yes"
    response = client.get(partner.link("/echo/?a=1"))
    assert response["Location"] == "/echo/?a=1"
    assert Visitor.objects.get().partner == partner


@pytest.mark.django_db
def test_consent_that_is_withdrawn(client, settings):
    settings.AFFILIATE_COOKIE = True
    withdraw = run("docs/how-to/consent-and-cookies.md", "withdraw")["withdraw"]
    settings.ROOT_URLCONF = (path("withdraw/", withdraw), path("", include("tests.projects.urls")))
    refer(client, make_partner({"User registered": ""}))
    assert client.get("/whoami/").json()["visitor"]
    assert client.get("/withdraw/").url == "/"
    assert client.cookies["consent"].value == "no"
    assert not client.cookies["affiliate_ident"].value
    assert client.get("/whoami/").json()["visitor"] is None
    client.post("/signup/", {"username": "ada"})
    assert_not_converted("User registered")


def test_policies_of_ones_own():
    policies = run("docs/how-to/attribution.md", "policies")
    run("docs/how-to/attribution.md", "policy-test", **policies)["test_two_clicks_share_alike"]()
    clicks = [
        Candidate(number, "Ab3dE9xK", datetime(2026, 1, day, tzinfo=UTC), "session")
        for number, day in enumerate((1, 8, 15), start=1)
    ]
    decision = decide(clicks, "time_decay", policies["time_decay"])
    assert decision is not None
    weights = {share.visitor_id: float(share.weight) for share in decision.shares}
    assert sum(weights.values()) == pytest.approx(1)
    assert weights[3] == pytest.approx(2 * weights[2], abs=2e-6)
    assert weights[2] == pytest.approx(2 * weights[1], abs=2e-6)


@pytest.mark.django_db
def test_the_explanation_reads_as_it_is_shown(client, capsys):
    for subscribed in (True, True, False):
        refer(client, make_partner({"Order placed": ""} if subscribed else {}))
    client.post("/order/", {"number": "A-1", "total": "12.50"})
    run("docs/how-to/attribution.md", "explain", conversion=Conversion.objects.get())
    said = anonymous(capsys.readouterr().out)
    assert said.strip() in anonymous(text(DOCS / "how-to" / "attribution.md"))


def anonymous(explanation: str) -> str:
    return re.sub(
        r"Visitor \d+ of partner \w{8}, who clicked on [-\d]+ at [:\d]+ UTC", "Visitor", explanation
    )


@pytest.mark.django_db
def test_what_to_watch():
    visitor = make_visitor(
        make_partner({"T": "https://p.example/?v={visitor_id}"}), user=make_user()
    )
    for reference in "abc":
        complete_trigger(None, "T", user=visitor.user, reference=reference)
    old, dead, _ = Callback.objects.order_by("pk")
    Callback.objects.filter(pk=old.pk).update(due=old.due - timedelta(hours=1))
    Callback.objects.filter(pk=dead.pk).update(
        state="dead", due=None, settled_on=dead.created_on - timedelta(hours=1)
    )
    found = run("docs/how-to/operate.md", "watch")
    assert (found["late"], found["dead"]) == (1, 1)


@pytest.mark.django_db
def test_prometheus_is_given_the_figures(client, settings):
    settings.ROOT_URLCONF = tuple(run("docs/how-to/operate.md", "metrics")["urlpatterns"])
    page = "/affiliations/metrics"
    assert client.get(page).status_code == 404
    settings.AFFILIATE_METRICS_TOKEN = "long enough".replace(" ", "-") + "-by-far"
    assert client.get(page).status_code == 401
    for given in ("Bearer", "Bearer another", "Bearer ä", settings.AFFILIATE_METRICS_TOKEN):
        assert client.get(page, headers={"authorization": given}).status_code == 401
    token = {"authorization": f"Bearer {settings.AFFILIATE_METRICS_TOKEN}"}
    answer = client.get(page, headers=token)
    assert answer.status_code == 200
    for name in ("affiliations_callbacks", "affiliations_callbacks_oldest_seconds"):
        assert f"\n{name}" in answer.text
        assert name in text(DOCS / "how-to" / "operate.md")


@pytest.mark.django_db
def test_a_receiver_of_a_signal(settings, django_capture_on_commit_callbacks):
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    receiver = run("docs/reference/signals.md", "signal")["forget_cached_figures"]
    visitor = make_visitor(make_partner({"T": ""}), user=make_user())
    key = f"figures-of-partner-{visitor.partner_id}"
    cache.set(key, 3)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            complete_trigger(None, "T", user=visitor.user, reference="A-1")
            assert cache.get(key) == 3
    finally:
        signals.conversion_recorded.disconnect(receiver)
    assert cache.get(key) is None


# Whole pages, in processes of their own


def environment(**changed: str) -> dict[str, str]:
    """Return what a child process finds set: nothing of this one's database and settings."""
    own = {"DATABASE_URL", "DJANGO_SETTINGS_MODULE", "PYTEST_ADDOPTS"}
    kept = {name: value for name, value in os.environ.items() if name not in own}
    return {**kept, "PYTHONPATH": str(ROOT), **changed}


def test_the_page_about_tests_passes(tmp_path):
    page = "docs/how-to/testing-your-site.md"
    (tmp_path / "conftest.py").write_text(
        code("docs/how-to/testing-your-site.md", "conftest"), encoding="utf-8"
    )
    (tmp_path / "test_affiliates.py").write_text(
        code("docs/how-to/testing-your-site.md", "tests"), encoding="utf-8"
    )
    arguments = ["-q", "-n", "0", "-p", "no:cacheprovider", "--no-migrations"]
    arguments += ["-c", str(ROOT / "pyproject.toml"), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        check=False,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tests = re.findall(r"^def test_", code(page, "tests"), re.MULTILINE)
    assert f"{len(tests)} passed" in done.stdout


WALK = """
import django
django.setup()
from django.contrib.auth import get_user_model
from django.test import Client
from affiliations import outbox
from affiliations.models import Callback, Conversion, Partner, Visitor

get_user_model().objects.create_superuser("staff", password="staff")
partner = Partner.objects.create(name="Anna", active=True)
partner.subscriptions.create(
    trigger="User logged in",
    callback_url="http://127.0.0.1:PORT/?visitor={visitor_id}&why={trigger}",
)
browser = Client(SERVER_NAME="127.0.0.1")
answer = browser.get(f"/admin/?affiliate_id={partner.uid}")
assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/")
assert Visitor.objects.count() == 1
for _ in range(2):
    answer = browser.post("/admin/login/", {"username": "staff", "password": "staff"})
    assert answer.status_code == 302, answer.content
    browser.post("/admin/logout/")
assert Conversion.objects.count() == 1
[callback] = Callback.objects.all()
assert (callback.state, callback.attempts) == ("delivered", 1)
"""

AGAIN = """
import django
django.setup()
from affiliations import outbox
from affiliations.models import Callback
outbox.send_again(Callback.objects.get())
[callback] = Callback.objects.all()
assert (callback.state, callback.attempts) == ("pending", 2)
Callback.objects.update(due=callback.created_on)
"""


@contextmanager
def partner_running(directory: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "partner.py"],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def wait_for(port: int) -> None:
    for _ in range(200):
        try:
            create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"nothing listens on {port}")


def test_the_tutorial_leads_to_a_delivered_callback(tmp_path):
    with create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    child = environment(DJANGO_SETTINGS_MODULE="mysite.settings")

    def python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=child,
            capture_output=True,
            check=False,
            encoding="utf-8",
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    child.pop("DJANGO_SETTINGS_MODULE")
    python("-m", "django", "startproject", "mysite", ".")
    child["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
    with (tmp_path / "mysite" / "settings.py").open("a", encoding="utf-8") as settings:
        settings.write(code("docs/tutorial/first-partner.md", "settings"))
        allowed = code("docs/tutorial/first-partner.md", "allow")
        assert "9000" in allowed
        settings.write("\n" + allowed.replace("9000", port))
    partner = code("docs/tutorial/first-partner.md", "partner")
    assert "9000" in partner
    (tmp_path / "partner.py").write_text(partner.replace("9000", port), encoding="utf-8")

    assert "no issues" in python("manage.py", "check")
    python("manage.py", "migrate")
    with partner_running(tmp_path) as process:
        wait_for(int(port))
        python("-c", WALK.replace("PORT", port))
        first = process.stdout.readline()
    shown = re.search(r"^msg_.*$", text(DOCS / "tutorial" / "first-partner.md"), re.MULTILINE)
    assert re.sub(r"msg_\w+", "", first).strip() == re.sub(r"msg_\w+", "", shown[0]).strip()
    python("-c", AGAIN)
    with partner_running(tmp_path) as process:
        wait_for(int(port))
        assert "1 attempted, 1 delivered" in python("manage.py", "deliver_callbacks")
        assert process.stdout.readline() == first


# The engines of Django's Tasks API; tests/core/test_task_backends.py runs them for real


def for_this_django(source: str) -> str:
    """Return a block as the page tells those to write it who are on Django 5.2."""
    return source if django.VERSION >= (6,) else source.replace("django.tasks", "django_tasks")


def write_celery_site(directory: Path) -> None:
    """Write the package of the page about Celery."""
    site = directory / "mysite"
    site.mkdir()
    for name, source in (
        ("__init__", code("docs/how-to/deliver-with-celery.md", "init")),
        ("celery", code("docs/how-to/deliver-with-celery.md", "app")),
        ("taskbackends", code("docs/how-to/deliver-with-celery.md", "backend")),
    ):
        (site / f"{name}.py").write_text(for_this_django(source), encoding="utf-8")


def test_a_site_may_say_that_it_delivers_in_the_request():
    source = for_this_django(code("docs/how-to/deliver-in-the-request.md", "settings"))
    names: dict[str, Any] = {}
    exec(source, names)
    with override_settings(TASKS=names["TASKS"]):
        assert tasks.run_at_once()


def test_the_settings_for_the_workers_are_those_that_are_tested():
    shown = {
        "tasks_database": run(
            "docs/how-to/deliver-with-a-database-worker.md", "settings", INSTALLED_APPS=[]
        ),
        "tasks_celery": run("docs/how-to/deliver-with-celery.md", "settings"),
    }
    for project, settings in shown.items():
        tested = text(ROOT / "tests" / "projects" / f"{project}.py")
        for name in {"TASKS", "CELERY_BROKER_CONNECTION_TIMEOUT"} & set(settings):
            assert f"\n{name} = {settings[name]!r}\n".replace("'", '"') in tested
    assert shown["tasks_database"]["INSTALLED_APPS"] == ["django_tasks_db"]
