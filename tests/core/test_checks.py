"""System checks: every wrong setting in turn is reported by its id, and nothing raises."""

import re
import sys
from datetime import timedelta

import pytest
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.checks import run_checks
from django.db import connection
from django.test import override_settings
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

from affiliations import firing, receivers
from affiliations.conf import Settings
from affiliations.links.models import Transaction
from affiliations.middleware import AffiliateMiddleware
from affiliations.models import Callback, CallbackAttempt, Partner, Subscription, Visitor
from affiliations.signals import callbacks_enqueued
from affiliations.tasks import ImmediateBackend
from affiliations.triggers import Trigger
from tests.core.factories import make_partner
from tests.mariadb import definition, in_three_bytes

POST_SAVE = "django.db.models.signals.post_save"
CREATED = "affiliations.triggers.object_created"
GOOD = ("Good", POST_SAVE, CREATED, "auth.User")


def found(**settings):
    with override_settings(**settings):
        return sorted({message.id for message in run_checks()})


def test_the_settings_of_the_tests_are_right():
    assert found() == []


async def a_coroutine_function(sender, **kwargs):
    """What no signal awaits."""


class Awaited:
    """Likewise."""

    async def __call__(self, sender, **kwargs):
        """Never run."""


AWAITED = Awaited()


class OwnMiddleware(AffiliateMiddleware):
    """A site's own."""


class OwnSessionMiddleware(SessionMiddleware):
    """A site's own."""


WRONG = {
    "AFFILIATE_QUERY_STRING_KEY": ["", "a b", "a&b", 3, None, "x" * 65, "ä"],
    "AFFILIATE_SESSION_KEY": ["", None, 3],
    "AFFILIATE_WINDOW": [30, timedelta(0), timedelta(days=-1), None, "30", timedelta(days=10**6)],
    "AFFILIATE_ATTRIBUTION": ["middle", 3, None, ""],
    "AFFILIATE_SUBID_KEYS": ["sub1", ("a", "a"), ("a b",), list("abcdef"), None],
    "AFFILIATE_CLICK_ID_KEY": ["", None],
    "AFFILIATE_CONSENT": [True, "yes"],
    "AFFILIATE_HONOUR_GPC": [1, None, "on"],
    "AFFILIATE_COOKIE": [1, "affiliate_ident"],
    "AFFILIATE_COOKIE_NAME": ["a b", None],
    "AFFILIATE_END_ON_SUCCESS": [0],
    "AFFILIATE_RAISE_TRIGGER_ERRORS": ["no"],
    "AFFILIATE_TRIGGERS": [None, "x", {GOOD}, 3],
    "AFFILIATE_CALLBACK_ALLOW": [
        None,
        "127.0.0.1",
        [3],
        ["a b"],
        ["10.0.0.1/8"],
        ["a:0"],
        ["0x7f.1"],
    ],
    "AFFILIATE_CALLBACKS_PER_HOST": [0, 1001, True, "4", 4.0, None],
    "AFFILIATE_EGRESS_PROXY": [
        None,
        3,
        "proxy:3128",
        "https://proxy:3128",
        "http://proxy",
        "http://[::1",
        "http://user:the-password@proxy:3128",
        "http://user:@proxy:3128",
    ],
    "AFFILIATE_EGRESS_PROXY_PASSWORD": [None, 3, "two\nlines", "\x7f", "\udcff"],
    "AFFILIATE_CALLBACK_TOKENS": [
        None,
        [("a.example", "x")],
        {"A.example": "the-password"},
        {"https://a.example": "x"},
        {3: "x"},
        {"a.example": ""},
        {"a.example": "with a blank"},
        {"a.example": None},
    ],
    "AFFILIATE_METRICS_TOKEN": [None, 3, "short", "x" * 201, "with a blank in it all"],
}


def test_no_setting_is_left_out():
    assert list(WRONG) == [setting.setting for setting in Settings.declared()]
    ids = [setting.check_id for setting in Settings.declared()]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_every_setting_wrong_in_turn(name, value):
    [setting] = [each for each in Settings.declared() if each.setting == name]
    assert found(**{name: value}) == [setting.check_id]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AFFILIATE_EGRESS_PROXY", "https://user:the-password@proxy:3128"),
        ("AFFILIATE_EGRESS_PROXY", "http://user:the-password@proxy:3128"),
        ("AFFILIATE_EGRESS_PROXY_PASSWORD", "the-password\n"),
        ("AFFILIATE_METRICS_TOKEN", "the-password in words"),
        ("AFFILIATE_CALLBACK_TOKENS", {"a.example": "the-password in words"}),
    ],
)
def test_a_secret_setting_that_is_wrong_is_not_shown(name, value):
    with override_settings(**{name: value}):
        [message] = run_checks(tags=["affiliations"])
    assert "the-password" not in f"{message.msg} {message.hint}"
    assert "not shown" in message.hint


def test_who_has_put_the_password_into_the_url_is_told_where_it_goes():
    with override_settings(AFFILIATE_EGRESS_PROXY="http://user:the-password@proxy:3128"):
        [message] = run_checks(tags=["affiliations"])
    assert message.id == "affiliations.E016"
    assert "AFFILIATE_EGRESS_PROXY_PASSWORD" in message.msg


def shown_by_django(rf):
    """Return the page that Django shows of an error while DEBUG is on, with all settings."""
    try:
        raise ZeroDivisionError("a defect")
    except ZeroDivisionError:
        report = ExceptionReporter(rf.get("/"), *sys.exc_info())
    return f"{report.get_traceback_html()} {SafeExceptionReporterFilter().get_safe_settings()}"


#: A value that each of the secret settings takes.
SECRETS = {
    "AFFILIATE_EGRESS_PROXY": "http://user@proxy:3128",
    "AFFILIATE_EGRESS_PROXY_PASSWORD": "the-password",
    "AFFILIATE_CALLBACK_TOKENS": {"a.example": "the-password"},
    "AFFILIATE_METRICS_TOKEN": "the-password-of-prometheus",
}


def test_the_error_pages_of_django_show_no_password_that_passes_the_checks(rf):
    secret = [each.setting for each in Settings.declared() if each.secret]
    assert list(SECRETS) == secret
    with override_settings(**SECRETS):
        assert run_checks(tags=["affiliations"]) == []
        page = shown_by_django(rf)
    assert all(name in page for name in SECRETS)
    assert "the-password" not in page


def test_teeth_the_error_pages_of_django_show_a_password_in_the_url(rf):
    with override_settings(AFFILIATE_EGRESS_PROXY="http://user:the-password@proxy:3128"):
        assert "the-password" in shown_by_django(rf)


@pytest.mark.parametrize("value", ["nowhere.to.be.found", "tests.core.test_checks.WRONG"])
@pytest.mark.parametrize("name", ["AFFILIATE_ATTRIBUTION", "AFFILIATE_CONSENT"])
def test_a_path_that_does_not_resolve(name, value):
    assert found(**{name: value}) == ["affiliations.E034"]


RAISES = "tests.core.raises_on_import.signal"


def changed(**items):
    return tuple(Trigger(*GOOD)._replace(**items))


@pytest.mark.parametrize(
    ("trigger", "check_id"),
    [
        ("a string", "E020"),
        ((), "E020"),
        (GOOD[:3], "E020"),
        ((*GOOD, *range(9)), "E020"),
        (changed(name=""), "E020"),
        (changed(name="x" * 101), "E020"),
        (changed(name=3), "E020"),
        (changed(signal="django.db.models.signals.post_sav"), "E021"),
        (changed(signal="nowhere.signal"), "E021"),
        (changed(signal="post_save"), "E021"),
        (changed(signal=RAISES), "E021"),
        (changed(signal="affiliations.triggers.object_created"), "E021"),
        (changed(signal=3), "E021"),
        (changed(receiver="affiliations.triggers.object_crated"), "E022"),
        (changed(receiver="affiliations.triggers.__all__"), "E022"),
        (changed(receiver=None), "E022"),
        (changed(receiver=RAISES), "E022"),
        (changed(receiver="tests.core.test_checks.a_coroutine_function"), "E022"),
        (changed(receiver="tests.core.test_checks.AWAITED"), "E022"),
        (changed(sender="auth.Usr"), "E023"),
        (changed(sender="nowhere.at.all"), "E023"),
        (changed(sender=""), "E023"),
        (changed(sender=RAISES), "E023"),
        (changed(user=3), "E025"),
        (changed(reference=""), "E025"),
        (changed(amount="total"), "E025"),
        (changed(repeat="yes"), "E025"),
    ],
)
def test_every_item_of_a_trigger_wrong_in_turn(trigger, check_id):
    assert found(AFFILIATE_TRIGGERS=[trigger]) == [f"affiliations.{check_id}"]


def test_a_message_says_which_tuple_and_which_item():
    with override_settings(AFFILIATE_TRIGGERS=[GOOD, changed(name="Bad", receiver="no.where")]):
        [message] = run_checks()
    assert "AFFILIATE_TRIGGERS[1] ('Bad'), receiver" in message.msg
    assert "no.where" in message.msg


def test_two_triggers_of_one_name():
    assert found(AFFILIATE_TRIGGERS=[GOOD, changed(name="good")]) == ["affiliations.E024"]


def test_everything_at_once():
    ids = found(
        AFFILIATE_WINDOW=3,
        AFFILIATE_COOKIE=3,
        AFFILIATE_TRIGGERS=[GOOD[:2], changed(signal="no.where", receiver="no.where")],
    )
    assert ids == [f"affiliations.E0{number}" for number in ("03", "09", "20", "21", "22")]


def test_a_broken_trigger_leaves_the_good_ones_connected():
    with override_settings(AFFILIATE_TRIGGERS=[changed(name="Bad", signal="no.where"), GOOD]):
        assert len(firing._connected) == 1
    assert len(firing._connected) == 2


OURS = "affiliations.middleware.AffiliateMiddleware"
SESSION = "django.contrib.sessions.middleware.SessionMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"


@pytest.mark.parametrize(
    ("middleware", "expected"),
    [
        ([SESSION, AUTHENTICATION, OURS], []),
        (
            [
                SESSION,
                AUTHENTICATION,
                "affiliations.middleware.AffiliateVisitorsRegistrationMiddleware",
            ],
            [],
        ),
        ([f"{__name__}.OwnSessionMiddleware", f"{__name__}.OwnMiddleware"], []),
        ([f"{__name__}.OwnMiddleware", f"{__name__}.OwnSessionMiddleware"], ["E031"]),
        ([SESSION, AUTHENTICATION], ["W032"]),
        ([SESSION, "no.such.Middleware"], ["W032"]),
        ([OURS], ["E030"]),
        ([OURS, SESSION], ["E031"]),
        ([SESSION, OURS, AUTHENTICATION], ["W033"]),
    ],
)
def test_the_middleware_and_its_place(middleware, expected):
    with override_settings(MIDDLEWARE=middleware):
        ids = [message.id for message in run_checks(tags=["affiliations"])]
    assert ids == [f"affiliations.{each}" for each in expected]


@pytest.mark.django_db
def test_a_subscription_whose_trigger_is_gone_is_flagged():
    partner = make_partner({"Order placed": ""})
    assert run_checks(databases=["default"]) == []
    Subscription.objects.create(partner=partner, trigger="Long gone")
    [message] = run_checks(databases=["default"])
    assert message.id == "affiliations.W040"
    assert "Long gone" in message.msg


@pytest.mark.django_db
def test_secrets_whose_key_is_gone_are_flagged(settings):
    make_partner()
    with override_settings(SECRET_KEY="another" * 10):
        [message] = run_checks(databases=["default"])
        assert message.id == "affiliations.W041"
        assert Partner.objects.get().signing_secrets() == []
    with override_settings(SECRET_KEY="another" * 10, SECRET_KEY_FALLBACKS=[settings.SECRET_KEY]):
        assert run_checks(databases=["default"]) == []
        assert len(Partner.objects.get().signing_secrets()) == 1


@pytest.mark.skipif(connection.vendor != "mysql", reason="only there")
@pytest.mark.parametrize("model", [Callback, CallbackAttempt, Visitor, Transaction])
@pytest.mark.django_db(transaction=True)
def test_a_table_that_refuses_some_characters_is_flagged(model):
    table = model._meta.db_table
    before = definition(table)
    assert run_checks(databases=["default"]) == []
    with in_three_bytes(table):
        [message] = run_checks(databases=["default"])
    assert message.id == "affiliations.W043"
    assert message.msg.startswith(f"{table}: ")
    assert definition(table) == before


@pytest.mark.skipif(connection.vendor != "mysql", reason="only there")
@pytest.mark.django_db(transaction=True)
def test_text_that_is_not_compared_exactly_any_more_is_flagged():
    table = Transaction._meta.db_table
    with in_three_bytes(table), connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4")
        [message] = run_checks(databases=["default"])
        assert message.id == "affiliations.W044"
        assert f"{table}.item_id, " in message.msg
        assert f"{table}.callback_url" not in message.msg
        advice = re.search("ALTER TABLE (…) CONVERT .*_bin", message.hint)[0]
        cursor.execute(advice.replace("…", table))
        assert run_checks(databases=["default"]) == []


def for_going_live():
    messages = run_checks(tags=["affiliations"], include_deployment_checks=True)
    return [message for message in messages if message.id == "affiliations.W042"]


BACKENDS = f"{ImmediateBackend.__module__.partition('.backends.')[0]}.backends"


class OwnBackend(ImmediateBackend):
    """A site's own, that is no less immediate."""


@pytest.mark.parametrize(
    ("backend", "warned"),
    [
        (f"{BACKENDS}.immediate.ImmediateBackend", True),
        (f"{__name__}.OwnBackend", True),
        (f"{BACKENDS}.dummy.DummyBackend", False),
    ],
)
def test_going_live_with_partners_called_in_the_request(backend, warned):
    with override_settings(TASKS={"default": {"BACKEND": backend}}):
        assert bool(for_going_live()) is warned


def test_going_live_without_a_word_about_tasks():
    [message] = for_going_live()
    assert "in the visitor's request, which it may hold up for 3 seconds" in message.msg
    assert "worker" in message.hint
    assert "deliver_callbacks" in message.hint
    assert run_checks(tags=["affiliations"]) == []


def test_going_live_with_all_left_to_the_command():
    callbacks_enqueued.disconnect(dispatch_uid="affiliations.wake")
    try:
        assert for_going_live() == []
    finally:
        receivers.connect()
    assert for_going_live() != []
