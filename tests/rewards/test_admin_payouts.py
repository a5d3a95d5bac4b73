"""The admin of payouts: making them, sending them, and noting what became of them, each once."""

import io
import re
import zipfile
from datetime import timedelta
from html import unescape
from itertools import count

import pytest
from asgiref.sync import async_to_sync
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import AsyncClient, Client
from django.urls import reverse
from django.utils import timezone

from affiliations.admin import progress
from affiliations.money import Money
from affiliations.rewards import ledger, payoutfiles, payouts
from affiliations.rewards.admin import payout_results, payout_routes
from affiliations.rewards.audit import Audit
from affiliations.rewards.models import Entry, Payout, PayoutBatch, PayoutDestination
from tests.core.factories import make_partner, make_user
from tests.core.promises.test_races import at_once
from tests.rewards.factories import account_of, pay_to

pytestmark = pytest.mark.django_db
HOSTILE = "<script>alert(1)</script>"
numbers = count(1)


def address(name, *args):
    return reverse(f"admin:affiliations_rewards_{name}", args=args)


def page(client, name, *args, **query):
    response = client.get(address(name, *args), query, follow=True)
    assert response.status_code == 200, (name, args, query)
    return text_of(response)


def text_of(response):
    data = response.getvalue() if response.streaming else response.content
    # In between stands what keeps an amount on one line.
    return unescape(data.decode()).replace("\N{NO-BREAK SPACE}", " ")


def told(response):
    said = [str(message) for message in response.context["messages"]]
    return [text.replace("\N{NO-BREAK SPACE}", " ") for text in said]


def act(client, name, action, *rows, **more):
    data = {"action": action, "_selected_action": [row.pk for row in rows], "index": 0, **more}
    return client.post(address(f"{name}_changelist"), data, follow=True)


def do(client, action, *rows, **more):
    """Press a button of payouts, and confirm it, knowing in which state they are."""
    states = Payout.objects.filter(pk__in=[row.pk for row in rows]).values_list("pk", "state")
    more.setdefault("seen", " ".join(f"{pk}:{state}" for pk, state in states))
    return act(client, "payout", action, *rows, confirmed="yes", **more)


def staff_with(*names):
    """Return the client of somebody who may do only so much."""
    user = make_user()
    user.is_staff = True
    user.save()
    ours = ("affiliations", "affiliations_rewards")
    found = Permission.objects.filter(codename__in=names, content_type__app_label__in=ours)
    assert found.count() == len(names)
    user.user_permissions.set(found)
    client = Client()
    client.force_login(user)
    return client


def owe(minor=6000, partner=None, currency="EUR", method=""):
    """Owe a partner something, and say where they are paid; return the partner."""
    partner = partner or make_partner(name=f"Partner {next(numbers)}")
    account = account_of(partner, currency)
    ledger.post(account, Money(minor, currency), kind="credit", key=f"{next(numbers)}")
    if method:
        PayoutDestination.objects.create(
            holder=account.holder, method=method, name="A", email=f"p{partner.pk}@example.com"
        )
    return partner


def made(*methods, currency="EUR"):
    """Return a batch with a payout for each method, or for none."""
    for method in methods or ("",):
        owe(method=method, currency=currency)
    return payouts.make_payouts(currency=currency)


def sent(*methods):
    batch = made(*methods)
    payouts.approve_batch(batch)
    for method in set(methods):
        payouts.send_batch(batch, method)
    return batch


def states():
    return sorted(Payout.objects.values_list("state", flat=True))


class TestMaking:
    def looked_at(self, client, **query):
        return page(client, "payoutbatch_make", currency="EUR", **query)

    def confirmed(self, client, text):
        """Send what the page of what is due has hidden."""
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', text))
        fields.pop("csrfmiddlewaretoken", None)
        return client.post(address("payoutbatch_make"), fields, follow=True)

    def test_it_says_what_is_due_and_makes_that(self, admin_client):
        owe(6000, method="paypal")
        owe(123_456)
        owe(100)
        owe(6000, currency="USD")
        text = self.looked_at(admin_client)
        facts = dict(re.findall(r"<dt>([^<]+?)\s*</dt><dd>([^<]+)</dd>", text))
        assert facts == {
            "To be paid": "2",
            "Sum": "1,294.56 EUR",
            "Have too little (less than 50.00 EUR)": "1",
            "To be paid, but without a destination": "1",
        }
        assert not Payout.objects.exists()
        response = self.confirmed(admin_client, text)
        batch = PayoutBatch.objects.get()
        assert response.redirect_chain == [(address("payoutbatch_change", batch.pk), 302)]
        assert told(response) == ["2 payouts were made, of 1,294.56 EUR in all."]
        assert batch.payouts.count() == 2
        [entry] = LogEntry.objects.all()
        assert (entry.object_id, entry.is_addition()) == (str(batch.pk), True)

    def test_twice_clicked_nothing_is_paid_twice(self, admin_client):
        owe()
        text = self.looked_at(admin_client)
        self.confirmed(admin_client, text)
        response = self.confirmed(admin_client, text)
        assert "Nothing was due" in told(response)[0]
        assert Payout.objects.count() == PayoutBatch.objects.count() == 1

    def test_what_comes_after_the_look_is_not_what_was_confirmed(self, admin_client):
        owe()
        text = self.looked_at(admin_client)
        owe()
        self.confirmed(admin_client, text)
        assert Payout.objects.count() == 1

    def test_it_shows_how_far_it_is(self, admin_client, monkeypatch):
        monkeypatch.setattr(progress, "PATIENCE", 0)
        monkeypatch.setattr(progress, "EVERY", 0)
        monkeypatch.setattr(payouts, "SLICE", 2)
        for _ in range(5):
            owe()
        text = self.looked_at(admin_client)
        assert "4 of 5 accounts" in text
        response = self.confirmed(admin_client, text)
        assert response.streaming
        text = text_of(response)
        assert "2 of 5 accounts" in text
        assert "5 payouts were made, of 300.00 EUR in all." in text
        assert address("payoutbatch_change", PayoutBatch.objects.get().pk) in text

    @pytest.mark.parametrize("count", [1, 20])
    def test_as_many_queries_for_one_as_for_many(
        self, admin_client, django_assert_num_queries, count
    ):
        for _ in range(count):
            owe()
        # Session and user; currencies; how many; the slice; its sums; who is lost; that it was all.
        with django_assert_num_queries(8):
            self.looked_at(admin_client)

    @pytest.mark.parametrize(
        ("query", "words"),
        [
            ({"currency": "XXX"}, "Select a valid choice"),
            ({"currency": "EUR", "until": "soon"}, "Must be a date"),
            ({"currency": "EUR", "until": "9000-01-01"}, "Must not be in the future"),
            ({"currency": "EUR\0"}, "Select a valid choice"),
            ({"until": "2026-01-01"}, "This field is required"),
        ],
    )
    def test_what_cannot_be_made(self, admin_client, query, words):
        owe()
        assert words in page(admin_client, "payoutbatch_make", **query)
        response = admin_client.post(address("payoutbatch_make"), query)
        assert response.status_code == 200
        assert words in text_of(response)
        assert not Payout.objects.exists()

    def test_nothing_is_due(self, admin_client):
        assert "There are no accounts yet" in page(admin_client, "payoutbatch_make")
        owe(1)
        assert "Nothing is due now." in self.looked_at(admin_client)

    def test_until_leaves_the_rest(self, admin_client):
        owe()
        yesterday = (timezone.now() - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M")
        assert "Nothing is due now." in self.looked_at(admin_client, until=yesterday)


class TestBatch:
    @pytest.mark.parametrize("count", [1, 15])
    def test_as_many_queries_for_one_as_for_many(
        self, admin_client, django_assert_num_queries, count
    ):
        for _ in range(count):
            made("paypal", "")
        # Session and user; how many; the rows; their states; and the currencies to choose from.
        with django_assert_num_queries(6):
            text = page(admin_client, "payoutbatch_changelist")
        assert text.count("120.00 EUR") == count
        assert text.count('aria-label="2 draft"') == count

    def test_all_of_it_is_approved_once(self, admin_client):
        batch = made("paypal", "wise", "")
        asked = act(admin_client, "payoutbatch", "approve_all", batch)
        assert "3 drafts, 180.00 EUR in all" in text_of(asked)
        assert states() == ["draft"] * 3
        done = act(admin_client, "payoutbatch", "approve_all", batch, confirmed="yes")
        assert told(done) == ["3 payouts were approved."]
        assert states() == ["approved"] * 3
        again = act(admin_client, "payoutbatch", "approve_all", batch, confirmed="yes")
        assert "Nothing was left to do" in told(again)[0]
        assert [entry.get_change_message() for entry in LogEntry.objects.all()] == [
            "3 payouts were approved."
        ]

    def test_it_is_sent_by_each_method_once_and_files_are_had(self, admin_client):
        batch = made("paypal", "paypal", "wise", "")
        payouts.approve_batch(batch)
        text = page(admin_client, "payoutbatch_change", batch.pk)
        assert "File for" not in text
        asked = text_of(act(admin_client, "payoutbatch", "send_paypal", batch))
        assert "2 payouts, 120.00 EUR in all, are noted as sent by PayPal" in asked
        assert "before anything is sent" in asked
        done = act(admin_client, "payoutbatch", "send_paypal", batch, confirmed="yes")
        assert "2 payouts are noted as sent by PayPal" in told(done)[0]
        again = act(admin_client, "payoutbatch", "send_paypal", batch, confirmed="yes")
        assert "Nothing was left to do" in told(again)[0]
        assert states() == ["approved", "approved", "sent", "sent"]
        text = page(admin_client, "payoutbatch_change", batch.pk)
        assert ("File for PayPal" in text, "File for Wise" in text) == (True, False)
        answer = admin_client.get(address("payoutbatch_files", batch.pk, "paypal"))
        assert answer.content == dict(payoutfiles.files(batch, "paypal")).popitem()[1]
        assert f'filename="payouts-{batch.pk}-paypal-1.csv"' in answer["Content-Disposition"]
        answer = admin_client.get(address("payoutbatch_files", batch.pk, "paypal"), {"commas": 1})
        assert b'"60,00",EUR' in answer.content
        for args in ((batch.pk, "wise"), (batch.pk, "cash"), (0, "paypal"), ("x", "paypal")):
            assert admin_client.get(address("payoutbatch_files", *args)).status_code == 404

    def test_several_files_come_in_one(self, admin_client, monkeypatch):
        batch = sent("paypal", "paypal", "paypal")
        form = payoutfiles.FORMATS["paypal"]._replace(most=2)
        monkeypatch.setitem(payoutfiles.FORMATS, "paypal", form)
        answer = admin_client.get(address("payoutbatch_files", batch.pk, "paypal"))
        with zipfile.ZipFile(io.BytesIO(answer.getvalue())) as archive:
            found = {name: archive.read(name) for name in archive.namelist()}
        assert found == dict(payoutfiles.files(batch, "paypal"))
        assert len(found) == 2

    def test_whoever_cannot_be_paid_is_named(self, admin_client):
        partner = owe(partner=make_partner(name=f"Anna {HOSTILE}"))
        account = ledger.account_of("member:7", "EUR")
        ledger.post(account, Money(7000, "EUR"), kind="credit", key="m")
        destination = pay_to(account.holder)
        batch = made("paypal")
        destination.delete()
        assert "go nowhere" not in page(admin_client, "payoutbatch_change", batch.pk)
        payouts.approve_batch(batch)
        response = admin_client.get(address("payoutbatch_change", batch.pk))
        assert HOSTILE not in response.content.decode()
        text = text_of(response)
        assert "2 approved payouts go nowhere" in text
        assert f'{address("payoutdestination_add")}?partner={partner.pk}"' in text
        assert f'{address("payoutdestination_add")}?other=member%3A7"' in text

    def test_whoever_may_add_a_destination_is_led_to_the_form(self):
        batch = made("")
        payouts.approve_batch(batch)
        names = ["view_payoutbatch", "view_payout"]
        for more, led in (([], False), (["add_payoutdestination"], True)):
            client = staff_with(*names, *more)
            text = page(client, "payoutbatch_change", batch.pk)
            assert "1 approved payout goes nowhere" in text
            assert (address("payoutdestination_add") in text) is led

    def test_it_is_dropped_while_a_draft(self, admin_client):
        batch = made("paypal", "")
        asked = act(admin_client, "payoutbatch", "drop", batch)
        assert "2 drafts, 120.00 EUR in all, fail" in text_of(asked)
        asked = act(admin_client, "payoutbatch", "drop", batch, confirmed="yes", reason="")
        assert "This field is required" in text_of(asked)
        assert states() == ["draft", "draft"]
        done = act(admin_client, "payoutbatch", "drop", batch, confirmed="yes", reason="a mistake")
        assert told(done) == ["2 payouts were dropped."]
        assert states() == ["failed", "failed"]
        assert set(batch.payouts.values_list("reason", flat=True)) == {"a mistake"}
        again = act(admin_client, "payoutbatch", "drop", batch, confirmed="yes", reason="a mistake")
        assert told(again) == ["Nothing was left to drop."]
        assert list(Audit().differences()) == []

    def test_what_somebody_has_approved_is_not_dropped(self, admin_client):
        batch = made("paypal", "")
        payouts.approve(batch.payouts.first())
        done = act(admin_client, "payoutbatch", "drop", batch, confirmed="yes", reason="late")
        assert "nothing of it was dropped" in told(done)[0]
        assert states() == ["approved", "draft"]

    def test_nothing_is_asked_where_it_would_do_nothing(self, admin_client):
        batch = made("paypal", "")
        for action in ("send_paypal", "send_wise"):
            done = act(admin_client, "payoutbatch", action, batch)
            assert told(done) == ["Nothing was left to do: it was done before, or meanwhile."]
            assert done.redirect_chain[-1][0] == address("payoutbatch_change", batch.pk)
        payouts.approve(batch.payouts.first())
        done = act(admin_client, "payoutbatch", "drop", batch)
        assert told(done) == ["Nothing of it can be dropped any more: some of it was approved."]
        payouts.approve_batch(batch)
        for action in ("approve_all", "send_wise", "drop"):
            done = act(admin_client, "payoutbatch", action, batch)
            assert told(done) == ["Nothing was left to do: it was done before, or meanwhile."]
        assert not LogEntry.objects.exists()

    def test_who_sends_is_told_where_each_goes(self, admin_client, monkeypatch):
        anna = owe(7000, make_partner(name=f"Anna {HOSTILE}"), method="paypal")
        bert = owe(8000, make_partner(name="Bert"), method="paypal")
        for name in ("Carl", "Dora"):
            owe(9000, make_partner(name=name))
        batch = made("wise")
        payouts.approve_batch(batch)
        monkeypatch.setattr(payout_routes, "FEW", 1)
        response = act(admin_client, "payoutbatch", "send_paypal", batch)
        assert HOSTILE not in response.content.decode()

        def lines(response):
            return re.findall("<li>(.*?)</li>", text_of(response))

        first, *rest = lines(response)
        assert first == f"Anna {HOSTILE}: 70.00 EUR → p{anna.pk}@example.com (A)"
        assert rest == [
            f"Bert: 80.00 EUR → p{bert.pk}@example.com (A)",
            "Not now: 1 goes by Wise.",
            "Not at all: 2 have no destination (Carl: 90.00 EUR, …).",
        ]
        monkeypatch.setattr(payout_routes, "NAMED", 1)
        asked = act(admin_client, "payoutbatch", "send_paypal", batch)
        assert lines(asked)[:2] == [first, "and 1 other"]

    def test_only_one_at_a_time(self, admin_client):
        batches = [made(), made()]
        for action in ("approve_all", "send_paypal", "send_wise", "drop"):
            done = act(admin_client, "payoutbatch", action, *batches, confirmed="yes", reason="x")
            assert told(done) == ["Please select one batch."]
        assert states() == ["draft", "draft"]

    def test_buttons_are_those_that_do_something(self, admin_client):
        batch = made("paypal", "")

        def buttons():
            text = page(admin_client, "payoutbatch_change", batch.pk)
            return re.findall(r'class="aff-tool">([^<]+)<', text)

        assert buttons() == ["Approve all", "Drop the whole batch"]
        payouts.approve_batch(batch)
        assert buttons() == ["Send by PayPal"]
        payouts.send_batch(batch, "paypal")
        assert buttons() == []

    def test_it_is_neither_edited_nor_deleted(self, admin_client):
        batch = made()
        assert admin_client.get(address("payoutbatch_delete", batch.pk)).status_code == 403
        assert admin_client.get(address("payoutbatch_add")).status_code == 403
        assert admin_client.post(address("payoutbatch_change", batch.pk), {}).status_code == 403


class TestResults:
    def post(self, client, text="", file=None, **data):
        data = {"text": text, **data} | ({"file": file} if file is not None else {})
        return client.post(address("payoutbatch_results"), data, follow=True)

    def confirm(self, client, response):
        text = response.content.decode()
        hidden = re.search(r'<textarea name="text" hidden>\n(.*?)</textarea>', text, re.DOTALL)[1]
        carried = re.sub(r"\r?\n", "\r\n", unescape(hidden))
        return self.post(client, carried, confirmed="yes")

    def file(self, *lines):
        heading = "Date,Transaction ID,Customer ID,Status,Reason,Gross"
        return "\n".join([heading, *lines])

    def test_a_dry_run_first_and_then_all_of_it_once(self, admin_client):
        one, two, three = sent("paypal", "paypal", "paypal").payouts.order_by("pk")
        text = self.file(
            f"x,T1,{one.reference},Completed,,60.00",
            f"x,T2,{two.reference},Returned,=closed,",
            f"x,T3,{three.reference},Unclaimed,,",
        )
        response = self.post(admin_client, text)
        shown = text_of(response)
        assert "2 payouts change by it. Nothing was noted yet." in shown
        assert "will be noted as paid" in shown
        assert "stays as it is" in shown
        assert states() == ["sent"] * 3
        done = self.confirm(admin_client, response)
        assert told(done) == ["1 were paid, 1 have failed, 0 came back; 1 stay as they were."]
        assert states() == ["failed", "paid", "sent"]
        two.refresh_from_db()
        assert two.reason == "=closed"
        assert LogEntry.objects.count() == 2
        entries = Entry.objects.count()
        again = self.confirm(admin_client, response)
        assert told(again) == ["0 were paid, 0 have failed, 0 came back; 3 stay as they were."]
        assert (Entry.objects.count(), LogEntry.objects.count()) == (entries, 2)
        assert "Nothing changes by this file" in text_of(self.post(admin_client, text))
        back = self.post(admin_client, self.file(f"x,T1,{one.reference},Reversed,,"))
        assert "will be noted as come back" in text_of(back)
        self.confirm(admin_client, back)
        assert states() == ["failed", "returned", "sent"]
        assert list(Audit().differences()) == []

    def test_one_wrong_line_comes_first_and_nothing_is_noted(self, admin_client):
        one, two = sent("paypal", "wise").payouts.order_by("pk")
        text = self.file(
            f"x,T1,{one.reference},Completed,,60.00",
            f"x,T2,{two.reference},Completed,{HOSTILE},61.00",
            f"x,T3,{HOSTILE},Perhaps,,{'9' * 40}",
        )
        response = self.post(admin_client, text, confirmed="yes")
        assert HOSTILE not in response.content.decode()
        shown = text_of(response)
        assert "2 of 3 lines cannot be so, and nothing was changed." in shown
        assert re.findall(r'<th scope="row">(\d+)</th>', shown) == ["3", "4", "2"]
        assert 'name="confirmed"' not in shown
        assert states() == ["sent", "sent"]

    def test_what_happens_between_the_look_and_the_change(self, admin_client, monkeypatch):
        [one] = sent("paypal").payouts.all()
        real = payoutfiles.check

        def late(lines):
            found = real(lines)
            payouts.fail(Payout.objects.get(pk=one.pk), "closed")
            monkeypatch.setattr(payoutfiles, "check", real)
            return found

        response = self.post(admin_client, self.file(f"x,T1,{one.reference},Completed,,"))
        monkeypatch.setattr(payoutfiles, "check", late)
        done = self.confirm(admin_client, response)
        assert "of 1 lines cannot be so" in told(done)[0]
        assert "1 of 1 lines cannot be so" in text_of(done)
        assert (states(), LogEntry.objects.count()) == (["failed"], 0)

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"", "The submitted file is empty"),
            (b"\x00\x01\xff\xfe" * 50, "not written in UTF-8"),
            ("Status,Customer ID\nÄ,b".encode("utf-16"), "not written in UTF-8"),
            (b"PK\x03\x04\x00\x00", "There is no column for the reference"),
            (b"A,B\n1,2\n", "There is no column for the reference"),
            (b"Customer ID,Status\n", "There is no line below"),
            (b'Customer ID,Status\n"A"B,C\n', "Line 2"),
            (b"Customer ID,Status\n" + b"x" * 200_000 + b",y\n", "Line 2"),
            (b"Customer ID,Status\n" + b"x,y\n" * 5001, "more than 5,000 lines"),
            (b"x" * 2_000_001, "larger than 2 MB"),
        ],
    )
    def test_a_file_that_cannot_be_read(self, admin_client, data, words):
        response = self.post(admin_client, file=SimpleUploadedFile("a.csv", data))
        assert response.status_code == 200
        listed = response.content.decode().partition('class="errorlist"')[2]
        assert words in unescape(listed.partition("</ul>")[0])

    def test_nothing_was_given(self, admin_client):
        assert "Choose a file, or paste" in text_of(self.post(admin_client))
        assert (
            self.post(admin_client, "Status\0,\ud800".encode(errors="replace")).status_code == 200
        )

    def test_as_many_queries_for_one_as_for_many(self, admin_client, django_assert_max_num_queries):
        batch = sent(*["paypal"] * 20)
        lines = [f"x,T,{each.reference},Completed,," for each in batch.payouts.all()]
        with django_assert_max_num_queries(6):
            assert "20 payouts change" in text_of(self.post(admin_client, self.file(*lines)))

    def test_what_a_large_file_carries_can_be_confirmed(self, admin_client):
        """Of what the page hides no more is sent than Django takes."""
        filler = "x" * 300
        lines = [f"{filler},T{n},{'A' * 26},Pending,{filler},1" for n in range(2500)]
        lines = payoutfiles.read(self.file(*lines).encode())
        shown = payout_results._shown(lines, is_good=True)
        assert len(shown["text"].encode()) < 2_000_000


class TestPayout:
    @pytest.mark.parametrize("count", [1, 30])
    def test_as_many_queries_for_one_as_for_many(
        self, admin_client, django_assert_num_queries, count
    ):
        made(*["paypal"] * count)
        # Session and user; currencies; how many; from when to when, twice each; the rows; their
        # accounts, partners and batches.
        with django_assert_num_queries(10):
            page(admin_client, "payout_changelist")

    def listed(self, client, **query):
        text = page(client, "payout_changelist", **query)
        found = re.findall(r'<span class="aff-code">([A-Z2-7]{26})</span>', text)
        by_reference = {each.reference: each.pk for each in Payout.objects.all()}
        return sorted(by_reference[each] for each in found)

    def test_it_is_found(self, admin_client):
        first = sent("paypal").payouts.get()
        second = made("", currency="USD").payouts.get()
        payouts.mark_paid(first, "T-77")
        partner = first.account.partner
        assert self.listed(admin_client) == [first.pk, second.pk]
        for query in (
            {"state": "paid"},
            {"currency": "EUR"},
            {"method": "paypal"},
            {"partner": partner.name},
            {"partner": partner.uid},
            {"batch": first.batch_id},
            {"q": first.reference},
            {"q": first.reference.lower()},
            {"q": partner.uid},
            {"q": "T-77"},
        ):
            assert self.listed(admin_client, **query) == [first.pk], query
        payouts.mark_sent(payouts.approve(second))
        assert self.listed(admin_client, method="hand") == [second.pk]
        for query in (
            {"batch": "x"},
            {"batch": "9" * 40},
            {"q": "nothing"},
            {"q": "Ä" * 26},
            {"q": "A" * 26},
            {"currency": "\0"},
            {"partner": "nobody\0"},
        ):
            assert self.listed(admin_client, **query) == [], query
        for query in ({"q": "a\0b"}, {"state": "\0"}, {"method": "\0"}):
            self.listed(admin_client, **query)
            page(admin_client, "payoutdestination_changelist", **query)
            page(admin_client, "payoutbatch_changelist", **query, currency="\0")
        assert self.listed(admin_client, method="cash") == [first.pk, second.pk]

    STEPS = (
        ("approve", {}, "approved"),
        ("mark_sent", {"reference": "B-1"}, "sent"),
        ("mark_paid", {"reference": ""}, "paid"),
        ("mark_returned", {"reason": "account closed"}, "returned"),
    )

    def test_each_step_is_asked_for_done_once_and_noted(self, admin_client):
        payout = made().payouts.get()
        before = "draft"
        for action, fields, after in self.STEPS:
            text = page(admin_client, "payout_change", payout.pk)
            assert f'name="action" value="{action}"' in text
            asked = text_of(act(admin_client, "payout", action, payout))
            assert "60.00 EUR" in asked
            assert states() == [before]
            assert told(do(admin_client, action, payout, **fields)) == ["1 payout was changed."]
            assert states() == [after]
            again = do(admin_client, action, payout, **fields)
            assert told(again) == ["1 payout was left as it is: it is in another state by now."]
            before = after
        payout.refresh_from_db()
        assert (payout.provider_reference, payout.reason) == ("B-1", "account closed")
        said = [entry.get_change_message() for entry in LogEntry.objects.order_by("pk")]
        assert said == ["Approved", "Sent by hand: B-1", "Paid", "Came back: account closed"]
        text = page(admin_client, "payout_change", payout.pk)
        assert re.findall(r"<li><strong>([^<]+)</strong>", text) == [
            *("draft", "approved", "sent", "paid", "came back")
        ]
        assert list(Audit().differences()) == []

    @pytest.mark.parametrize(("action", "before"), [("fail", []), ("mark_returned", STEPS[:3])])
    def test_why_it_failed_has_to_be_said(self, admin_client, action, before):
        payout = made().payouts.get()
        for each, fields, _ in before:
            do(admin_client, each, payout, **fields)
        asked = text_of(act(admin_client, "payout", action, payout))
        assert "entries become available again" in asked
        state = states()
        for reason in ("", " ", "x" * 301, "a\0b"):
            assert do(admin_client, action, payout, reason=reason).status_code == 200
            assert states() == state
        do(admin_client, action, payout, reason=f"closed {HOSTILE}")
        assert states() != state
        text = admin_client.get(address("payout_change", payout.pk)).content.decode()
        assert "closed &lt;script&gt;" in text
        assert HOSTILE not in text
        assert ledger.balance(payout.account).available == 6000

    def test_somebody_was_faster(self, admin_client, monkeypatch):
        payout = made().payouts.get()
        real = payouts.approve

        def late(row):
            real(Payout.objects.get(pk=row.pk))
            return real(row)

        monkeypatch.setattr(payouts, "approve", late)
        done = do(admin_client, "approve", payout)
        assert told(done) == ["1 payout was left as it is: it is in another state by now."]
        assert LogEntry.objects.count() == 0

    @pytest.mark.parametrize("reference", ["a\nb", "a\0b", "x" * 201, "a\x7fb"])
    def test_a_reference_that_cannot_be_noted(self, admin_client, reference):
        payout = made().payouts.get()
        payouts.approve(payout)
        response = do(admin_client, "mark_sent", payout, reference=reference)
        assert response.status_code == 200
        assert 'class="errorlist"' in response.content.decode()
        assert states() == ["approved"]

    def test_several_at_once_and_not_too_many(self, admin_client):
        rows = list(made(*[""] * 3).payouts.all())
        payouts.approve(rows[0])
        done = do(admin_client, "approve", *rows)
        assert told(done) == [
            "2 payouts were changed.",
            "1 payout was left as it is: it is in another state by now.",
        ]

    def test_it_is_neither_edited_nor_deleted(self, admin_client):
        payout = made().payouts.get()
        assert admin_client.get(address("payout_delete", payout.pk)).status_code == 403
        assert admin_client.get(address("payout_add")).status_code == 403
        assert admin_client.post(address("payout_change", payout.pk), {}).status_code == 403

    def test_its_entries_are_paged(self, admin_client, django_assert_max_num_queries):
        partner = owe(1000)
        for _ in range(119):
            owe(100, partner)
        payout = payouts.make_payouts(currency="EUR").payouts.get()
        with django_assert_max_num_queries(12):
            text = page(admin_client, "payout_change", payout.pk)
        assert text.count("<td>credit</td>") == 50
        assert "Page 1 of 3" in text
        text = page(admin_client, "payout_change", payout.pk, entries=3)
        assert text.count("<td>credit</td>") == 20
        for junk in ("x", "-1", "9" * 40, ""):
            page(admin_client, "payout_change", payout.pk, entries=junk)

    def test_its_statement(self, admin_client):
        payout = made().payouts.get()
        for name in ("payout_statement", "payout_statement_csv"):
            text = page(admin_client, name, payout.pk)
            assert "60.00" in text
            assert payout.reference in text
            assert admin_client.get(address(name, 0)).status_code == 404
            assert admin_client.get(address(name, "x")).status_code == 404
        Payout.objects.update(minor=6001)
        assert "off by −0.01 EUR" in page(admin_client, "payout_statement", payout.pk)
        assert "off by −0.01 EUR" in page(admin_client, "payout_change", payout.pk)


class TestStale:
    @pytest.mark.parametrize("began", ["draft", "approved"])
    def test_what_was_sent_since_somebody_was_asked_does_not_fail(self, admin_client, began):
        """The money would be available again while the provider is told to pay it."""
        batch = made("paypal")
        if began == "approved":
            payouts.approve_batch(batch)
        payout = batch.payouts.get()
        asked = act(admin_client, "payout", "fail", payout)
        seen = re.search(r'name="seen" value="([^"]+)"', asked.content.decode())[1]
        assert f": {began}</li>" in asked.content.decode()
        payouts.approve_batch(batch)
        payouts.send_batch(batch, "paypal")
        done = do(admin_client, "fail", payout, seen=seen, reason="a mistake")
        assert told(done) == ["1 payout was left as it is: it is in another state by now."]
        assert states() == ["sent"]
        do(admin_client, "fail", payout, reason="a mistake")
        assert states() == ["failed"]

    @pytest.mark.parametrize("seen", ["", "x", "\0", "1:", ":failed", "9" * 40 + ":draft"])
    def test_what_nobody_was_asked_about_stays(self, admin_client, seen):
        payout = made("paypal").payouts.get()
        do(admin_client, "fail", payout, seen=seen, reason="a mistake")
        assert states() == ["draft"]


class TestPermissions:
    """Whoever may look may only look; whoever makes batches does not send them."""

    def get(self, client, name, *args):
        return client.get(address(name, *args)).status_code

    def test_whoever_may_look(self):
        batch = sent("paypal")
        payout = batch.payouts.get()
        client = staff_with("view_payout", "view_payoutbatch")
        seen = ["payout_changelist", "payoutbatch_changelist"]
        assert [self.get(client, name) for name in seen] == [200, 200]
        for name in ("payout_change", "payout_statement", "payout_statement_csv"):
            assert self.get(client, name, payout.pk) == 200
        text = page(client, "payoutbatch_change", batch.pk)
        assert "File for" not in text
        assert "Import a result" not in text
        assert "Make payouts" not in page(client, "payoutbatch_changelist")
        assert self.get(client, "payoutbatch_make") == 403
        assert self.get(client, "payoutbatch_results") == 403
        assert self.get(client, "payoutbatch_files", batch.pk, "paypal") == 403
        assert client.post(address("payoutbatch_make"), {"currency": "EUR"}).status_code == 403
        for action in ("mark_paid", "fail"):
            do(client, action, payout, reason="x", reference="")
        assert states() == ["sent"]
        for action in ("approve_all", "drop", "send_wise"):
            act(client, "payoutbatch", action, batch, confirmed="yes", reason="x")
        assert LogEntry.objects.count() == 0

    def test_whoever_may_make(self):
        owe()
        client = staff_with("add_payoutbatch", "view_payoutbatch")
        client.post(address("payoutbatch_make"), {"currency": "EUR"})
        batch = PayoutBatch.objects.get()
        act(client, "payoutbatch", "approve_all", batch, confirmed="yes")
        assert states() == ["draft"]

    def test_whoever_may_change_batches_may_not_change_payouts(self):
        batch = made()
        client = staff_with("change_payoutbatch", "view_payoutbatch")
        act(client, "payoutbatch", "approve_all", batch, confirmed="yes")
        assert states() == ["draft"]

    def test_whoever_may_change_payouts(self):
        batch = made("paypal")
        client = staff_with("change_payout", "view_payout", "view_payoutbatch")
        act(client, "payoutbatch", "approve_all", batch, confirmed="yes")
        assert states() == ["approved"]
        assert self.get(client, "payoutbatch_results") == 200
        assert self.get(client, "payoutbatch_make") == 403

    def test_nobody_else_sees_anything(self, client):
        payout = made().payouts.get()
        for name, *args in (
            ("payout_changelist",),
            ("payout_statement", payout.pk),
            ("payout_statement_csv", payout.pk),
            ("payoutbatch_make",),
            ("payoutbatch_results",),
            ("payoutbatch_files", payout.batch_id, "paypal"),
        ):
            assert self.get(client, name, *args) == 302
            assert self.get(staff_with(), name, *args) == 403


class TestDestination:
    def add(self, client, **fields):
        data = {"partner": "", "other": "", "method": "paypal", "name": "Anna", **fields}
        return client.post(
            address("payoutdestination_add"), {"email": "anna@example.com", **data}, follow=True
        )

    def test_a_partner_is_chosen_by_name(self, admin_client):
        partner = make_partner(name="Anna’s blog")
        text = page(admin_client, "payoutdestination_add", partner=partner.pk)
        assert f'<option value="{partner.pk}" selected>Anna’s blog</option>' in text
        self.add(admin_client, partner=partner.pk)
        destination = PayoutDestination.objects.get()
        assert destination.holder == ledger.holder_of(partner.pk)
        assert "Anna’s blog" in page(admin_client, "payoutdestination_changelist")
        found = {"app_label": "affiliations_rewards", "model_name": "account"}
        answer = admin_client.get(
            reverse("admin:autocomplete"), {**found, "field_name": "partner", "term": "anna"}
        )
        assert [each["text"] for each in answer.json()["results"]] == ["Anna’s blog"]

    def test_the_partners_own_page_says_where_it_is_paid(self, admin_client):
        partner = make_partner(name="Anna’s blog")
        url = reverse("admin:affiliations_partner_change", args=[partner.pk])
        form = f'{address("payoutdestination_add")}?partner={partner.pk}"'
        text = admin_client.get(url).content.decode()
        assert "Nobody has said where it is paid." in text
        assert form in text
        self.add(admin_client, partner=partner.pk)
        text = admin_client.get(url).content.decode()
        assert "PayPal: Anna, anna@example.com" in text
        assert address("payoutdestination_change", PayoutDestination.objects.get().pk) in text
        assert form not in text
        for more, said in (((), False), (("view_payoutdestination",), True)):
            text = staff_with("view_partner", *more).get(url).content.decode()
            assert ("anna@example.com" in text) is said

    def test_another_holder_is_named_as_the_account_names_it(self, admin_client):
        ledger.account_of("member:7", "EUR")
        assert 'value="member:7"' in page(admin_client, "payoutdestination_add", other="member:7")
        self.add(admin_client, other="member:7")
        assert PayoutDestination.objects.get().holder == "member:7"

    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"other": "member:8"},
            {"other": "site:payouts"},
            {"other": "partner:1"},
            {"other": "a\0b"},
            {"other": "Ä" * 100},
            {"partner": "abc"},
            {"partner": "9" * 40},
            {"partner": "999999"},
            {"other": "member:7", "method": "cash"},
            {"other": "member:7", "email": "=1+1@example.com"},
            {"other": "member:7", "name": ""},
            {"other": "member:7", "name": "x" * 201},
        ],
    )
    def test_what_is_no_destination(self, admin_client, fields):
        ledger.account_of("member:7", "EUR")
        ledger.site_account("payout", "EUR")
        response = self.add(admin_client, **fields)
        assert response.status_code == 200
        assert 'class="errorlist"' in response.content.decode()
        assert not PayoutDestination.objects.exists()

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            *((f"{sign}Anna", "Must not begin with =, +, - or @.") for sign in "=+-@"),
            ("'=Anna", "Must not begin with =, +, - or @."),
            ("Anna\nBerg", "Must not hold line breaks or control characters."),
            ("Anna\x1bBerg", "Must not hold line breaks or control characters."),
            ("Anna\u2028Berg", "Must not hold line breaks or control characters."),
        ],
    )
    def test_a_name_that_a_spreadsheet_would_change_is_refused(self, admin_client, name, said):
        ledger.account_of("member:7", "EUR")
        assert said in text_of(self.add(admin_client, other="member:7", name=name))
        assert not PayoutDestination.objects.exists()
        for good in ("Anna-Lena O’Brien", "Ann@ + Co. = 1"):
            self.add(admin_client, other="member:7", name=good)
            assert PayoutDestination.objects.get().name == good
            PayoutDestination.objects.all().delete()

    def test_of_each_there_is_one(self, admin_client):
        partner = owe(method="wise")
        response = self.add(admin_client, partner=partner.pk)
        assert "There is a destination already" in text_of(response)
        both = self.add(admin_client, partner=make_partner().pk, other="member:7")
        assert "and not both" in text_of(both)

    def test_it_is_changed_but_never_somebody_elses(self, admin_client):
        owe(method="wise")
        destination = PayoutDestination.objects.get()
        holder = destination.holder
        data = {"method": "paypal", "name": "New", "email": "n@example.com"}
        more = {"partner": make_partner().pk, "other": "", "holder": "member:1"}
        admin_client.post(address("payoutdestination_change", destination.pk), {**data, **more})
        destination.refresh_from_db()
        assert (destination.holder, destination.method, destination.name) == (
            holder,
            "paypal",
            "New",
        )

    def test_its_history_tells_from_what_to_what(self, admin_client):
        owe(method="wise")
        destination = PayoutDestination.objects.get()
        url = address("payoutdestination_change", destination.pk)
        old = destination.email
        for method, name, email in (
            ("paypal", "A", "new@example.com"),
            ("paypal", HOSTILE, "new@example.com"),
        ):
            admin_client.post(url, {"method": method, "name": name, "email": email})
        text = page(admin_client, "payoutdestination_history", destination.pk)
        assert f"Method: Wise → PayPal; Recipient’s e-mail address: {old} → new@example.com" in text
        assert f"Name: A → {HOSTILE}" in text

    @pytest.mark.parametrize("junk", ["abc", "9" * 40, "-1", "\0", "999999"])
    def test_junk_in_the_address(self, admin_client, junk):
        page(admin_client, "payoutdestination_add", partner=junk, other=junk, email=junk)
        page(admin_client, "payoutdestination_changelist", q=junk)

    @pytest.mark.parametrize("count", [1, 20])
    def test_as_many_queries_for_one_as_for_many(
        self, admin_client, django_assert_num_queries, count
    ):
        for _ in range(count):
            owe(method="wise")
        # Session and user; how many; the rows; their partners.
        with django_assert_num_queries(5):
            page(admin_client, "payoutdestination_changelist")

    def test_it_is_found(self, admin_client):
        partner = owe(method="wise")
        owe(method="paypal")
        for query in (partner.uid, f"p{partner.pk}@example.com", f"partner:{partner.pk}"):
            text = page(admin_client, "payoutdestination_changelist", q=query)
            assert partner.name in text
            assert text.count("field-holder_") == 1


@pytest.mark.django_db(transaction=True)
def test_what_is_streamed_is_streamed_under_asgi_too(admin_user, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0)
    monkeypatch.setattr(progress, "EVERY", 0)
    monkeypatch.setattr(payouts, "SLICE", 2)
    form = payoutfiles.FORMATS["paypal"]._replace(most=2)
    monkeypatch.setitem(payoutfiles.FORMATS, "paypal", form)
    batch = sent("paypal", "paypal", "paypal")
    for _ in range(5):
        owe()
    payout = batch.payouts.first()
    client = AsyncClient()

    async def ask(method, name, *args, **data):
        response = await getattr(client, method)(address(name, *args), data)
        assert response.is_async
        return b"".join([piece async for piece in response])

    async def all_of_them():
        await client.aforce_login(admin_user)
        due = await ask("get", "payoutbatch_make", currency="EUR")
        made = await ask("post", "payoutbatch_make", currency="EUR")
        statement = await ask("get", "payout_statement", payout.pk)
        table = await ask("get", "payout_statement_csv", payout.pk)
        files = await ask("get", "payoutbatch_files", batch.pk, "paypal")
        return due, made, statement, table, files

    due, made, statement, table, files = async_to_sync(all_of_them)()
    assert b"Make 5 payouts" in due
    assert b"8 of 8 accounts" in due
    assert b"5 payouts were made" in made
    assert payout.reference.encode() in statement
    assert payout.reference.encode() in table
    assert len(zipfile.ZipFile(io.BytesIO(files)).namelist()) == 2


def read(response):
    """Return the messages that stand on a page; what is rendered in other threads has others."""
    return re.findall(r'<li class="(?:success|warning)">([^<]+)</li>', text_of(response))


@pytest.mark.django_db(transaction=True)
def test_of_many_who_make_at_once_one_makes_them(admin_user):
    for _ in range(5):
        owe()

    def work():
        client = Client()
        client.force_login(admin_user)
        made = client.post(address("payoutbatch_make"), {"currency": "EUR"}, follow=True)
        return read(made)[0]

    said = at_once(4, work)
    assert sorted("were made" in each for each in said) == [False, False, False, True]
    assert (Payout.objects.count(), PayoutBatch.objects.count()) == (5, 1)
    assert list(Audit().differences()) == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("action", ["approve", "fail"])
def test_of_many_who_press_a_button_at_once_one_does_it(admin_user, action):
    payout = made().payouts.get()

    def work():
        client = Client()
        client.force_login(admin_user)
        return read(do(client, action, payout, reason="closed"))[0]

    said = at_once(4, work)
    assert said.count("1 payout was changed.") == 1
    assert LogEntry.objects.count() == 1
    assert list(Audit().differences()) == []
