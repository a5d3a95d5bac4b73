"""The admin: what staff see of partners, conversions, callbacks and keys, and what they may do."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.core.checks import run_checks
from django.urls import reverse
from django.utils import timezone

from affiliations import decisions, outbox, signing
from affiliations.models import (
    ApiKey,
    Callback,
    CallbackAttempt,
    Conversion,
    Partner,
    Reversal,
    Share,
    Subscription,
    Visitor,
)
from affiliations.money import Money
from affiliations.services import record_conversion, reverse_conversion
from affiliations.testing import freeze
from tests.core.factories import make_partner, make_user, make_visitor

pytestmark = pytest.mark.django_db
HOSTILE = "<script>alert(1)</script>"
CALLED = "https://partner.example/?v={visitor_id}"


def address(name, *args):
    return reverse(f"admin:affiliations_{name}", args=args)


def page(client, name, *args, **query):
    response = client.get(address(name, *args), query)
    assert response.status_code == 200, (name, args, query)
    return response.content.decode()


def act(client, model, action, *rows, **more):
    data = {"action": action, "_selected_action": [row.pk for row in rows], "index": 0, **more}
    return client.post(address(f"{model}_changelist"), data, follow=True)


def told(response):
    """Return what the messages of the page that followed say."""
    return [str(message) for message in response.context["messages"]]


def shown_once(response):
    """Return the secret that a page shows, seeing that nobody keeps the page."""
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    [secret] = re.findall(r'aff-secret"[^>]*>([^<]+)</code>', response.content.decode())
    return unescape(secret)


def make_conversion(*partners, **options):
    """Return a conversion credited to a new visitor of each partner, in equal shares."""
    visitors = [make_visitor(partner) for partner in partners or [make_partner()]]
    for visitor in visitors:
        Subscription.objects.get_or_create(
            partner=visitor.partner, trigger="Order placed", defaults={"callback_url": CALLED}
        )
    options = {"reference": f"A-{visitors[0].pk}", **options}
    known = {visitor.pk: "session" for visitor in visitors}
    return record_conversion(trigger="Order placed", known=known, **options)


@pytest.fixture
def viewer(client):
    """A client of somebody who may look at everything, and change nothing."""
    user = make_user("viewer")
    user.is_staff = True
    user.save()
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(user)
    return client


class TestPartners:
    def form(self, partner=None, *subscriptions, **changed):
        """Return what the browser sends for a partner, with its subscriptions as they are."""
        existing = list(partner.subscriptions.order_by("pk")) if partner else []
        rows = [(row.pk, row.trigger, row.callback_url) for row in existing] + [
            ("", *each) for each in subscriptions
        ]
        data = {
            "name": partner.name if partner else "Anna",
            "active": "on",
            "subscriptions-TOTAL_FORMS": len(rows),
            "subscriptions-INITIAL_FORMS": len(existing),
        }
        for index, (pk, trigger, url) in enumerate(rows):
            prefix = f"subscriptions-{index}"
            data |= {f"{prefix}-id": pk, f"{prefix}-partner": partner.pk if partner else ""}
            data |= {f"{prefix}-trigger": trigger, f"{prefix}-callback_url": url}
            data |= {f"{prefix}-method": "GET", f"{prefix}-expects": ""}
        return data | changed

    def save(self, client, data, partner=None):
        args = ("partner_change", partner.pk) if partner else ("partner_add",)
        return client.post(address(*args), data)

    def test_one_is_added_with_its_subscriptions(self, admin_client):
        subscriptions = [("Order placed", CALLED), ("User registered", "")]
        assert self.save(admin_client, self.form(None, *subscriptions)).status_code == 302
        partner = Partner.objects.get()
        assert len(partner.uid) == 8
        assert dict(partner.subscriptions.values_list("trigger", "callback_url")) == dict(
            subscriptions
        )

    @pytest.mark.parametrize("count", [3, 30])
    def test_the_list_takes_the_same_queries_however_long(
        self, admin_client, django_assert_num_queries, count
    ):
        for _ in range(count):
            make_visitor(successful_on=timezone.now())
        # Session and user; the number of partners, twice; the partners; their last days.
        with django_assert_num_queries(6):
            text = page(admin_client, "partner_changelist")
        assert text.count("aff-spark") == count

    def test_the_list_shows_the_figures(self, admin_client):
        partner = make_partner(name="Anna")
        for _ in range(3):
            make_visitor(partner)
        make_visitor(partner, successful_on=timezone.now())
        make_partner(name="Bert")
        text = page(admin_client, "partner_changelist")
        rows = text.partition("<tbody>")[2].partition("</tbody>")[0]
        anna, bert = rows.split("<tr>")[1:]
        assert ">http://testserver/?affiliate_id=" + partner.uid + "</code>" in anna
        assert f'?partner={partner.uid}">4</a>' in anna
        assert "25.0\xa0%" in anna
        assert "4 visitors in the last 30 days, 4 of them today" in anna
        assert ">–<" in bert
        assert "No visitors in the last 30 days" in bert

    @pytest.mark.parametrize("column", ["4", "5", "6", "-6"])
    def test_the_list_is_sorted_by_its_figures(self, admin_client, column):
        make_partner(name="None")
        for name, won in (("All", 1), ("Half", 0), ("Half", 1)):
            partner, _ = Partner.objects.get_or_create(name=name)
            make_visitor(partner, successful_on=timezone.now() if won else None)
        text = page(admin_client, "partner_changelist", o=column)
        names = re.findall(r'field-name"><a[^>]*>(\w+)<', text)
        first = {"4": "Half", "6": "All", "-6": "Half"}.get(column)
        assert len(names) == 3
        assert first is None or first == next(name for name in names if name != "None")

    def test_its_own_page_has_link_figures_and_chart(self, admin_client):
        partner = make_partner(name="Anna", subscriptions={"Order placed": ""})
        make_visitor(partner)
        conversion = make_conversion(partner)
        taken_back = make_conversion(partner)
        reverse_conversion(taken_back)
        text = page(admin_client, "partner_change", partner.pk)
        assert f">http://testserver/?affiliate_id={partner.uid}</code>" in text
        assert "Visitors 3, Conversions 1</title>" in text
        assert "<td>3</td><td>1</td>" in text
        assert address("partner_secret", partner.pk) in text
        assert conversion.reference not in text

    def test_a_day_is_one_of_the_sites_own(self, admin_client, settings):
        settings.TIME_ZONE = "Pacific/Auckland"
        with freeze(datetime(2026, 7, 1, 12, 30, tzinfo=UTC)) as clock:  # half past midnight there
            partner = make_partner()
            for hours_ago in (0, 1, 24 * 40):
                visitor = make_visitor(partner)
                came = clock.now - timedelta(hours=hours_ago)
                Visitor.objects.filter(pk=visitor.pk).update(referred_on=came)
            text = page(admin_client, "partner_change", partner.pk)
        rows = re.findall(r'scope="row">.*?</th><td>(\d+)</td>', text)
        assert rows[:3] == ["1", "1", "0"]
        assert sum(map(int, rows)) == 2

    def test_a_trigger_is_one_of_the_settings(self, admin_client):
        response = self.save(admin_client, self.form(None, ("Invented", "")))
        assert "Invented is not one of the available choices" in response.content.decode()
        assert not Partner.objects.exists()

    def test_a_trigger_may_be_one_that_an_app_names(self, admin_client, monkeypatch):
        shop = apps.get_app_config("shop")
        monkeypatch.setattr(shop, "triggers", ("Tea drunk", "Order placed"), raising=False)
        text = page(admin_client, "partner_add")
        select = text.partition('name="subscriptions-0-trigger"')[2].partition("</select>")[0]
        assert select.count('value="Tea drunk"') == select.count('value="Order placed"') == 1
        assert self.save(admin_client, self.form(None, ("Tea drunk", CALLED))).status_code == 302
        assert Subscription.objects.get().trigger == "Tea drunk"
        assert run_checks(databases=["default"]) == []
        monkeypatch.undo()
        assert [each.id for each in run_checks(databases=["default"])] == ["affiliations.W040"]

    def test_a_trigger_that_is_gone_is_readable_and_stays(self, admin_client):
        partner = make_partner({"Newsletter": "", "Order placed": ""})
        text = page(admin_client, "partner_change", partner.pk)
        gone = "Newsletter (no longer in the settings)"
        assert text.count(f'<option value="Newsletter" selected>{gone}</option>') == 1
        assert text.count(gone) == 1
        data = self.form(partner, **{"subscriptions-0-callback_url": CALLED})
        assert self.save(admin_client, data, partner).status_code == 302
        assert Subscription.objects.get(trigger="Newsletter").callback_url == CALLED

    @pytest.mark.parametrize(
        ("url", "complaint"),
        [
            ("https://partner.example/", "must contain {visitor_id}"),
            ("javascript:alert({visitor_id})", "must start with http"),
            ("https://{visitor_id}.example/", "only after the host"),
            ("https://partner.example/?{visitor_id.__class__}", "not a placeholder"),
        ],
    )
    def test_what_is_wrong_with_a_callback_url_stands_at_its_field(
        self, admin_client, url, complaint
    ):
        response = self.save(admin_client, self.form(None, ("Order placed", url)))
        form = response.context["inline_admin_formsets"][0].formset.forms[0]
        assert complaint in unescape(str(form.errors["callback_url"]))
        assert 'id="id_subscriptions-0-callback_url_error"' in response.content.decode()

    def test_the_same_trigger_twice_is_an_error_not_a_crash(self, admin_client):
        twice = [("Order placed", ""), ("Order placed", CALLED)]
        response = self.save(admin_client, self.form(None, *twice))
        assert response.status_code == 200
        assert response.context["errors"]

    def test_a_url_of_the_predecessors_does_not_keep_staff_from_saving(self, admin_client):
        partner = make_partner({"Order placed": ""})
        partner.subscriptions.update(callback_url="http://old.example/")
        data = self.form(partner, name="Renamed")
        assert self.save(admin_client, data, partner).status_code == 302
        assert Partner.objects.get().name == "Renamed"
        data["subscriptions-0-trigger"] = "User registered"
        response = self.save(admin_client, data, partner)
        assert "must contain {visitor_id}" in unescape(response.content.decode())

    def test_the_uid_cannot_be_changed(self, admin_client):
        partner = make_partner()
        self.save(admin_client, self.form(partner, uid="12345678"), partner)
        assert Partner.objects.get().uid == partner.uid

    def test_people_are_searched_not_listed(self, admin_client):
        make_user("one of a million")
        assert "one of a million" not in page(admin_client, "partner_add")
        assert "admin-autocomplete" in page(admin_client, "partner_add")

    def test_they_are_switched_on_and_off(self, admin_client):
        on, off = make_partner(), make_partner(active=False)
        assert told(act(admin_client, "partner", "deactivate", on, off)) == [
            "1 partner is not active any more."
        ]
        assert not Partner.objects.active().exists()
        assert told(act(admin_client, "partner", "activate", on, off)) == [
            "2 partners are now active."
        ]
        assert Partner.objects.active().count() == 2
        entries = LogEntry.objects.order_by("pk").values_list("object_id", "change_message")
        assert list(entries) == [
            (str(on.pk), "Deactivated."),
            *((str(each.pk), "Activated.") for each in (on, off)),
        ]

    def test_only_one_of_whom_nothing_is_recorded_is_deleted(self, admin_client):
        fresh, known = make_partner({"Order placed": ""}), make_visitor().partner
        assert admin_client.get(address("partner_delete", known.pk)).status_code == 403
        assert admin_client.post(address("partner_delete", fresh.pk), {"post": "yes"})
        assert Partner.objects.get() == known
        assert "delete_selected" not in page(admin_client, "partner_changelist")


class TestSecrets:
    def issue(self, client, partner):
        text = page(client, "partner_secret", partner.pk)
        [issued] = re.findall(r'name="issued" value="([^"]*)"', text)
        return client.post(address("partner_secret", partner.pk), {"issued": issued})

    def test_a_secret_is_shown_once_and_the_one_before_stays(self, admin_client):
        partner = make_partner()
        [before] = partner.signing_secrets()
        secret = shown_once(self.issue(admin_client, partner))
        partner.refresh_from_db()
        assert partner.signing_secrets() == [signing.decode_secret(secret), before]
        assert LogEntry.objects.get().change_message == "Issued a new signing secret."
        for name in ("partner_change", "partner_secret", "partner_history"):
            assert secret not in unescape(page(admin_client, name, partner.pk))

    def test_asking_changes_nothing(self, admin_client):
        partner = make_partner()
        text = page(admin_client, "partner_secret", partner.pk)
        assert "24 hours" in text
        assert Partner.objects.get().secret_salt == partner.secret_salt

    def test_a_second_click_does_not_end_the_secret_in_use(self, admin_client):
        partner = make_partner()
        [in_use] = partner.signing_secrets()
        for _ in range(2):
            response = admin_client.post(address("partner_secret", partner.pk), {"issued": ""})
        assert "aff-secret" not in response.content.decode()
        assert "Nothing was changed now" in response.content.decode()
        assert in_use in Partner.objects.get().signing_secrets()

    def test_a_second_secret_within_a_day_comes_with_a_warning(self, admin_client):
        partner = make_partner()
        assert "ends at once" not in page(admin_client, "partner_secret", partner.pk)
        first = shown_once(self.issue(admin_client, partner))
        assert "ends at once" in page(admin_client, "partner_secret", partner.pk)
        assert shown_once(self.issue(admin_client, partner)) != first

    def test_the_list_issues_for_one(self, admin_client):
        one, other = make_partner(), make_partner()
        response = act(admin_client, "partner", "issue_secret", one)
        assert response.redirect_chain[-1][0] == address("partner_secret", one.pk)
        assert "one partner" in told(act(admin_client, "partner", "issue_secret", one, other))[0]

    def test_who_may_not_change_a_partner_gets_none(self, viewer, client):
        partner = make_partner()
        assert viewer.get(address("partner_secret", partner.pk)).status_code == 403
        data = {"issued": ""}
        assert viewer.post(address("partner_secret", partner.pk), data).status_code == 403
        client.logout()
        assert client.post(address("partner_secret", partner.pk), data).status_code == 302
        assert Partner.objects.get().secret_salt == partner.secret_salt

    def test_there_is_none_for_nobody(self, admin_client):
        assert admin_client.get(address("partner_secret", 4711)).status_code == 404
        assert admin_client.get(address("partner_secret", "x/y")).status_code == 404


class TestConversions:
    def test_the_list_takes_the_same_queries_however_long(
        self, admin_client, django_assert_num_queries
    ):
        make_conversion(make_partner())
        page(admin_client, "conversion_changelist")
        for _ in range(20):
            make_conversion(make_partner(), user=make_user())
        # Session and user; how many; these; shares, visitors, partners, users; triggers to choose
        # from; the first and the last date.
        with django_assert_num_queries(11):
            page(admin_client, "conversion_changelist")

    def test_the_list_shows_what_it_was_worth_and_to_whom(self, admin_client, settings):
        settings.AFFILIATE_ATTRIBUTION = lambda all_: [(each, 0.5) for each in all_]
        partners = [make_partner(name=name) for name in ("Anna", "Bert")]
        make_conversion(*partners, money=Money(1250, "EUR"), reference="A-17")
        text = page(admin_client, "conversion_changelist")
        assert "12.50\N{NO-BREAK SPACE}EUR" in text
        assert ">Anna</a>, <a" in text
        text = page(admin_client, "conversion_change", Conversion.objects.get().pk)
        assert text.count("50\xa0%") == 2
        assert "credited with 50.00%" in text

    def test_its_own_page_tells_who_was_told(self, admin_client):
        conversion = make_conversion(make_partner(name="Anna"))
        [callback] = conversion.callbacks.all()
        outbox.cancel(callback, reason="a mistake")
        text = page(admin_client, "conversion_change", conversion.pk)
        assert address("callback_change", callback.pk) in text
        assert "aff-canceled" in text

    def test_it_says_why(self, admin_client):
        conversion = make_conversion(make_partner())
        text = unescape(page(admin_client, "conversion_change", conversion.pk))
        for line in decisions.explain(conversion.decision).splitlines():
            assert line in text

    def test_it_is_filtered_and_searched(self, admin_client):
        wanted = make_conversion(make_partner(name="Anna"), reference="A-17")
        other = make_conversion(make_partner(name="Bert"), reference="a-18")
        reverse_conversion(other)
        uid = wanted.visitor.partner.uid
        finds = [
            {"q": "A-17"},
            {"q": uid},
            {"partner": uid},
            {"partner": "nna"},
            {"reversed": "no"},
        ]
        for query in finds:
            text = page(admin_client, "conversion_changelist", **query)
            assert address("conversion_change", wanted.pk) in text, query
            assert address("conversion_change", other.pk) not in text, query
        for query in ({"trigger": "User registered"}, {"q": "A-1"}, {"partner": "Carl"}):
            text = page(admin_client, "conversion_changelist", **query)
            assert address("conversion_change", wanted.pk) not in text, query

    def test_it_is_taken_back_when_it_is_confirmed(self, admin_client):
        first, second = make_conversion(), make_conversion()
        reverse_conversion(second)
        asked = act(admin_client, "conversion", "take_back", first, second)
        assert "Yes, I’m sure" in asked.content.decode()
        assert not asked.redirect_chain
        assert Conversion.objects.standing().get() == first
        done = act(admin_client, "conversion", "take_back", first, second, confirmed="yes")
        assert told(done) == ["1 conversion was taken back.", "1 had been before."]
        assert not Conversion.objects.standing().exists()
        [entry] = LogEntry.objects.all()
        assert (entry.object_id, entry.change_message) == (str(first.pk), "Taken back.")

    def test_a_part_is_taken_back(self, admin_client):
        conversion = make_conversion(money=Money(1250, "EUR"))
        asked = act(admin_client, "conversion", "take_part_back", conversion)
        assert "At most 12.50 EUR" in asked.content.decode()

        def given(amount, reference="R-1"):
            more = {"confirmed": "yes", "amount": amount, "reference": reference}
            return act(admin_client, "conversion", "take_part_back", conversion, **more)

        for amount, problem in {
            "": "required",
            "12.51": "at most 12.50 EUR",
            "-1": "above zero",
            "1,5": "is not a number such as 12.50",
            "0.001": "EUR has 2 decimal places",
            "9" * 40: "is too large",
        }.items():
            refused = unescape(given(amount).content.decode())
            assert problem in refused, amount
            assert not Reversal.objects.exists()
        assert told(given("2.50")) == ["2.50 EUR of the conversion was taken back."]
        assert told(given("2.50")) == ["This reference had been taken back before."]
        assert "took 2.50 EUR back before" in unescape(given("2.40").content.decode())
        conversion.refresh_from_db()
        assert conversion.standing == Money(1000, "EUR")
        [entry] = LogEntry.objects.all()
        assert entry.change_message == "2.50 EUR taken back."
        assert "2.50\N{NO-BREAK SPACE}EUR of it" in page(admin_client, "conversion_changelist")
        assert "R-1" in page(admin_client, "conversion_change", conversion.pk)

    def test_parts_are_taken_of_one_with_an_amount(self, admin_client):
        rows = [make_conversion(money=Money(1250, "EUR")), make_conversion()]
        for chosen in (rows, rows[1:]):
            done = act(admin_client, "conversion", "take_part_back", *chosen)
            assert told(done) == ["Please select one conversion of which there is an amount left."]
        text = page(admin_client, "conversion_change", rows[1].pk)
        assert "Take back" in text
        assert "Take a part back" not in text

    def test_too_many_at_once_are_refused(self, admin_client, monkeypatch):
        monkeypatch.setattr("affiliations.admin.acting.AT_ONCE", 1)
        rows = [make_conversion(), make_conversion()]
        response = act(admin_client, "conversion", "take_back", *rows, confirmed="yes")
        assert told(response) == ["Please select at most 1 at a time."]
        assert Conversion.objects.standing().count() == 2

    def test_an_amount_of_other_software_is_shown_as_it_is(self, admin_client):
        conversion = make_conversion(money=Money(5, "EUR"))
        Conversion.objects.update(currency="ABC")
        for args in (("conversion_changelist",), ("conversion_change", conversion.pk)):
            assert "5 ABC (in minor units)" in page(admin_client, *args)


class TestCallbacks:
    def test_the_list_takes_the_same_queries_however_long(
        self, admin_client, django_assert_num_queries
    ):
        make_conversion(make_partner())
        page(admin_client, "callback_changelist")
        for _ in range(20):
            make_conversion(make_partner())
        # Session and user; how many; these; partners, conversions; the last days.
        with django_assert_num_queries(7):
            page(admin_client, "callback_changelist")

    def test_it_tells_what_became_of_it(self, admin_client):
        make_conversion(reference="A-17")
        callback = Callback.objects.get()
        in_a_while = timezone.now() + timedelta(minutes=25, seconds=30)
        Callback.objects.update(reason=HOSTILE, attempts=1, due=in_a_while)
        CallbackAttempt.objects.create(
            callback=callback,
            number=1,
            started_on=timezone.now(),
            duration_ms=1234,
            status=503,
            error=HOSTILE,
        )
        text = page(admin_client, "callback_changelist")
        assert '<span class="aff-badge aff-pending">waiting</span>' in text
        assert "in 25\xa0minutes" in text
        assert "Order placed (A-17)" in text
        text = page(admin_client, "callback_change", callback.pk)
        assert "1234 ms" in text
        assert "503" in text
        assert f"GET {callback.url}" in text
        assert f'href="{callback.url}' not in text

    def test_it_is_filtered_and_searched(self, admin_client):
        make_conversion(make_partner(name="Anna"))
        make_conversion(make_partner(name="Bert"))
        wanted, other = Callback.objects.order_by("pk")
        outbox.cancel(other, reason="")
        finds = [
            {"q": wanted.webhook_id},
            {"q": wanted.partner.uid},
            {"partner": wanted.partner.uid},
            {"state__exact": "pending"},
        ]
        for query in finds:
            text = page(admin_client, "callback_changelist", **query)
            assert address("callback_change", wanted.pk) in text, query
            assert address("callback_change", other.pk) not in text, query

    def test_it_is_canceled_once_and_sent_again(self, admin_client):
        make_conversion()
        callback = Callback.objects.get()
        assert told(act(admin_client, "callback", "cancel", callback)) == [
            "1 callback was canceled."
        ]
        assert Callback.objects.get().reason == "Canceled by admin."
        [late] = told(act(admin_client, "callback", "cancel", callback))
        assert "does not wait any more" in late
        assert told(act(admin_client, "callback", "send_again", callback)) == [
            "1 callback is sent again."
        ]
        assert Callback.objects.get().state == Callback.State.PENDING
        messages = LogEntry.objects.order_by("pk").values_list("change_message", flat=True)
        assert list(messages) == ["Canceled.", "Sent again."]

    def test_its_own_page_has_the_buttons_that_apply(self, admin_client):
        make_conversion()
        callback = Callback.objects.get()
        text = page(admin_client, "callback_change", callback.pk)
        assert 'value="cancel"' in text
        assert 'value="send_again"' in text
        outbox.cancel(callback, reason="")
        assert 'value="cancel"' not in page(admin_client, "callback_change", callback.pk)


class TestKeys:
    def issue(self, client, **fields):
        data = {"name": "shop", "partner": "", "scopes": "", **fields}
        return client.post(address("apikey_add"), data)

    @pytest.mark.parametrize("scopes", ["links:read links:write", "links:read,, links:write ,"])
    def test_the_token_is_shown_once(self, admin_client, scopes):
        token = shown_once(self.issue(admin_client, scopes=scopes))
        key = ApiKey.objects.authenticate(token, scope="links:write")
        assert key.scopes == ["links:read", "links:write"]
        assert LogEntry.objects.get().object_repr == str(key)
        for args in (
            ("apikey_changelist",),
            ("apikey_change", key.pk),
            ("apikey_history", key.pk),
        ):
            text = page(admin_client, *args)
            assert token not in text
            assert key.digest not in text
            assert key.prefix in text

    def test_it_may_be_a_partners_own(self, admin_client):
        partner = make_partner()
        shown_once(self.issue(admin_client, partner=partner.pk))
        assert ApiKey.objects.get().partner == partner

    def test_a_scope_is_a_word(self, admin_client):
        response = self.issue(admin_client, scopes="links:read <b>")
        assert "“<b>” is not a scope" in unescape(response.content.decode())
        assert "<b>" not in response.content.decode()
        assert not ApiKey.objects.exists()

    def test_the_scopes_that_apps_ask_for_are_listed_and_others_are_let_in(
        self, admin_client, monkeypatch
    ):
        scopes = {"tea:drink": "drink <i>tea</i>"}
        monkeypatch.setattr(apps.get_app_config("shop"), "api_scopes", scopes, raising=False)
        text = page(admin_client, "apikey_add")
        assert "<li><code>tea:drink</code>: drink &lt;i&gt;tea&lt;/i&gt;</li>" in text
        token = shown_once(self.issue(admin_client, scopes="tea:drink my.own"))
        assert ApiKey.objects.authenticate(token, scope="my.own")

    def test_it_is_revoked_for_good(self, admin_client):
        key, _ = ApiKey.objects.issue(name="shop", scopes=[])
        act(admin_client, "apikey", "revoke", key)
        assert ApiKey.objects.get().revoked_on is None
        done = act(admin_client, "apikey", "revoke", key, confirmed="yes")
        assert told(done) == ["1 key was revoked."]
        assert ApiKey.objects.get().revoked_on is not None
        assert 'value="revoke"' not in page(admin_client, "apikey_change", key.pk)

    def test_nothing_of_it_can_be_edited(self, admin_client):
        key, token = ApiKey.objects.issue(name="shop", scopes=["read"])
        data = {"name": "other", "scopes": "all", "digest": "0" * 64}
        assert admin_client.post(address("apikey_change", key.pk), data).status_code == 403
        assert ApiKey.objects.authenticate(token, scope="read").name == "shop"
        assert admin_client.post(address("apikey_delete", key.pk)).status_code == 403


class TestPermissions:
    def test_records_can_be_neither_added_changed_nor_deleted(self, admin_client):
        conversion = make_conversion()
        for model, row in (
            ("visitor", conversion.visitor),
            ("conversion", conversion),
            ("callback", Callback.objects.get()),
        ):
            assert admin_client.post(address(f"{model}_add"), {}).status_code == 403
            for name in ("change", "delete"):
                response = admin_client.post(address(f"{model}_{name}", row.pk), {"post": "yes"})
                assert response.status_code == 403, (model, name)
            assert act(admin_client, model, "delete_selected", row, post="yes")
        assert Visitor.objects.count() == Conversion.objects.count() == 1
        assert Callback.objects.count() == Share.objects.count() == 1

    def test_who_may_only_look_can_do_nothing(self, viewer):
        conversion = make_conversion()
        callback = Callback.objects.get()
        partner = conversion.visitor.partner
        key, _ = ApiKey.objects.issue(name="shop", scopes=[])
        for model, row, actions in (
            ("partner", partner, ("deactivate", "issue_secret")),
            ("conversion", conversion, ("take_back",)),
            ("callback", callback, ("cancel", "send_again")),
            ("apikey", key, ("revoke",)),
        ):
            assert page(viewer, f"{model}_changelist")
            text = page(viewer, f"{model}_change", row.pk)
            assert "aff-tool" not in text
            assert "partner_secret" not in text
            for action in actions:
                act(viewer, model, action, row, confirmed="yes")
        assert Partner.objects.active().exists()
        assert Conversion.objects.standing().exists()
        assert Callback.objects.get().state == Callback.State.PENDING
        assert ApiKey.objects.get().revoked_on is None
        assert viewer.get(address("apikey_add")).status_code == 403
        assert not LogEntry.objects.exists()

    def test_who_may_not_look_sees_nothing(self, viewer):
        viewer.session.flush()
        nobody = make_user("nobody")
        nobody.is_staff = True
        nobody.save()
        viewer.force_login(nobody)
        for model in ("partner", "visitor", "conversion", "callback", "apikey"):
            assert viewer.get(address(f"{model}_changelist")).status_code == 403
        assert viewer.get(address("visitor_export")).status_code == 403


@pytest.mark.parametrize(
    "text",
    [
        HOSTILE,
        "javascript:alert(1)",
        "\"'><img src=x onerror=alert(1)>",
        "{{ 7|add:7 }}{% now %}",
        "x" * 2000,
        "\u202eabc\u0000".replace("\0", ""),
    ],
)
def test_every_page_bears_hostile_data(admin_client, text):
    user = make_user(text[:150])
    partner = make_partner({"Order placed": CALLED, text[:100]: ""}, name=text[:250])
    visitor = make_visitor(
        partner,
        user=user,
        entry_point=text,
        click_id=text[:200],
        sub_ids={"sub1": text},
        referrer_host=text[:253],
    )
    conversion = record_conversion(
        trigger="Order placed", reference=text, user=user, known={visitor.pk: "session"}
    )
    Callback.objects.update(url=text, body=text, reason=text[:500])
    callback = Callback.objects.get()
    CallbackAttempt.objects.create(
        callback=callback, number=1, started_on=timezone.now(), duration_ms=1, error=text[:500]
    )
    key, _ = ApiKey.objects.issue(name=text[:100], scopes=[text], partner=partner)
    pages = [
        page(admin_client, "partner_secret", partner.pk),
        page(admin_client, "visitor_changelist", q=text, partner=text),
        act(admin_client, "conversion", "take_back", conversion).content.decode(),
        act(admin_client, "apikey", "revoke", key).content.decode(),
    ]
    for model, row in (
        ("partner", partner),
        ("visitor", visitor),
        ("conversion", conversion),
        ("callback", callback),
        ("apikey", key),
    ):
        pages.append(page(admin_client, f"{model}_changelist"))
        pages.append(page(admin_client, f"{model}_change", row.pk))
        pages.append(page(admin_client, f"{model}_history", row.pk))
    for each in pages:
        assert HOSTILE not in each
        assert "<img src=x" not in each
        assert not re.search(r'(href|src|action)="\s*javascript:', each)
