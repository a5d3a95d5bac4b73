import gc
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from inspect import iscoroutinefunction
from shutil import which
from typing import Any

import hypothesis
import pytest
from asgiref.sync import SyncToAsync, async_to_sync
from django.conf import settings as django_settings
from django.db import connections, transaction
from django.test import AsyncClient, Client, TransactionTestCase
from playwright.sync_api import sync_playwright

from affiliations import tasks
from affiliations.rewards import protection
from affiliations.rewards import receivers as rewards

# An example that is slow once, on a busy machine, is no failure.
hypothesis.settings.register_profile("suite", deadline=None, print_blob=True)
hypothesis.settings.load_profile("suite")

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return processes for the whole suite, and none beside the first for a part of it.

    One more than there are cores, as they wait for servers and each other: two or three, for a
    server has only so many connections. Whoever asks for a part waits for it, and with `-s` looks
    on. `-n 2` shares out anything.
    """
    asked = config.getoption
    whole = config.args_source is config.ArgsSource.TESTPATHS and "not long" in asked("markexpr")
    part = asked("keyword") or asked("lf", False) or asked("capture") == "no"
    return min((os.cpu_count() or 1) + 1, 3) if whole and not part else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the broken variants, which show what the tests can find, and nothing of a database."""
    for item in items:
        if "teeth" in item.name:
            item.add_marker("teeth")


def pytest_collection_finish() -> None:
    """Look for garbage among what the tests make, not among all that was there before.

    By then there are millions of objects, of which none will go: a fifth of the time went there.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


class SyncClient(Client):
    """The sync client, that can be told from the other one."""

    is_async = False


class BlockingAsyncClient:
    """Django's AsyncClient behind the sync client's interface.

    Each call runs the whole asynchronous handler in an event loop of its own and waits for the
    response. It cannot be used where a loop is running already, as in an `async def` test. Give
    headers as `headers={...}`: environ names mean something only to the sync client.
    """

    is_async = True

    def __init__(self, **defaults: Any) -> None:
        self.wrapped = OneHostAsyncClient(**defaults)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.wrapped, name)
        if not iscoroutinefunction(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            response = async_to_sync(value)(*args, **kwargs)
            if hasattr(response, "client"):
                # What follows a redirect through it, such as assertRedirects, has to block too.
                response.client = self
            return response

        return call


class OneHostAsyncClient(AsyncClient):
    """An AsyncClient in which a given header replaces the default of that name.

    Django's own appends it, so a test's Host would arrive as "testserver,example.com".
    """

    def _base_scope(self, **request: Any) -> dict[str, Any]:
        scope = super()._base_scope(**request)
        scope["headers"] = list(
            {name: value for name, value in scope["headers"] if value or name != b"cookie"}.items()
        )
        return scope


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """Create the test database, and leave nobody connected when it is dropped."""
    yield
    # Async tests reach the database from asgiref's thread, whose connection only it can close.
    SyncToAsync.single_thread_executor.submit(connections.close_all).result()


@pytest.fixture(scope="session", autouse=True)
def emptied_by_rows() -> Iterator[None]:
    """Empty after a test that commits those tables that have rows.

    Django empties all of them, and makes permissions and content types anew, which takes longer
    than most tests do.
    """

    def teardown(self: TransactionTestCase) -> None:
        for name in self._databases_names(include_mirrors=False):
            empty(connections[name])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", teardown)
        yield


#: What is the same before each test.
KEPT = ("auth_permission", "django_content_type")


def empty(connection: Any) -> None:
    """Delete all rows of a database but for those that were there before any test."""
    tables = sorted({*connection.introspection.django_table_names(only_existing=True)} - {*KEPT})
    quoted = connection.ops.quote_name
    each = (
        f"SELECT {number} FROM (SELECT 1 FROM {quoted(name)} LIMIT 1) AS found"
        for number, name in enumerate(tables)
    )
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(each))
        full = {tables[number] for (number,) in cursor.fetchall()}
    ledger = full & {*protection.TABLES}
    with (
        protection.lifted(connection) if ledger else nullcontext(),
        connection.constraint_checks_disabled(),
        transaction.atomic(using=connection.alias),
        connection.cursor() as cursor,
    ):
        if ledger and connection.vendor == "postgresql":
            # There it is not deleted from, whoever asks.
            cursor.execute(f"TRUNCATE {', '.join(map(quoted, ledger))} CASCADE")
            full -= ledger
        for name in full:
            cursor.execute(f"DELETE FROM {quoted(name)}")


@pytest.fixture(params=[SyncClient, BlockingAsyncClient], ids=["sync", "async"])
def new_client(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Make clients, one for each browser of a test; the test runs under both kinds."""
    return request.param


@pytest.fixture
def both_clients(new_client: Callable[..., Any]) -> Any:
    """One browser; the test runs under the sync and the async handler."""
    return new_client()


@pytest.fixture
def task_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A site whose tasks run elsewhere, and there not at all."""
    monkeypatch.setattr(tasks, "run_at_once", lambda: False)
    monkeypatch.setattr(type(tasks.deliver_callbacks), "enqueue", lambda *args: None)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium, or a skipped test; AFFILIATIONS_CHROMIUM names one, or is `none`."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = os.environ.get("AFFILIATIONS_CHROMIUM") or next(filter(None, map(which, names)), None)
    if found in (None, "none"):
        reason = f"no browser: none of {', '.join(names)} is on PATH"
        if os.environ.get("AFFILIATIONS_REQUIRE_BROWSER"):
            # The lane that exists for the browser must not pass by skipping.
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture
def new_context(chromium: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Make browsing contexts, one for each person of a test, in a fresh Chromium."""
    # Playwright leaves its event loop running in this thread, which Django takes for async code.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*FLAGS])
        yield browser.new_context
        browser.close()
        # While that loop runs the test has a connection of its own, which nobody closes later.
        connections.close_all()


@pytest.fixture
def staff(live_server: Any, admin_client: Client, new_context: Callable[..., Any]) -> Any:
    """Make contexts of somebody who is logged in to the admin."""

    def made(**options: Any) -> Any:
        context = new_context(base_url=live_server.url, **options)
        name = django_settings.SESSION_COOKIE_NAME
        session = admin_client.cookies[name].value
        context.add_cookies([{"name": name, "value": session, "url": live_server.url}])
        return context

    return made


@pytest.fixture(autouse=True)
def without_rewards(request: Any) -> Iterator[None]:
    """Let conversions earn nothing but in the rewards' own tests: others count their queries."""
    if "rewards" in request.path.parts:
        yield
        return
    rewards.disconnect()
    yield
    rewards.connect()
