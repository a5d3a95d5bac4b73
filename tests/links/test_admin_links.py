"""The admin of links: generating, copying, trying out, importing, and who may do what."""

import csv
import re
from datetime import timedelta
from html import unescape
from io import StringIO

import pytest
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from affiliations.links import importing, qr, services
from affiliations.links.admin import figures, forms
from affiliations.links.models import LandingPage, Link, Transaction
from affiliations.models import Partner
from tests.core.factories import make_partner, make_user
from tests.links.factories import click, make_link, make_transaction
from tests.projects.urls import urlpatterns as all_of_them

pytestmark = pytest.mark.django_db
HOSTILE = "<script>alert(1)</script>"
CALLED = "https://net.example/aff_lsr?transaction_id={transaction_id}&amount={amount}"


class WithoutRouter:
    """The site's addresses without those of the router."""

    urlpatterns = [each for each in all_of_them if str(each.pattern) != "router/"]


def address(name, *args):
    return reverse(f"admin:affiliations_links_{name}", args=args)


def page(client, name, *args, **query):
    response = client.get(address(name, *args), query)
    assert response.status_code == 200, (name, args, query)
    return response.content.decode()


def act(client, action, *rows, **more):
    data = {"action": action, "_selected_action": [row.pk for row in rows], "index": 0, **more}
    return client.post(address("link_changelist"), data, follow=True)


def told(response):
    return [str(message) for message in response.context["messages"]]


def listed(client, **query):
    """Return the paths that the list shows."""
    found = re.findall(r"/link/\d+/change/\">([^<]+)<", page(client, "link_changelist", **query))
    return sorted(found)


def form(**fields):
    """Return what the browser sends for a link."""
    return {
        "landing_page": "https://shop.example/course",
        "item_id": "course-7",
        "partner": "",
        "callback_url": "",
        "floor_price": "",
        "currency": "EUR",
        "active": "on",
        "path": "",
        "valid_from": "",
        "valid_until": "",
        "adds": "",
        "passes": "*",
        "expects": "success=true",
        "weight": "1",
        "alternatives-TOTAL_FORMS": "0",
        "alternatives-INITIAL_FORMS": "0",
        **fields,
    }


def errors(response):
    assert response.status_code == 200
    return {name: [unescape(each) for each in said] for name, said in response_errors(response)}


def response_errors(response):
    return response.context["adminform"].form.errors.items()


def staff_with(client, *codenames):
    """Log somebody in who may do this and nothing else."""
    user = make_user("-".join(codenames) or "nobody")
    user.is_staff = True
    user.save()
    user.user_permissions.set(
        Permission.objects.filter(
            content_type__app_label="affiliations_links", codename__in=codenames
        )
    )
    client.force_login(user)
    return client


def sold(link, amount, currency="EUR", when=None, **fields):
    """Return a transaction of a link that was completed."""
    when = when or timezone.now()
    return make_transaction(
        link,
        state="completed",
        amount_minor=amount,
        currency=currency,
        created_on=when,
        completed_on=when,
        **fields,
    )


class TestGenerate:
    def add(self, client, **fields):
        return client.post(address("link_add"), form(**fields), follow=True)

    def test_a_landing_page_is_enough_and_the_address_is_ready(self, admin_client):
        response = self.add(admin_client)
        link = Link.objects.get()
        assert response.redirect_chain == [(address("link_change", link.pk), 302)]
        assert f">http://testserver/router/{link.path}</code>" in response.content.decode()
        assert told(response) == ["The link was generated. Its address is ready to be copied."]
        assert len(link.path) == 8
        assert (link.floor_minor, link.currency, link.partner) == (0, "EUR", None)
        assert LogEntry.objects.get().action_flag == ADDITION

    def test_everything_that_can_be_said(self, admin_client):
        partner = make_partner()
        self.add(
            admin_client,
            partner=partner.pk,
            callback_url=CALLED,
            floor_price="12.50",
            currency="KWD",
            path="Spring-26",
            valid_from="2026-03-01T10:00",
            valid_until="2026-06-01",
            adds="utm_source=anna",
            passes="",
            weight="3",
            **{
                "alternatives-TOTAL_FORMS": "1",
                "alternatives-0-url": "https://shop.example/other",
                "alternatives-0-weight": "2",
            },
        )
        link = Link.objects.get()
        assert (link.path, link.partner, link.callback_url) == ("Spring-26", partner, CALLED)
        assert (link.floor_minor, link.currency) == (12_500, "KWD")
        assert timezone.localtime(link.valid_from).hour == 10
        assert (link.adds, link.passes, link.weight) == ("utm_source=anna", "", 3)
        assert [(each.url, each.weight) for each in link.alternatives.all()] == [
            ("https://shop.example/other", 2)
        ]

    def test_the_currency_is_the_sites_own_unless_chosen(self, admin_client, settings):
        settings.AFFILIATE_LINKS_CURRENCY = "JPY"
        assert '<option value="JPY" selected>' in page(admin_client, "link_add")

    @pytest.mark.parametrize(
        ("field", "value", "words"),
        [
            ("landing_page", "", "required"),
            ("landing_page", "shop.example", "must start with http"),
            ("landing_page", "javascript:alert(1)", "must start with http"),
            ("landing_page", "https://shop.example/" + "x" * 2000, "at most 2000"),
            ("item_id", "", "required"),
            ("item_id", "a\u2028b", "control characters"),
            ("callback_url", "https://{transaction_id}.example/", "only after the host"),
            ("callback_url", "https://net.example/?{nothing}", "not a placeholder"),
            ("callback_url", "http://169.254.169.254/", "link-local"),
            ("floor_price", "12.345", "EUR has 2 decimal places, not more."),
            ("floor_price", "-1", "greater than or equal to 0"),
            ("floor_price", "1e400", "Is too large."),
            ("floor_price", "NaN", "Enter a number"),
            ("floor_price", "9" * 5000, "Is too large."),
            ("currency", "ABC", "not one of the available choices"),
            ("partner", "99", "not one of the available choices"),
            ("path", "a b", "3 to 64 letters"),
            ("path", "complete", "taken by the API"),
            ("path", "tAKEN", "There is, or was, a link"),
            ("valid_from", "yesterday", "Must be a date"),
            ("valid_from", "0001-01-01", "Must be a date"),
            ("valid_until", "99999-01-01", "Must be a date"),
            ("adds", "%", "Must be parameters"),
            ("passes", "a\0b", "Null characters"),
            ("weight", "0", "greater than or equal to 1"),
            ("weight", "x", "whole number"),
        ],
    )
    def test_what_is_wrong_stands_once_at_its_field(self, admin_client, field, value, words):
        make_link(path="Taken")
        response = self.add(admin_client, **{field: value})
        found = errors(response)
        assert list(found) == [field]
        assert len(found[field]) == 1
        assert words in found[field][0]
        assert Link.objects.count() == 1

    def test_the_end_comes_after_the_beginning(self, admin_client):
        dates = {"valid_from": "2026-03-02", "valid_until": "2026-03-01"}
        assert list(errors(self.add(admin_client, **dates))) == ["valid_until"]

    def test_an_error_opens_the_advanced_fields(self, admin_client):
        assert "<details>" in page(admin_client, "link_add")
        text = self.add(admin_client, path="a b").content.decode()
        assert "<details>" not in text

    def test_another_landing_page_is_looked_at_as_well(self, admin_client):
        more = {
            "alternatives-TOTAL_FORMS": "1",
            "alternatives-0-url": "ftp://x",
            "alternatives-0-weight": "1",
        }
        text = self.add(admin_client, **more).content.decode()
        assert "must start with http" in text
        assert not Link.objects.exists()

    def test_whoever_may_only_add_is_not_led_to_what_they_may_not_see(self, client):
        client = staff_with(client, "add_link")
        response = client.post(address("link_add"), form())
        assert response.status_code == 302
        assert response.url == reverse("admin:index")
        assert Link.objects.exists()


class TestChange:
    def test_the_path_stays_and_the_rest_may_change(self, admin_client, client):
        link = make_link(floor_minor=1250, currency="EUR")
        text = page(admin_client, "link_change", link.pk)
        assert 'value="12.50"' in text
        assert re.search(r'<input[^>]* name="path"[^>]* disabled', text)
        data = form(path="another", landing_page="https://shop.example/new", floor_price="2")
        assert admin_client.post(address("link_change", link.pk), data).status_code == 302
        again = Link.objects.get()
        assert (again.path, again.floor_minor) == (link.path, 200)
        assert click(client, link).url == "https://shop.example/new"
        assert LogEntry.objects.get().action_flag == CHANGE

    def test_a_callback_url_that_is_forbidden_by_now_does_not_stop_the_rest(
        self, admin_client, settings
    ):
        link = make_link(callback_url="http://127.0.0.1/called")
        settings.AFFILIATE_CALLBACK_ALLOW = []
        data = form(callback_url=link.callback_url, item_id="other")
        assert admin_client.post(address("link_change", link.pk), data).status_code == 302
        assert Link.objects.get().item_id == "other"

    def test_one_that_was_deleted_can_only_be_looked_at(self, admin_client):
        link = services.delete_link(make_link().path)
        text = page(admin_client, "link_change", link.pk)
        assert "aff-tool" not in text
        assert "Try it out" not in text
        assert "data-copy" not in text
        assert admin_client.post(address("link_change", link.pk), form()).status_code == 403


class TestList:
    @pytest.mark.parametrize("count", [1, 40])
    def test_it_takes_the_same_queries_however_long(
        self, admin_client, django_assert_num_queries, count
    ):
        for _ in range(count):
            sold(make_link(partner=make_partner()), 500)
        # Session and user; the number of links; the links and their partners; clicks; completed.
        with django_assert_num_queries(7):
            text = page(admin_client, "link_changelist")
        assert text.count("aff-spark") == count

    def test_it_shows_the_figures_of_the_last_days(self, admin_client):
        link = make_link()
        make_transaction(link)
        sold(link, 1250)
        sold(link, 100)
        sold(link, 300, "JPY")
        sold(link, 9900, when=timezone.now() - timedelta(days=31))
        refunded = sold(link, 5000)
        services.refund_transaction(refunded)
        text = page(admin_client, "link_changelist")
        assert "5 clicks, 3 completed" in text
        assert "13.50\N{NO-BREAK SPACE}EUR, 300\N{NO-BREAK SPACE}JPY" in text

    def test_amounts_may_be_as_large_as_they_can_be(self, admin_client):
        link = make_link()
        for _ in range(3):
            sold(link, 2**63 - 1)
        total = "276,701,161,105,643,274.21\N{NO-BREAK SPACE}EUR"
        assert total in page(admin_client, "link_changelist")
        assert total in page(admin_client, "link_change", link.pk)

    def test_what_can_be_copied_is_the_whole_address(self, admin_client):
        link = make_link()
        assert f">http://testserver/router/{link.path}</code>" in page(
            admin_client, "link_changelist"
        )

    def test_without_a_router_there_is_only_the_path(self, admin_client, settings):
        settings.ROOT_URLCONF = WithoutRouter
        link = make_link()
        assert f">{link.path}</code>" in page(admin_client, "link_changelist")
        text = page(admin_client, "link_change", link.pk)
        assert "Your site has no router yet" in text
        assert "Try it out" not in text

    def test_the_state_of_each(self, admin_client):
        now, hour = timezone.now(), timedelta(hours=1)
        for n, (fields, words) in enumerate(
            [
                ({}, "valid"),
                ({"active": False}, "switched off"),
                ({"valid_from": now + hour}, "not begun"),
                ({"valid_until": now - hour}, "ended"),
                ({"partner": make_partner(active=False)}, "partner not active"),
                ({"deleted_on": now}, "deleted"),
            ]
        ):
            link = make_link(path=f"path-{n}", **fields)
            text = page(admin_client, "link_changelist", deleted="all", q=link.path)
            assert re.findall(r'aff-badge aff-\w+">([^<]+)<', text) == [words]

    def test_it_is_filtered(self, admin_client):
        now, hour = timezone.now(), timedelta(hours=1)
        make_link(path="plain", partner=make_partner(name="Anna"))
        make_link(path="off", active=False)
        make_link(path="later", valid_from=now + hour)
        make_link(path="over", valid_until=now - hour)
        make_link(path="gone", deleted_on=now)
        assert listed(admin_client) == ["later", "off", "over", "plain"]
        assert listed(admin_client, deleted="yes") == ["gone"]
        assert listed(admin_client, deleted="all") == ["gone", "later", "off", "over", "plain"]
        assert listed(admin_client, deleted="nonsense") == ["later", "off", "over", "plain"]
        assert listed(admin_client, active__exact="0") == ["off"]
        assert listed(admin_client, valid="yes") == ["off", "plain"]
        assert listed(admin_client, valid="no") == ["later", "over"]
        assert listed(admin_client, partner="ann") == ["plain"]
        assert listed(admin_client, partner="a\0") == ["plain"]

    def test_it_is_searched_by_what_staff_have_at_hand(self, admin_client):
        make_link(path="One", item_id="course-1", landing_page="https://a.example/x")
        make_link(path="Two", item_id="course-2", landing_page="http://b.example/100%25_off")
        make_link(path="course-1", item_id="course-3", landing_page="https://a.example/y")
        assert listed(admin_client, q="One") == ["One"]
        assert listed(admin_client, q="course-1") == ["course-1"]
        assert listed(admin_client, q="course-2") == ["Two"]
        assert listed(admin_client, q="http://testserver/router/Two/token") == ["Two"]
        assert listed(admin_client, q="https://a.example/") == ["One", "course-1"]
        assert listed(admin_client, q="a.example/y") == ["course-1"]
        assert listed(admin_client, q="b.example/100%25_") == ["Two"]
        assert listed(admin_client, q="example") == []
        assert listed(admin_client, q=" ") == ["One", "Two", "course-1"]
        assert listed(admin_client, q="x" * 5000) == []

    def test_it_is_switched_and_logged(self, admin_client, client):
        links = [make_link(), make_link(active=False)]
        assert told(act(admin_client, "deactivate", *links)) == ["1 link is not active any more."]
        assert not Link.objects.filter(active=True).exists()
        assert told(act(admin_client, "activate", *links)) == ["2 links are now active."]
        messages = [entry.change_message for entry in LogEntry.objects.order_by("pk")]
        assert messages == ["Deactivated.", "Activated.", "Activated."]

    def test_it_is_exported_as_it_is_filtered_and_can_be_imported(self, admin_client):
        partner = make_partner()
        link = make_link(
            item_id="=1+1", path="One", partner=partner, floor_minor=1250, passes="", active=False
        )
        make_link(path="Two")
        response = admin_client.get(address("link_export"), {"q": "One"})
        assert response.streaming
        data = response.getvalue()
        [heading, row] = csv.reader(StringIO(data.decode("utf-8-sig")))
        assert heading == [*importing.COLUMNS, "address"]
        assert row[-1] == "http://testserver/router/One"
        assert row[0] == "'=1+1"
        Link.objects.all().delete()
        lines = importing.read(data)
        assert importing.check(lines)
        [again] = importing.make(lines)
        assert importing.cells(again) == importing.cells(link)

    @pytest.mark.parametrize("count", [1, 40])
    def test_the_export_takes_the_same_queries_however_long(
        self, admin_client, django_assert_num_queries, count
    ):
        for _ in range(count):
            make_link(partner=make_partner())
        # As the list; and then the links once more, with their partners.
        with django_assert_num_queries(9):
            admin_client.get(address("link_export")).getvalue()


class TestDelete:
    def test_it_is_asked_first_and_the_row_stays(self, admin_client, client):
        link = make_link()
        transaction = make_transaction(link)
        response = act(admin_client, "delete_links", link)
        text = unescape(response.content.decode())
        assert "Their transactions stay" in text
        assert "never given out again" in text
        assert Link.objects.kept().exists()
        response = act(admin_client, "delete_links", link, confirmed="yes")
        assert told(response) == ["1 link was deleted."]
        assert Link.objects.get().deleted_on
        assert Transaction.objects.get() == transaction
        assert click(client, link).status_code == 404
        assert LogEntry.objects.get().change_message == "Deleted."

    def test_django_does_not_end_the_row(self, admin_client):
        link = make_link()
        response = admin_client.post(address("link_delete", link.pk), {"post": "yes"})
        assert response.status_code == 403
        act(admin_client, "delete_selected", link, post="yes")
        assert Link.objects.kept().exists()
        assert "delete_selected" not in page(admin_client, "link_changelist")


class TestPanel:
    def panel(self, client, link, **query):
        text = page(client, "link_change", link.pk, **query)
        return unescape(text.partition('class="aff-panel-box')[2].partition("</section>")[0])

    def test_figures_of_each_day_and_of_all_time(self, admin_client):
        link = make_link()
        make_transaction(link)
        sold(link, 1250)
        sold(link, 9900, when=timezone.now() - timedelta(days=400))
        sold(link, 300, "JPY")
        text = self.panel(admin_client, link)
        rows = re.findall(r'<th scope="row">.*?</tr>', text)
        assert len(rows) == 30
        cells = re.findall(r"<td>(.*?)</td>", rows[0])
        assert cells == ["3", "2", "12.50\N{NO-BREAK SPACE}EUR", "300\N{NO-BREAK SPACE}JPY"]
        assert f'?link={link.path}">3</a>' in text
        assert "<dd>111.50\N{NO-BREAK SPACE}EUR, 300\N{NO-BREAK SPACE}JPY</dd>" in text
        assert "3 clicks and 2 completed in the last 30 days" in text

    def test_only_so_many_purchases_are_summed_up(self, admin_client, monkeypatch):
        monkeypatch.setattr(figures, "BOUND", 2)
        link = make_link()
        for n in range(3):
            sold(link, 100 * (n + 1), when=timezone.now() - timedelta(days=40 - n))
        text = self.panel(admin_client, link)
        assert ">2+</a>" in text
        assert "<dd>5.00\N{NO-BREAK SPACE}EUR</dd>" in text
        assert "these are the latest" in text

    @pytest.mark.parametrize("count", [1, 60])
    def test_it_takes_the_same_queries_however_much_came_of_it(
        self, admin_client, django_assert_num_queries, count
    ):
        link = make_link(partner=make_partner())
        for _ in range(count):
            sold(link, 100)
        with django_assert_num_queries(10):
            page(admin_client, "link_change", link.pk)

    def test_a_qr_code_is_shown_and_can_be_saved(self, admin_client):
        link = make_link()
        text = self.panel(admin_client, link)
        assert 'class="aff-qr"' in text
        assert "style=" not in text
        assert address("link_qr", link.pk) in text
        response = admin_client.get(address("link_qr", link.pk))
        assert response["Content-Type"] == "image/svg+xml"
        assert response["Content-Disposition"] == f'attachment; filename="{link.path}.svg"'
        assert response.content == qr.file(f"http://testserver/router/{link.path}")
        assert admin_client.get(address("link_qr", 99)).status_code == 404

    def test_where_the_extra_is_missing_a_line_says_so(self, admin_client, monkeypatch):
        monkeypatch.setattr(qr, "segno", None)
        link = make_link()
        text = self.panel(admin_client, link)
        assert "pip install 'django-affiliations[qr]'" in text
        assert "aff-qr" not in text
        assert admin_client.get(address("link_qr", link.pk)).status_code == 404

    def test_it_says_what_happens_to_whoever_tries_it_out(self, admin_client, settings):
        now, hour = timezone.now(), timedelta(hours=1)
        link = make_link(adds="utm_source=anna")

        def said(**fields):
            Link.objects.filter(pk=link.pk).update(**fields)
            return self.panel(admin_client, link)

        text = said()
        assert "Your click does not count: it does not come through the network." in text
        assert "You get to see https://shop.example/course?utm_source=anna." in text
        assert 'target="_blank" rel="noopener noreferrer"' in text
        LandingPage.objects.create(link=link, url="https://shop.example/other")
        assert "or one of its other landing pages" in said()
        settings.AFFILIATE_LINKS_GATE = "open"
        assert "Your click counts" in said()
        settings.AFFILIATE_LINKS_PURCHASED = lambda user, item_id: f"/mine/{item_id}/"
        text = said()
        assert "You have bought the item" in text
        assert "You get to see /mine/course-7/." in text
        settings.AFFILIATE_LINKS_PURCHASED = None
        assert "partner is not active" in said(partner=make_partner(active=False))
        assert "nobody’s does: the link is switched off" in said(active=False)
        settings.AFFILIATE_LINKS_INACTIVE = "gone"
        assert "not in use any more" in said()
        assert "It has not begun" in said(valid_from=now + hour)
        assert "It ended on" in said(valid_from=None, valid_until=now - hour)

    def test_what_it_says_is_what_happens(self, admin_client, settings):
        link = make_link()
        url = f"/router/{link.path}"
        assert admin_client.get(url).url == "https://shop.example/course"
        assert not Transaction.objects.exists()
        settings.AFFILIATE_LINKS_GATE = "open"
        browser = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0"}
        admin_client.get(url, headers=browser)
        assert Transaction.objects.get().user.username == "admin"

    @pytest.mark.parametrize(
        "text",
        [
            "/courses/painting?a=b",
            " /courses/painting?a=b ",
            "https://shop.example/courses/painting?a=b",
        ],
    )
    def test_a_deep_link_leads_to_another_page_of_the_host(self, admin_client, client, text):
        link = make_link()
        found = self.panel(admin_client, link, deep=text)
        [url] = re.findall(r">(http://testserver/router/\w+/[^<]+)</code>", found)
        response = client.get(url.removeprefix("http://testserver"))
        assert response.url == "https://shop.example/courses/painting?a=b"

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("//evil.example", "begins with one slash"),
            ("https://evil.example/", "begins with one slash"),
            ("https://shop.example.evil.example/", "begins with one slash"),
            ("https://shop.example@evil.example/", "begins with one slash"),
            ("courses", "begins with one slash"),
            ("/a/../b", "steps"),
            ("/a b", "blank"),
            ("/{x}", "There can be none here"),
            ("/" + "é" * 600, "too long"),
            ("/" + "x" * 3000, "longer"),
            ("/\0", "invisible character"),
        ],
    )
    def test_why_there_can_be_no_deep_link_is_said(self, admin_client, text, words):
        found = self.panel(admin_client, make_link(), deep=text)
        assert words in found.partition('id="aff-deep-error"')[2].partition("</ul>")[0]
        assert "aff-shown" not in found


class TestImport:
    GOOD = "item_id,landing_page,path\na,https://a.example/,\nb,https://b.example/,Bee\n"

    def post(self, client, text="", file=None, **data):
        data = {"text": text, **data} | ({"file": file} if file else {})
        return client.post(address("link_import"), data)

    def confirm(self, client, response):
        """Send what the page of the dry run has hidden."""
        text = response.content.decode()
        hidden = re.search(r'<textarea name="text" hidden>\n(.*?)</textarea>', text, re.DOTALL)[1]
        # As a browser sends it.
        carried = re.sub(r"\r?\n", "\r\n", unescape(hidden))
        return self.post(client, carried, confirmed="yes")

    def test_a_dry_run_first_then_all_of_them(self, admin_client):
        response = self.post(admin_client, self.GOOD)
        text = response.content.decode()
        assert "All 2 lines are good. Nothing was made yet." in text
        assert text.count(">ok</span>") == 2
        assert not Link.objects.exists()
        response = self.confirm(admin_client, response)
        first, second = Link.objects.order_by("pk")
        assert response.url == address("link_imported", first.pk)
        assert (second.path, second.item_id) == ("Bee", "b")
        # The path that was shown is the one that was made.
        assert f"http://testserver/router/{first.path}</span>" in text
        entries = LogEntry.objects.all()
        assert {entry.object_id for entry in entries} == {str(first.pk), str(second.pk)}
        assert {entry.change_message for entry in entries} == {"Imported."}
        text = page(admin_client, "link_imported", first.pk)
        assert all(f">http://testserver/router/{link.path}<" in text for link in (first, second))
        data = admin_client.get(address("link_imported", first.pk), {"csv": ""}).getvalue()
        rows = list(csv.DictReader(StringIO(data.decode("utf-8-sig"))))
        assert [row["address"] for row in rows] == [
            f"http://testserver/router/{link.path}" for link in (first, second)
        ]

    def test_confirmed_twice_it_is_made_once(self, admin_client):
        asked = self.post(admin_client, self.GOOD)
        assert self.confirm(admin_client, asked).status_code == 302
        again = self.confirm(admin_client, asked)
        assert "were they imported just now?" in again.content.decode()
        assert Link.objects.count() == 2

    def test_one_bad_line_and_none_is_made(self, admin_client):
        text = self.GOOD + f"{HOSTILE},ftp://x,a b\n"
        response = self.post(admin_client, text, confirmed="yes")
        shown = response.content.decode()
        assert "1 of 3 lines cannot be imported, so none was." in shown
        assert "<code>landing_page</code>: The URL must start with http" in shown
        assert "<code>path</code>: Must be 3 to 64" in shown
        assert HOSTILE not in shown
        # What is wrong comes first.
        assert re.findall(r'<th scope="row">(\d+)</th>', shown) == ["4", "2", "3"]
        assert 'name="confirmed"' not in shown
        assert not Link.objects.exists()

    def test_a_path_that_is_taken_while_it_is_confirmed(self, admin_client, monkeypatch):
        real = importing.check

        def check(lines):
            is_good = real(lines)
            Link.objects.filter(path="Bee").exists() or make_link(path="Bee")
            return is_good

        asked = self.post(admin_client, self.GOOD)
        monkeypatch.setattr(importing, "check", check)
        response = self.confirm(admin_client, asked)
        assert response.status_code == 200
        text = response.content.decode()
        assert "1 of 2 lines cannot be imported, so none was." in text
        assert services.PATH_TAKEN in text
        assert list(Link.objects.values_list("path", flat=True)) == ["Bee"]
        assert not LogEntry.objects.exists()

    def test_a_file_may_be_sent_instead(self, admin_client, tmp_path):
        file = tmp_path / "links.csv"
        file.write_bytes(b"\xef\xbb\xbf" + self.GOOD.replace(",", ";").encode())
        with file.open("rb") as opened:
            response = self.post(admin_client, file=opened)
        assert "All 2 lines are good" in response.content.decode()

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"item_id,landing_page\n\xff,x\n", "Line 2 is not written in UTF-8"),
            (b"PK\x03\x04\x00\x00\xff\xfe\xd8", "not written in UTF-8"),
            (b"\0\0\0", "There are no columns by these names"),
            (b"item_id,landing_page,<b>\nx,y,z\n", "&#x27;&lt;b&gt;&#x27;"),
            (b"item_id,landing_page\n" + b"x,y\n" * 3, "more than 2 lines"),
            (b"x" * 201, "larger than 1 MB"),
        ],
    )
    def test_a_file_that_cannot_be_read(self, admin_client, tmp_path, monkeypatch, data, words):
        monkeypatch.setattr(forms, "MAX_LINES", 2)
        monkeypatch.setattr(forms.ImportForm, "max_bytes", 200)
        file = tmp_path / "links.csv"
        file.write_bytes(data)
        with file.open("rb") as opened:
            text = self.post(admin_client, file=opened).content.decode()
        assert words in text.partition('class="errorlist"')[2].partition("</ul>")[0]

    def test_nothing_was_given(self, admin_client):
        assert "Choose a file, or paste" in self.post(admin_client, " \n").content.decode()

    def test_the_largest_file_can_be_confirmed(self, admin_client):
        heading = "item_id,landing_page\n"
        row = "курс-{},https://shop.example/курсы/{}\n"
        text = heading + "".join(row.format(n, "ы" * 70 + str(n)) for n in range(5000))
        assert 900_000 < len(text.encode()) <= forms.MAX_BYTES
        asked = self.post(admin_client, text)
        assert "All 5000 lines are good" in asked.content.decode()
        with CaptureQueriesContext(connection) as captured:
            assert self.confirm(admin_client, asked).status_code == 302
        assert Link.objects.count() == 5000
        assert len(captured) < 500
        text = page(admin_client, "link_imported", Link.objects.earliest("pk").pk)
        assert text.count("/change/") >= 5000

    def test_others_that_were_made_between_are_not_shown(self, admin_client):
        before = make_link()
        response = self.confirm(admin_client, self.post(admin_client, self.GOOD))
        after = make_link()
        text = admin_client.get(response.url).content.decode()
        assert text.partition('class="aff-lines"')[2].count("<tr>") == 3
        assert before.path not in text
        assert after.path not in text
        assert admin_client.get(address("link_imported", 10**30)).status_code == 404


class TestPermissions:
    def test_who_may_only_look_can_do_nothing(self, client):
        link = make_link(floor_minor=1250, currency="EUR")
        LandingPage.objects.create(link=link, url="https://shop.example/other")
        client = staff_with(client, "view_link")
        text = page(client, "link_changelist")
        assert address("link_import") not in text
        assert 'name="action"' not in text
        text = page(client, "link_change", link.pk, deep="/other")
        assert "aff-tool" not in text
        assert 'name="deep"' not in text
        assert "aff-shown" not in text
        assert "12.50\N{NO-BREAK SPACE}EUR" in text
        assert "https://shop.example/other" in text
        assert client.get(address("link_qr", link.pk)).status_code == 200
        for action in ("activate", "deactivate", "delete_links"):
            act(client, action, link, confirmed="yes")
        assert client.post(address("link_change", link.pk), form()).status_code == 403
        for name in ("link_add", "link_import"):
            assert client.get(address(name)).status_code == 403
            assert client.post(address(name), form(text=TestImport.GOOD)).status_code == 403
        assert list(Link.objects.values_list("active", "deleted_on")) == [(True, None)]
        assert not LogEntry.objects.exists()

    def test_who_may_change_may_not_delete_or_add(self, client):
        link = make_link()
        client = staff_with(client, "view_link", "change_link")
        text = page(client, "link_change", link.pk)
        assert 'value="deactivate"' in text
        assert 'value="delete_links"' not in text
        act(client, "delete_links", link, confirmed="yes")
        assert Link.objects.kept().exists()
        assert client.get(address("link_import")).status_code == 403

    def test_who_may_delete_may_not_change(self, client):
        link = make_link()
        client = staff_with(client, "view_link", "delete_link")
        act(client, "deactivate", link)
        assert Link.objects.get().active
        act(client, "delete_links", link, confirmed="yes")
        assert Link.objects.get().deleted_on

    def test_who_may_not_look_sees_nothing(self, client):
        link = make_link()
        client = staff_with(client)
        for url in (
            address("link_changelist"),
            address("link_export"),
            address("link_import"),
            address("link_imported", link.pk),
            address("link_qr", link.pk),
            address("link_change", link.pk),
        ):
            assert client.get(url).status_code == 403, url

    def test_a_stranger_is_asked_to_log_in(self, client):
        for name in ("link_changelist", "link_export", "link_import"):
            response = client.get(address(name))
            assert response.status_code == 302
            assert response.url.startswith(reverse("admin:login"))


@pytest.mark.parametrize(
    "text",
    [
        HOSTILE,
        "javascript:alert(1)",
        "\"'><img src=x onerror=alert(1)>",
        "{{ 7|add:7 }}{% now %}",
        "x" * 2000,
        "http://[",
        "\u202eabc",
    ],
)
def test_every_page_bears_hostile_data(admin_client, text):
    partner = make_partner(name=text[:250])
    now = timezone.now()
    # Past the model, as other software may write it.
    Link.objects.bulk_create(
        [
            Link(
                path=text[:64],
                item_id=text[:200],
                landing_page=text,
                callback_url=text,
                adds=text[:1000],
                passes=text[:500],
                expects=text[:200],
                currency="???",
                floor_minor=5,
                partner=partner,
                created_on=now,
            )
        ]
    )
    link = Link.objects.get()
    LandingPage.objects.bulk_create([LandingPage(link=link, url=text)])
    sold(link, 100, "???")
    pages = [
        page(admin_client, "link_changelist"),
        page(admin_client, "link_changelist", q=text, partner=text),
        page(admin_client, "link_change", link.pk),
        page(admin_client, "link_change", link.pk, deep=text),
        page(admin_client, "link_history", link.pk),
        page(admin_client, "link_imported", link.pk),
        act(admin_client, "delete_links", link).content.decode(),
    ]
    for each in pages:
        assert HOSTILE not in each
        assert "<img src=x" not in each
        assert not re.search(r'(href|src|action)="\s*javascript:', each)
    # A save says what is wrong with it, or saves it.
    response = admin_client.post(address("link_change", link.pk), form(item_id="x"))
    assert response.status_code in (200, 302)


def test_a_partner_is_told_of_completed_links_by_an_ordinary_subscription(admin_client):
    text = admin_client.get(reverse("admin:affiliations_partner_add")).content.decode()
    assert f'<option value="{services.TRIGGER}">' in text
    partner = make_partner({services.TRIGGER: "http://127.0.0.1:1/?v={visitor_id}"})
    link = make_link(partner=partner)
    user = make_user()
    admin_client.force_login(user)
    click(admin_client, link)
    services.complete(item_id=link.item_id, user=user, amount=5)
    [callback] = partner.callbacks.all()
    assert callback.subscription.trigger == services.TRIGGER
    assert Partner.objects.get().visitors.count() == 1


def test_the_code_in_the_page_is_the_one_that_is_saved():
    address = "https://shop.example/router/WTY76RkB"
    drawn = re.findall(r"M(\d+) (\d+)h1v1h-1z", qr.inline(address))
    dark = {(int(x), int(y)) for x, y in drawn}
    assert len(drawn) == len(dark)
    # segno writes runs of a row, each from the middle of its height, relative to the last.
    found, x, y = set(), 0, 0
    path = re.search(r'class="qrline" stroke="#000" d="([^"]+)"', qr.file(address).decode())[1]
    for kind, first, second in re.findall(r"([Mmh])(-?[\d.]+)(?: (-?[\d.]+))?", path):
        if kind == "h":
            found |= {(x + n, y) for n in range(int(first))}
            x += int(first)
        else:
            x = int(first) + (x if kind == "m" else 0)
            y = int(float(second)) + (y if kind == "m" else 0)
    assert dark == found
    assert min(min(each) for each in dark) == qr.BORDER
