"""The admin of the delivery: subscriptions and their states, callbacks, and what staff can do."""

import re
import socket
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import urlencode

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.utils import timezone

from affiliations import outbox
from affiliations.admin import callbacks as callbacks_admin
from affiliations.models import Callback, CallbackAttempt, Partner, Subscription
from affiliations.testing import callback_server, deliver
from tests.core import test_admin
from tests.core.factories import make_partner, make_user
from tests.core.receivers.watch import found
from tests.core.test_admin import CALLED, HOSTILE, act, address, page, told

pytestmark = pytest.mark.django_db
partner_form = test_admin.TestPartners().form


@pytest.fixture
def server():
    with callback_server() as server:
        yield server


def make_subscription(url=CALLED, **fields):
    subscription = make_partner({"Order placed": url}).subscriptions.get()
    Subscription.objects.filter(pk=subscription.pk).update(**fields)
    subscription.refresh_from_db()
    return subscription


def make_callback(subscription=None, **fields):
    """Return a callback of which nobody is told."""
    partner = subscription.partner if subscription else make_partner()
    fields = {"partner": partner, "url": "http://127.0.0.1:9/x", **fields}
    if fields.get("state", "pending") != "pending":
        fields = {"due": None, **fields}
    return Callback.objects.create(subscription=subscription, **fields)


def staff(client, *permissions):
    """Log in as somebody who may do so much, and return the client."""
    user = make_user("staff")
    user.is_staff = True
    user.save()
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
    return client


def cells(text, *names):
    """Return what stands in some columns of a list, row by row, as text."""
    body = text.partition("<tbody>")[2].partition("</tbody>")[0]
    rows = []
    for row in body.split("<tr>")[1:]:
        found = [re.search(rf'field-{name}"[^>]*>(.*?)</t[dh]>', row, re.DOTALL) for name in names]
        rows.append([unescape(re.sub(r"<[^>]*>", "", each[1])).strip() for each in found])
    return rows


# Subscriptions


class TestSubscriptions:
    def test_the_list_tells_whether_each_is_called_and_why_not(self, admin_client):
        ago = timezone.now() - timedelta(days=3, minutes=1)
        make_subscription("")
        make_subscription()
        make_subscription(failures=1, failing_since=ago)
        make_subscription(failures=1200, failing_since=ago)
        make_subscription(failures=2, failing_since=ago, off_since=ago, off_reason=HOSTILE)
        text = page(admin_client, "subscription_changelist")
        assert cells(text, "called", "since", "why") == [
            ["switched off", "3\xa0days", HOSTILE],
            ["failing", "3\xa0days", "1200 failures in a row"],
            ["failing", "3\xa0days", "1 failure in a row"],
            ["on", "–", "–"],
            ["counts only", "–", "–"],
        ]
        assert HOSTILE not in text
        badges = re.findall(r"aff-badge aff-(\w+)", text)
        assert badges == ["dead", "pending", "pending", "delivered", "canceled"]

    def test_the_list_takes_the_same_queries_however_long(
        self, admin_client, django_assert_num_queries
    ):
        make_subscription()
        page(admin_client, "subscription_changelist")
        for _ in range(20):
            make_subscription()
        # Session and user; how many; these; their partners.
        with django_assert_num_queries(5):
            page(admin_client, "subscription_changelist")

    def test_it_is_filtered(self, admin_client):
        on = make_subscription()
        off = make_subscription(off_since=timezone.now())
        for query, shown in (
            ({"off_since": "yes"}, [off]),
            ({"off_since": "no"}, [on]),
            ({"partner": on.partner.uid}, [on]),
            ({"q": "Order"}, [off, on]),
        ):
            text = page(admin_client, "subscription_changelist", **query)
            rows = re.findall(r'name="_selected_action" value="(\d+)"', text)
            assert rows == [str(each.pk) for each in shown], query

    def test_its_own_page_leads_nowhere(self, admin_client):
        subscription = make_subscription(off_since=timezone.now(), off_reason=HOSTILE)
        text = page(admin_client, "subscription_change", subscription.pk)
        assert CALLED in unescape(text)
        assert "partner.example" not in "".join(re.findall(r'href="([^"]*)"', text))
        assert HOSTILE not in text
        assert HOSTILE in unescape(text)

    @pytest.mark.parametrize(
        ("fields", "buttons"),
        [
            ({}, {"send_test", "switch_off"}),
            ({"off_since": timezone.now()}, {"send_test", "switch_on"}),
            ({"callback_url": ""}, set()),
        ],
    )
    def test_its_own_page_has_the_buttons_that_apply(self, admin_client, fields, buttons):
        subscription = make_subscription(**fields)
        text = page(admin_client, "subscription_change", subscription.pk)
        shown = {each for each in ("send_test", "switch_on", "switch_off") if f'"{each}"' in text}
        assert shown == buttons

    def test_a_test_is_sent_and_led_to(self, admin_client, server):
        subscription = make_subscription(server.callback_url)
        response = act(admin_client, "subscription", "send_test", subscription)
        callback = Callback.objects.get()
        [text] = told(response)
        assert text.startswith("A signed test is on its way: <a href=")
        assert address("callback_change", callback.pk) in text
        deliver()
        [call] = server.received
        call.verify(*subscription.partner.signing_secrets())
        assert call.headers["webhook-id"].startswith("test_")
        assert LogEntry.objects.get().change_message == "Sent a test."
        assert '<td class="field-about">a test</td>' in page(admin_client, "callback_changelist")

    def test_there_is_nothing_to_test_without_an_address(self, admin_client):
        response = act(admin_client, "subscription", "send_test", make_subscription(""))
        assert told(response) == ["Order placed has no callback URL: there is nothing to test."]
        assert not Callback.objects.exists()

    def test_they_are_switched_off_and_on(self, admin_client):
        one, other = make_subscription(), make_subscription()
        off = act(admin_client, "subscription", "switch_off", one, other)
        assert told(off) == ["2 subscriptions are off. What falls due is parked."]
        for each in (one, other):
            each.refresh_from_db()
            assert each.off_reason == "Switched off by admin."
        # What is off already stays as it is.
        assert told(act(admin_client, "subscription", "switch_off", one)) == []
        for _ in range(3):
            make_callback(one, state="parked")
        assert told(act(admin_client, "subscription", "switch_on", other)) == [
            "1 subscription is on."
        ]
        assert told(act(admin_client, "subscription", "switch_on", one, other)) == [
            "1 subscription is on. 3 callbacks that were parked go out, slowly at first."
        ]
        assert not Subscription.objects.exclude(off_since=None, off_reason="").exists()
        assert Callback.objects.filter(state="pending").count() == 3
        said = LogEntry.objects.order_by("pk").values_list("object_id", "change_message")
        assert sorted(said) == sorted(
            (str(each.pk), words)
            for each in (one, other)
            for words in ("Switched off.", "Switched on.")
        )

    def test_who_may_only_look_can_do_nothing(self, client, server):
        viewer = staff(client, "view_subscription", "view_partner")
        subscription = make_subscription(server.callback_url)
        off = make_subscription(off_since=timezone.now())
        assert "send_test" not in page(viewer, "subscription_changelist")
        assert "send_test" not in page(viewer, "subscription_change", subscription.pk)
        for action in ("send_test", "switch_off", "switch_on"):
            act(viewer, "subscription", action, subscription, off)
        assert not Callback.objects.exists()
        assert Subscription.objects.get(pk=subscription.pk).off_since is None
        assert Subscription.objects.get(pk=off.pk).off_since is not None
        assert not LogEntry.objects.exists()

    def test_who_may_change_them_can(self, client, server):
        editor = staff(client, "view_subscription", "change_subscription")
        subscription = make_subscription(server.callback_url)
        act(editor, "subscription", "switch_off", subscription)
        subscription.refresh_from_db()
        assert subscription.off_reason == "Switched off by staff."

    def test_who_may_not_look_sees_nothing(self, client):
        nobody = staff(client)
        subscription = make_subscription()
        assert nobody.get(address("subscription_changelist")).status_code == 403
        for name in ("change", "history", "delete"):
            response = nobody.get(address(f"subscription_{name}", subscription.pk))
            assert response.status_code == 403, name

    def test_they_are_edited_on_their_partners_page_only(self, admin_client):
        subscription = make_subscription()
        assert admin_client.get(address("subscription_add")).status_code == 403
        url = address("subscription_change", subscription.pk)
        data = {"trigger": "x", "callback_url": "http://10.0.0.1/", "method": "POST"}
        assert admin_client.post(url, data).status_code == 403
        assert Subscription.objects.get().callback_url == CALLED

    def test_too_many_at_once_are_refused(self, admin_client, monkeypatch):
        monkeypatch.setattr("affiliations.admin.acting.AT_ONCE", 1)
        rows = [make_subscription(), make_subscription()]
        for action in ("send_test", "switch_off"):
            response = act(admin_client, "subscription", action, *rows)
            assert told(response) == ["Please select at most 1 at a time."]
        assert not Subscription.objects.exclude(off_since=None).exists()
        assert not Callback.objects.exists()


# The partner's form


def save(client, data):
    """Send the form of a new partner; return the errors at the address, [] where it was saved."""
    response = client.post(address("partner_add"), data)
    if response.status_code == 302:
        return []
    form = response.context["inline_admin_formsets"][0].formset.forms[0]
    errors = [str(each) for each in form.errors.get("callback_url", [])]
    text = unescape(response.content.decode())
    assert errors
    assert all(each in text for each in errors)
    return errors


def wish(url, **fields):
    data = {f"subscriptions-0-{name}": value for name, value in fields.items()}
    return partner_form(None, ("Order placed", url), **data)


class TestForm:
    def test_method_and_what_is_expected_are_saved(self, admin_client):
        data = wish("https://partner.example/hook", method="POST", expects="success=true")
        assert save(admin_client, data) == []
        subscription = Subscription.objects.get()
        assert (subscription.method, subscription.expects) == ("POST", "success=true")
        text = page(admin_client, "partner_change", subscription.partner_id)
        assert '<option value="POST" selected>POST</option>' in text
        assert 'value="success=true"' in text
        assert address("subscription_change", subscription.pk) in text

    def test_only_a_get_needs_the_visitor_in_its_address(self, admin_client):
        [error] = save(admin_client, wish("https://partner.example/hook", method="GET"))
        assert "must contain {visitor_id}" in error
        assert not Partner.objects.exists()

    def test_a_method_is_one_of_two(self, admin_client):
        response = admin_client.post(address("partner_add"), wish(CALLED, method="PUT"))
        assert "PUT is not one of the available choices" in response.content.decode()

    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("http://10.0.0.1/?v={visitor_id}", "The address 10.0.0.1 "),
            ("http://169.254.169.254/?v={visitor_id}", "The address 169.254.169.254 "),
            ("http://[::1]/?v={visitor_id}", "The address ::1 "),
            ("http://0x7f.1/?v={visitor_id}", "0x7f.1"),
            ("http://localhost/?v={visitor_id}", "localhost is "),
            ("http://testserver/?v={visitor_id}", "testserver is a host of this site itself"),
            ("http://partner.example:22/?v={visitor_id}", "only 80 and 443 are open"),
        ],
    )
    def test_what_is_not_public_is_refused_with_the_reason(
        self, admin_client, settings, url, reason
    ):
        settings.AFFILIATE_CALLBACK_ALLOW = ()
        [error] = save(admin_client, wish(url))
        assert reason in error
        assert not Partner.objects.exists()

    @pytest.mark.parametrize(
        "answer",
        [["10.0.0.1"], ["93.184.215.14", "192.168.0.1"], ["::ffff:127.0.0.1"], ["fd00::1"]],
    )
    def test_a_name_that_leads_inside_is_refused_too(
        self, admin_client, settings, monkeypatch, answer
    ):
        settings.AFFILIATE_CALLBACK_ALLOW = ()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: found(*answer))
        [error] = save(admin_client, wish(CALLED))
        assert error.startswith("partner.example has the address ")
        assert error.endswith("No partner can be there.")
        assert not Partner.objects.exists()

    @pytest.mark.parametrize("known", [True, False])
    def test_a_name_that_leads_outside_or_nowhere_yet_is_taken(
        self, admin_client, settings, monkeypatch, known
    ):
        def look_up(*args, **more):
            if not known:
                raise socket.gaierror(socket.EAI_NONAME, "not yet")
            return found("93.184.215.14")

        settings.AFFILIATE_CALLBACK_ALLOW = ()
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        assert save(admin_client, wish(CALLED)) == []

    def test_teeth_a_form_that_looks_up_no_name(self, admin_client, settings, monkeypatch):
        settings.AFFILIATE_CALLBACK_ALLOW = ()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: found("10.0.0.1"))
        monkeypatch.setattr(
            "affiliations.admin.partners.SubscriptionForm._look_where_it_leads", lambda form: None
        )
        assert save(admin_client, wish(CALLED)) == []

    def test_an_address_that_is_left_as_it_was_is_not_looked_up(self, admin_client, monkeypatch):
        partner = make_partner({"Order placed": CALLED})
        asked = []
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: asked.append(args))
        data = partner_form(partner, **{"subscriptions-0-expects": "ok"})
        assert admin_client.post(address("partner_change", partner.pk), data).status_code == 302
        assert Subscription.objects.get().expects == "ok"
        assert asked == []

    def test_whether_it_is_called_is_not_for_the_form_to_say(self, admin_client):
        subscription = make_subscription(off_since=timezone.now(), off_reason="x", failures=3)
        more = {f"subscriptions-0-{name}": "" for name in ("off_since", "off_reason", "failures")}
        data = partner_form(subscription.partner, **more, **{"subscriptions-0-expects": "ok"})
        url = address("partner_change", subscription.partner_id)
        assert admin_client.post(url, data).status_code == 302
        kept = Subscription.objects.get()
        assert (kept.off_reason, kept.failures, kept.expects) == ("x", 3, "ok")
        assert kept.off_since is not None


# Callbacks


def attempt(callback, number=1, **fields):
    fields = {"started_on": timezone.now(), "duration_ms": 1, "status": 200, **fields}
    return CallbackAttempt.objects.create(callback=callback, number=number, **fields)


class TestCallbacks:
    def test_two_days_are_drawn_above_the_list(self, admin_client):
        callback = make_callback()
        now = timezone.now()
        for number in range(1200):
            status = 200 if number >= 4 else (500, None, 302, 404)[number]
            if number < 1105:
                attempt(callback, number, status=status, started_on=now - timedelta(hours=3))
        attempt(callback, 5000, started_on=now - timedelta(hours=49))
        text = page(admin_client, "callback_changelist")
        good, bad = re.findall(r'<li class="aff-(?:good|bad)">(.*?)</li>', text, re.DOTALL)
        for drawing, words in (
            (good, "1,101 delivered in the last 48 hours"),
            (bad, "4 failed in the last 48 hours"),
        ):
            assert f"<span>{words}</span>" in drawing
            assert f"<title>{words}</title>" in drawing
            assert drawing.count("<svg") == 1

    def test_nothing_is_a_picture_too(self, admin_client):
        text = page(admin_client, "callback_changelist")
        assert "0 delivered in the last 48 hours" in text
        assert "0 failed in the last 48 hours" in text

    def test_it_is_filtered_by_host_and_by_how_its_reason_begins(self, admin_client):
        one = make_callback(host="a.example", reason="The partner answered 500.")
        other = make_callback(host="a.example:8000", reason="The connection was refused.")
        for query, shown in (
            ({"host": "a.example"}, [one]),
            ({"host": " A.EXAMPLE:8000 "}, [other]),
            ({"host": "example"}, []),
            ({"reason": "The partner answered 5"}, [one]),
            ({"reason": "The "}, [other, one]),
            ({"reason": "refused"}, []),
            ({"reason": "The ", "host": "a.example"}, [one]),
            ({"reason": "%"}, []),
            ({"reason": "\0"}, [other, one]),
        ):
            text = page(admin_client, "callback_changelist", **query)
            rows = re.findall(r'name="_selected_action" value="(\d+)"', text)
            assert rows == [str(each.pk) for each in shown], query

    def test_it_is_filtered_by_when_it_was_written(self, admin_client):
        one = make_callback(created_on=datetime(2026, 11, 20, 12, tzinfo=UTC))
        other = make_callback(created_on=datetime(2026, 11, 21, 12, tzinfo=UTC))
        for since, shown in (
            ("2026-11-20", [other, one]),
            ("2026-11-20T12:00:00Z", [other, one]),
            ("2026-11-20 12:00:01+00:00", [other]),
            (" 2026-11-22 ", []),
            ("\0", [other, one]),
        ):
            text = page(admin_client, "callback_changelist", since=since)
            rows = re.findall(r'name="_selected_action" value="(\d+)"', text)
            assert rows == [str(each.pk) for each in shown], since
            assert "is no date" not in text

    @pytest.mark.skipif(connection.vendor == "postgresql", reason="a session keeps its zone")
    def test_a_site_without_time_zones_has_the_filter_too(self, admin_client, settings):
        settings.USE_TZ = False
        make_callback(created_on=datetime(2026, 11, 20, 12))  # noqa: DTZ001 - it has none
        for since, shown in (("2026-11-20", 1), ("2026-11-22T00:00Z", 0)):
            text = page(admin_client, "callback_changelist", since=since)
            assert text.count('name="_selected_action"') == shown

    @pytest.mark.parametrize(
        "since",
        [
            "yesterday",
            "2026-02-30",
            "0001-01-01",
            "9999-12-31T23:59:59-12:00",
            "9" * 5000,
        ],
    )
    def test_what_is_no_date_keeps_nothing(self, admin_client, since):
        make_callback()
        text = page(admin_client, "callback_changelist", since=since)
        assert "_selected_action" not in text
        assert "is no date." in text

    def test_a_filter_keeps_what_else_is_asked_for_and_shows_what_it_is_escaped(self, admin_client):
        text = page(admin_client, "callback_changelist", host=HOSTILE, reason='"><b>')
        assert HOSTILE not in text
        assert '"><b>' not in text
        assert f'value="{HOSTILE}"' in unescape(text)
        hidden = re.findall(r'<input type="hidden" name="(\w+)"', text)
        assert "host" in hidden
        assert "reason" in hidden

    @pytest.mark.parametrize(
        "said", [HOSTILE, '"><img src=x onerror=alert(1)>', "<b>{{ 7 }}&amp;</b>"]
    )
    def test_what_the_partner_said_is_text(self, admin_client, said):
        callback = make_callback(body=said, expects=said[:200], state="refused", reason=said)
        attempt(callback, answer=said, error=said, status=200)
        text = page(admin_client, "callback_change", callback.pk)
        assert said not in text
        # Body, expected, reason, error and answer.
        assert unescape(text).count(said) == 5

    def test_what_is_parked_is_canceled(self, admin_client):
        parked = make_callback(make_subscription(), state="parked")
        assert 'value="cancel"' in page(admin_client, "callback_change", parked.pk)
        assert told(act(admin_client, "callback", "cancel", parked)) == ["1 callback was canceled."]
        parked.refresh_from_db()
        assert (parked.state, parked.due, parked.reason) == ("canceled", None, "Canceled by admin.")
        assert outbox.switch_on(parked.subscription) == 0
        [late] = told(act(admin_client, "callback", "cancel", parked))
        assert "does not wait any more" in late

    @pytest.mark.parametrize("state", Callback.State.values)
    def test_a_page_has_the_buttons_of_its_state(self, admin_client, state):
        callback = make_callback(state=state)
        text = page(admin_client, "callback_change", callback.pk)
        assert ('value="cancel"' in text) is (state in ("pending", "parked"))
        assert 'value="send_again"' in text


# Many at once


@pytest.fixture
def few(monkeypatch):
    """As if a page of the list had three rows."""
    monkeypatch.setattr(callbacks_admin, "AT_ONCE", 3)


def across(client, action, *, confirmed=False, **query):
    """Do something to all that a filter shows, as the browser does once they are all ticked."""
    rows = Callback.objects.order_by("-pk")[:1]
    data = {"action": action, "_selected_action": [row.pk for row in rows], "index": 0}
    data |= {"select_across": "1"} | ({"confirmed": "yes"} if confirmed else {})
    return client.post(f"{address('callback_changelist')}?{urlencode(query)}", data, follow=True)


class TestManyAtOnce:
    @pytest.fixture
    def rows(self, few):
        """Six that failed at one host, of which one was sent again lately; others elsewhere."""
        lately = timezone.now() - timedelta(minutes=5)
        here = [make_callback(state="dead", host="a.example") for _ in range(5)]
        make_callback(state="dead", host="a.example", resent_on=lately)
        make_callback(host="a.example", due=timezone.now() + timedelta(hours=1))
        make_callback(state="dead", host="b.example")
        return here

    def test_it_is_asked_how_many_and_then_done(self, admin_client, rows):
        asked = across(admin_client, "send_again", host="a.example")
        text = unescape(asked.content.decode())
        assert not asked.redirect_chain
        assert "5 callbacks will be called again, with the same ids." in text
        assert "Yes, I’m sure" in text
        assert 'name="select_across" value="1"' in text
        assert not Callback.objects.filter(state="pending", resent_on__isnull=False).exists()
        done = across(admin_client, "send_again", host="a.example", confirmed=True)
        assert told(done) == ["5 callbacks are sent again."]
        again = Callback.objects.filter(state="pending", resent_on__isnull=False)
        assert set(again) == set(rows)
        assert Callback.objects.filter(state="dead").count() == 2

    def test_all_of_a_partner_since_a_moment(self, admin_client, few):
        since = datetime(2026, 11, 20, tzinfo=UTC)
        mine = make_partner()
        fields = {"partner": mine, "state": "delivered"}
        later = [make_callback(**fields, created_on=since) for _ in range(3)]
        make_callback(**fields, created_on=since - timedelta(seconds=1))
        make_callback(state="delivered", created_on=since)
        query = {"partner": mine.uid, "since": "2026-11-20T00:00+00:00", "confirmed": True}
        assert told(across(admin_client, "send_again", **query)) == ["3 callbacks are sent again."]
        assert set(Callback.objects.filter(state="pending")) == set(later)

    def test_a_second_confirmation_sends_nothing_again(self, admin_client, rows):
        across(admin_client, "send_again", host="a.example", confirmed=True)
        Callback.objects.filter(host="a.example").update(state="dead", due=None)
        done = across(admin_client, "send_again", host="a.example", confirmed=True)
        assert told(done) in ([], ["1 callback is sent again."])
        assert set(Callback.objects.filter(state="pending")) & set(rows) == set()

    def test_what_is_confirmed_is_what_the_filter_shows(self, admin_client, rows):
        # The form of the page that asks goes to the same address, filter and all.
        asked = across(admin_client, "send_again", host="a.example")
        assert asked.request["QUERY_STRING"] == "host=a.example"
        assert "<form method=" in asked.content.decode()
        assert 'action="' not in re.findall(r"<form[^>]*>", asked.content.decode())[-1]

    def test_so_many_are_for_the_command(self, admin_client, rows, monkeypatch):
        monkeypatch.setattr(callbacks_admin, "MOST", 4)
        for confirmed in (False, True):
            response = across(admin_client, "send_again", host="a.example", confirmed=confirmed)
            assert told(response) == [
                "These are more than 4. Please use manage.py resend_callbacks."
            ]
        assert not Callback.objects.exclude(resent_on=None).filter(state="pending").exists()

    def test_who_may_only_look_cannot(self, client, rows):
        viewer = staff(client, "view_callback")
        across(viewer, "send_again", host="a.example", confirmed=True)
        assert not Callback.objects.filter(state="pending", resent_on__isnull=False).exists()

    def test_few_are_sent_without_a_question(self, admin_client, few):
        rows = [make_callback(state="dead") for _ in range(3)]
        response = act(admin_client, "callback", "send_again", *rows)
        assert told(response) == ["3 callbacks are sent again."]
        assert LogEntry.objects.filter(change_message="Sent again.").count() == 3

    @pytest.mark.parametrize("action", ["cancel"])
    def test_the_rest_is_done_to_a_page_at_most(self, admin_client, monkeypatch, action):
        monkeypatch.setattr("affiliations.admin.acting.AT_ONCE", 3)
        for _ in range(5):
            make_callback()
        response = across(admin_client, action)
        assert told(response) == ["Please select at most 3 at a time."]
        assert Callback.objects.filter(state="pending").count() == 5
