"""Code and settings that were written for django-affiliate-tracking work as they are."""

from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.apps import AppConfig
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core import checks
from django.db import connection
from django.db.models.signals import post_save
from django.dispatch import Signal
from django.test import override_settings

from affiliations import exceptions, models
from affiliations.exceptions import InvalidCallBackURL
from affiliations.middleware import (
    AffiliateMiddleware,
    AffiliateVisitorsRegistrationMiddleware,
)
from affiliations.models import Callback, Conversion, Subscription, Visitor
from affiliations.testing import assert_converted, assert_not_converted, refer
from affiliations.triggers import complete_trigger, object_created, object_saved
from tests.core.factories import make_partner, make_user, make_visitor
from tests.shop.models import Order

pytestmark = pytest.mark.django_db

POST_SAVE = "django.db.models.signals.post_save"
SENDER = "django.contrib.auth.models.User"
URL = "https://partner.example/?v={visitor_id}"
HERE = "tests.core.test_predecessor_code"

current: ContextVar[Any] = ContextVar("current")
newsletter_ordered = Signal()


class Proxy:
    """Stands for the request in progress, as `tls.request` of django-tls did.

    That package's middleware runs on no Django since 2.0; its object is Werkzeug's LocalProxy,
    which raises RuntimeError where there is no request, and passes for what it stands for.
    """

    def _found(self) -> Any:
        try:
            return current.get()
        except LookupError:
            raise RuntimeError("object unbound") from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._found(), name, value)


class FullProxy(Proxy):
    """As Werkzeug 2 and later have it: class and dictionary are those of the request, too."""

    @property
    def __class__(self) -> Any:
        try:
            return type(self._found())
        except RuntimeError:
            return FullProxy

    @property
    def __dict__(self) -> Any:
        try:
            return self._found().__dict__
        except RuntimeError:
            raise AttributeError("__dict__") from None


class TLSRequestMiddleware:
    """What sites put in the place of django-tls's own."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        if iscoroutinefunction(self.get_response):
            return self.acall(request)
        token = current.set(request)
        try:
            return self.get_response(request)
        finally:
            current.reset(token)

    async def acall(self, request: Any) -> Any:
        token = current.set(request)
        try:
            return await self.get_response(request)
        finally:
            current.reset(token)


tls_request: Any = Proxy()


@pytest.fixture(params=[Proxy, FullProxy])
def proxy(request, monkeypatch):
    """Let `tls_request` be one kind of proxy after the other."""
    monkeypatch.setitem(globals(), "tls_request", request.param())


# Receivers as the sites of the predecessor's users have them


def for_grown_ups(sender, instance, affiliate_trigger_name, created=None, **kwargs):
    """Copied from the predecessor's `object_created`, with a condition of the site's own."""
    if created and instance.username != "child":
        complete_trigger(tls_request, affiliate_trigger_name)


def wrapped(sender, instance, affiliate_trigger_name, created=None, **kwargs):
    """Built on top of the predecessor's own receiver."""
    object_created(sender, instance, affiliate_trigger_name, created=created, **kwargs)


def saved(sender, instance, affiliate_trigger_name, created=None, **kwargs):
    object_saved(sender, instance, affiliate_trigger_name, created, **kwargs)


def all_named(sender, instance, affiliate_trigger_name, created, signal, raw, using, update_fields):
    """Without `**kwargs`, and with everything named that this signal sends."""
    complete_trigger(tls_request, affiliate_trigger_name)


def too_few(sender, instance, affiliate_trigger_name):
    """Without `**kwargs`: Django gives `post_save` more than that, to the predecessor's too."""
    complete_trigger(tls_request, affiliate_trigger_name)


def only_kwargs(**kwargs):
    complete_trigger(request=tls_request, affiliate_trigger_name=kwargs["affiliate_trigger_name"])


class Careful:
    """Looks at the request itself before it completes anything."""

    def __call__(self, sender, instance, affiliate_trigger_name, **kwargs):
        if hasattr(tls_request, "affiliate_visitor") and tls_request.affiliate_visitor:
            visitor = Visitor.objects.filter(pk=tls_request.affiliate_visitor.pk).first()
            if visitor and visitor.partner.active:
                complete_trigger(tls_request, affiliate_trigger_name)


careful = Careful()


def at_newsletter(sender, affiliate_trigger_name, signal):
    """For a signal of the site's own, which sends nothing but itself."""
    complete_trigger(tls_request, affiliate_trigger_name)


def old_settings(receiver: str, middleware: bool = True, **more: Any) -> Any:
    """The settings of such a site: a list, four strings, the middleware's old name."""
    names = {
        "tls": [f"{HERE}.TLSRequestMiddleware"] if middleware else [],
        "ours": ["affiliations.middleware.AffiliateVisitorsRegistrationMiddleware"],
    }
    site = {
        "MIDDLEWARE": [
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            *names["tls"],
            *names["ours"],
        ],
        "AFFILIATE_TRIGGERS": [("User registered", POST_SAVE, f"{HERE}.{receiver}", SENDER)],
    }
    return override_settings(**{**site, **more})


def sign_up(client: Any, username: str = "ada") -> Any:
    path = "/asignup/" if client.is_async else "/signup/"
    response = client.post(path, {"username": username})
    assert response.status_code == 201
    return get_user_model().objects.get(username=username)


RECEIVERS = ["for_grown_ups", "wrapped", "saved", "all_named", "only_kwargs", "careful"]


@pytest.mark.parametrize("receiver", RECEIVERS)
def test_custom_receivers_work_unchanged(both_clients, proxy, receiver):
    with old_settings(receiver):
        assert not [each for each in checks.run_checks() if each.id.startswith("affiliations")]
        visitor = refer(both_clients, make_partner({"User registered": URL}))
        user = sign_up(both_clients)
    [conversion] = assert_converted("User registered", user=user)
    visitor.refresh_from_db()
    assert conversion.visitor == visitor
    assert visitor.user == user
    assert visitor.successful_on is not None
    assert Callback.objects.get().url == f"https://partner.example/?v={visitor.pk}"


@pytest.mark.parametrize("receiver", [each for each in RECEIVERS if each != "careful"])
def test_they_work_without_the_other_packages_middleware(both_clients, proxy, receiver):
    """The proxy then raises at each touch; the request in progress is known all the same."""
    with old_settings(receiver, middleware=False):
        refer(both_clients, make_partner({"User registered": URL}))
        user = sign_up(both_clients)
    assert_converted("User registered", user=user)


def test_their_own_conditions_hold(both_clients, proxy):
    with old_settings("for_grown_ups"):
        refer(both_clients, make_partner({"User registered": URL}))
        sign_up(both_clients, "child")
    assert_not_converted("User registered")


@pytest.mark.parametrize("receiver", RECEIVERS)
def test_without_a_visitor_they_do_nothing(both_clients, proxy, receiver):
    with old_settings(receiver):
        make_partner({"User registered": URL})
        sign_up(both_clients)
    assert_not_converted("User registered")


def test_outside_of_a_request_they_find_the_users_visitor(proxy):
    """In a worker the predecessor's raised; a save there could not go through."""
    visitor = make_visitor(make_partner({"User registered": URL}), user=make_user("grace"))
    with old_settings("saved"):
        visitor.user.save()
    [conversion] = assert_converted("User registered")
    assert conversion.visitor == visitor


def test_a_receiver_that_cannot_take_the_signal_breaks_nothing(both_clients, proxy, caplog):
    with old_settings("too_few", AFFILIATE_RAISE_TRIGGER_ERRORS=False):
        refer(both_clients, make_partner({"User registered": URL}))
        user = sign_up(both_clients)
    assert user.pk
    assert_not_converted("User registered")
    assert "too_few() got an unexpected keyword argument" in caplog.text


def test_a_signal_of_the_sites_own(proxy, rf):
    visitor = make_visitor(make_partner({"Newsletter ordered": URL}))
    trigger = (
        "Newsletter ordered",
        f"{HERE}.newsletter_ordered",
        f"{HERE}.at_newsletter",
        f"{HERE}.Careful",  # any path to an object is a sender
    )
    request = rf.get("/")
    request.user = AnonymousUser()
    request.affiliate_visitor = visitor
    with override_settings(AFFILIATE_TRIGGERS=[trigger]):
        token = current.set(request)
        newsletter_ordered.send(sender=object())
        assert_not_converted("Newsletter ordered")
        newsletter_ordered.send(sender=Careful)
        current.reset(token)
    assert_converted("Newsletter ordered")


def test_a_receiver_may_still_be_connected_by_hand(both_clients, proxy):
    """As the predecessor's own `ready` did it."""
    receiver = partial(for_grown_ups, affiliate_trigger_name="User registered")
    with old_settings("only_kwargs"), override_settings(AFFILIATE_TRIGGERS=[]):
        post_save.connect(receiver, sender=get_user_model(), weak=False)
        try:
            refer(both_clients, make_partner({"User registered": URL}))
            sign_up(both_clients)
        finally:
            post_save.disconnect(receiver, sender=get_user_model())
    assert_converted("User registered")


def test_a_proxy_mixes_no_browsers_up(new_client, proxy):
    """A proxy outlives the request that it stands for, so nothing may be kept on it."""
    trigger = ("Order placed", POST_SAVE, f"{HERE}.only_kwargs", "tests.shop.models.Order")
    with old_settings("only_kwargs", AFFILIATE_COOKIE=True, AFFILIATE_TRIGGERS=[trigger]):
        hers, strangers = new_client(), new_client()
        visitor = refer(hers, make_partner({"Order placed": URL}))
        hers.post("/order/", {"number": "A-1", "total": "1"})
        strangers.post("/order/", {"number": "A-2", "total": "1"})
    [conversion] = assert_converted("Order placed")
    assert conversion.visitor == visitor


# The predecessor's way with the session


def test_the_session_key_holds_the_id_as_ever(both_clients, settings):
    settings.AFFILIATE_SESSION_KEY = "ref"
    settings.AFFILIATE_QUERY_STRING_KEY = "from"
    partner = make_partner()
    visitor = refer(both_clients, partner)
    assert f"from={partner.uid}" in partner.link("/")
    assert both_clients.session["ref"] == visitor.pk


def test_a_session_of_the_predecessor_goes_on(both_clients):
    """It holds the id alone, and nothing of what this package puts beside it."""
    visitor = make_visitor(make_partner({"User registered": URL}))
    session = both_clients.session
    session["affiliate_visitor_id"] = visitor.pk
    session.save()
    both_clients.cookies["sessionid"] = session.session_key
    user = sign_up(both_clients)
    assert_converted("User registered", visitor=visitor, user=user)


@pytest.mark.parametrize("login", ["0", "1"])
def test_end_on_success_lets_only_the_first_trigger_count(both_clients, settings, login):
    settings.AFFILIATE_END_ON_SUCCESS = True
    partner = make_partner({"User registered": URL, "Order placed": URL})
    refer(both_clients, partner)
    assert "affiliate_visitor_id" in both_clients.session
    path = "/asignup/" if both_clients.is_async else "/signup/"
    both_clients.post(path, {"username": "ada", "login": login})
    assert_converted("User registered", partner=partner)
    assert "affiliate_visitor_id" not in both_clients.session
    both_clients.post("/order/", {"number": "A-1", "total": "1"})
    assert_not_converted("Order placed")


def test_end_on_success_holds_outside_of_the_session_too(both_clients, settings):
    settings.AFFILIATE_END_ON_SUCCESS = True
    partner = make_partner({"User registered": URL, "Order placed": URL})
    refer(both_clients, partner)
    user = sign_up(both_clients)
    assert_converted("User registered", partner=partner)
    Order.objects.create(number="A-1", user=user, total=1)  # by a worker, say
    assert_not_converted("Order placed")


def test_end_on_success_and_a_new_click(both_clients, settings):
    settings.AFFILIATE_END_ON_SUCCESS = True
    first, second = make_partner({"User registered": URL}), make_partner({"Order placed": URL})
    refer(both_clients, first)
    sign_up(both_clients)
    refer(both_clients, second)
    both_clients.post("/order/", {"number": "A-1", "total": "1"})
    assert_converted("User registered", partner=first)
    assert_converted("Order placed", partner=second)
    assert "affiliate_visitor_id" not in both_clients.session


def test_by_default_the_visitor_stays(both_clients):
    partner = make_partner({"User registered": URL, "Order placed": URL})
    refer(both_clients, partner)
    sign_up(both_clients)
    both_clients.post("/order/", {"number": "A-1", "total": "1"})
    assert_converted("Order placed", partner=partner)


# Its names


def test_the_app_goes_by_the_config_that_older_djangos_had_to_be_told():
    found = AppConfig.create("affiliations.apps.AffiliateTrackingConfig")
    assert (found.name, found.label) == ("affiliations", "affiliations")
    assert type(AppConfig.create("affiliations")).__name__ == "AffiliationsConfig"


def test_the_exception_is_where_it_was():
    assert models.InvalidCallBackURL is exceptions.InvalidCallBackURL
    assert issubclass(InvalidCallBackURL, Exception)


def test_the_middleware_goes_by_its_old_name():
    with old_settings("wrapped"):
        found = checks.run_checks()
    assert not [each for each in found if each.id == "affiliations.W032"]
    assert AffiliateVisitorsRegistrationMiddleware is AffiliateMiddleware


@pytest.mark.parametrize("url", ["https://partner.example/", "https://partner.example/{visitor}"])
def test_a_subscription_is_validated_when_it_is_saved(url):
    partner = make_partner()
    with pytest.raises(InvalidCallBackURL):
        Subscription(partner=partner, trigger="User registered", callback_url=url).save()
    with pytest.raises(InvalidCallBackURL):
        Subscription.objects.create(partner=partner, trigger="Another", callback_url=url)
    assert not Subscription.objects.exists()


def test_a_subscription_without_an_address_is_saved():
    subscription = Subscription.objects.create(partner=make_partner(), trigger="x", callback_url="")
    assert str(subscription) == "x"


def test_the_relations_have_their_old_names():
    user, partner = make_user(), make_partner({"User registered": URL})
    visitor = make_visitor(partner, user=user)
    assert list(partner.visitors.all()) == list(user.visitors.all()) == [visitor]
    assert str(partner.subscriptions.filter(trigger="User registered").first()) == "User registered"
    assert str(partner) == partner.name
    assert str(visitor) == visitor.entry_point
    assert len(partner.uid) == 8


def test_succeed_sets_time_and_user_once():
    ada, grace = make_user("ada"), make_user("grace")
    visitor = make_visitor()
    visitor.succeed(ada)
    first = visitor.successful_on
    assert first is not None
    assert visitor.user == ada
    visitor.succeed(grace)
    visitor.refresh_from_db()
    assert (visitor.successful_on, visitor.user) == (first, ada)


@pytest.mark.parametrize("nobody", [None, AnonymousUser()])
def test_succeed_without_a_user_keeps_the_one_there_is(nobody):
    user = make_user()
    visitor = make_visitor(user=user)
    visitor.succeed(nobody)
    visitor.refresh_from_db()
    assert visitor.successful_on is not None
    assert visitor.user == user


def test_a_copy_of_the_predecessors_complete_trigger_still_runs(both_clients, proxy):
    """Its documentation said: copy what is built in. All but the call itself is here."""
    with old_settings("copied"):
        visitor = refer(both_clients, make_partner({"User registered": URL}))
        user = sign_up(both_clients)
    visitor.refresh_from_db()
    assert visitor.successful_on is not None
    assert visitor.user == user
    assert not Conversion.objects.exists()  # it goes past them


def copied(sender, instance, affiliate_trigger_name, created=None, **kwargs):
    request = tls_request
    if created and hasattr(request, "affiliate_visitor"):
        visitor = Visitor.objects.filter(pk=request.affiliate_visitor.pk).first()
        if visitor:
            partner = visitor.partner
            if partner.active:
                name = affiliate_trigger_name
                subscription = partner.subscriptions.filter(trigger=name).first()
                if subscription:
                    assert subscription.callback_url.format(visitor_id=visitor.pk)
                    visitor.succeed(instance)
                    del request.session["affiliate_visitor_id"]


def test_the_tables_have_their_old_names():
    tables = connection.introspection.table_names()
    for name in ("partner", "subscription", "visitor"):
        assert f"affiliations_{name}" in tables
