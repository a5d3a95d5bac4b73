"""The admin of programs and members: what is promised in words, and who has brought whom."""

import re
from datetime import timedelta
from html import unescape
from io import BytesIO

import pytest
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from affiliations.referrals import importing, invoices, services
from affiliations.referrals.admin import members as members_admin
from affiliations.referrals.admin import programs as programs_admin
from affiliations.referrals.admin import wording
from affiliations.referrals.models import Member, Operation, Program
from affiliations.rewards import ledger
from affiliations.rewards.models import Account
from tests.core.factories import make_user
from tests.referrals.factories import euros, make_member, make_program

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert(1)</script>"
WHOM = "to whoever brought them"
NBSP, MINUS = "\N{NO-BREAK SPACE}", "\N{MINUS SIGN}"
JUNK = ["", "x", "-1", "0", "9" * 30, "\0", HOSTILE, "٣", "1.5"]


def address(name, *args):
    return reverse(f"admin:affiliations_referrals_{name}", args=args)


def page(client, name, /, *args, **query):
    response = client.get(address(name, *args), query)
    assert response.status_code == 200, (name, args, query)
    return response.content.decode()


def words(text):
    """Return what a page says, without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split())


def listed(client, name="member", field="user_hash", **query):
    """Return the names that a list shows."""
    text = page(client, f"{name}_changelist", **query)
    found = re.findall(rf'field-{field}"><a href="[^"]*">([^<]+)<', text)
    return sorted(map(unescape, found))


def told(response):
    return [str(message) for message in response.context["messages"]]


def errors(response):
    assert response.status_code == 200
    found = response.context["adminform"].form.errors
    return {name: [unescape(each) for each in said] for name, said in found.items()}


def staff_with(client, *codenames):
    """Log somebody in who may do this and nothing else."""
    user = make_user()
    user.is_staff = True
    user.save()
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)
    return client


def form(**fields):
    """Return what the browser sends for a program."""
    return {
        "name": "Bring a friend",
        "active": "on",
        "currency": "EUR",
        "credit_minor": "5",
        "target_minor": "100.00",
        "reward_minor": "20",
        "depth": "1",
        "max_per_indicator": "",
        "max_referrals": "",
        "valid_from": "",
        "valid_until": "",
        **fields,
    }


def add(client, **fields):
    return client.post(address("program_add"), form(**fields), follow=True)


def change(client, program, **fields):
    return client.post(address("program_change", program.pk), form(**fields), follow=True)


class TestProgramForm:
    def test_sums_are_typed_in_major_units(self, admin_client):
        assert add(admin_client).redirect_chain
        program = Program.objects.get()
        assert (program.credit, program.target, program.reward) == tuple(
            map(euros, ("5.00", "100.00", "20.00"))
        )
        assert LogEntry.objects.get().action_flag == ADDITION
        text = page(admin_client, "program_change", program.pk)
        for name, typed in [("credit", "5.00"), ("target", "100.00"), ("reward", "20.00")]:
            assert re.search(rf'name="{name}_minor" value="{typed}"', text)

    def test_the_currency_is_that_of_the_settings_at_first(self, admin_client, settings):
        settings.AFFILIATE_REFERRALS_CURRENCY = "BRL"
        assert '<option value="BRL" selected>' in page(admin_client, "program_add")

    def test_as_the_currency_has_them(self, admin_client):
        add(admin_client, currency="JPY", credit_minor="500", target_minor="7", reward_minor="")
        program = Program.objects.get()
        assert (program.credit_minor, program.reward_minor, program.reward.minor) == (500, None, 7)
        add(admin_client, currency="KWD", credit_minor="0.125")
        assert Program.objects.latest("pk").credit_minor == 125

    @pytest.mark.parametrize(
        ("field", "typed"),
        [
            ("name", ""),
            ("name", "x" * 201),
            ("name", "a\0b"),
            ("currency", "eur"),
            ("currency", ""),
            ("credit_minor", "-1"),
            ("credit_minor", "0.001"),
            ("credit_minor", "NaN"),
            ("credit_minor", "1e999"),
            ("target_minor", ""),
            ("target_minor", "9" * 30),
            ("reward_minor", HOSTILE),
            ("depth", "0"),
            ("depth", "11"),
            ("depth", "9" * 30),
            ("max_per_indicator", "-1"),
            ("max_referrals", "9" * 30),
            ("valid_from", "tomorrow"),
        ],
    )
    def test_what_is_wrong_is_said_of_its_field(self, admin_client, field, typed):
        assert [*errors(add(admin_client, **{field: typed}))] == [field]
        assert not Program.objects.exists()

    def test_it_ends_after_it_begins(self, admin_client):
        times = {"valid_from": "2026-11-20T10:00", "valid_until": "2026-11-20T10:00"}
        assert [*errors(add(admin_client, **times))] == ["valid_until"]

    def test_the_currency_stays_once_there_are_members(self, admin_client):
        program = make_program()
        change(admin_client, program, currency="USD")
        program.refresh_from_db()
        assert program.currency == "USD"
        make_member(program=program)
        text = page(admin_client, "program_change", program.pk)
        assert re.search(r"<select name=\"currency\"[^>]* disabled", text)
        change(admin_client, program, currency="EUR", credit_minor="7")
        program.refresh_from_db()
        assert (program.currency, program.credit_minor) == ("USD", 700)
        assert LogEntry.objects.filter(action_flag=CHANGE).count() == 2

    def test_it_warns_that_members_keep_what_was_promised(self, admin_client):
        program = make_program()
        warning = "Members keep what was promised when they registered."
        assert warning not in words(page(admin_client, "program_change", program.pk))
        anna = make_member(program=program)
        assert warning in words(page(admin_client, "program_change", program.pk))
        change(admin_client, program, target_minor="999")
        anna.refresh_from_db()
        assert anna.target == euros(100)

    def test_a_currency_that_there_is_not(self, admin_client):
        program = make_program()
        Program.objects.filter(pk=program.pk).update(currency="XXX")
        assert "500 XXX" in words(page(admin_client, "program_change", program.pk))
        assert listed(admin_client, "program", "name") == [program.name]


class TestPromise:
    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            (
                {},
                f"5.00 EUR at sign-up; 20.00 EUR {WHOM}, once they have paid 100.00 EUR",
            ),
            ({"credit_minor": 0, "target_minor": 0}, "20.00 EUR to whoever brought them"),
            ({"reward_minor": 0}, "5.00 EUR at sign-up"),
            (
                {"credit_minor": 0, "reward_minor": None},
                "100.00 EUR to whoever brought them, once they have paid 100.00 EUR",
            ),
            ({"credit_minor": 0, "target_minor": 0, "reward_minor": None}, "nothing"),
        ],
    )
    def test_it_is_said_in_words(self, admin_client, fields, said):
        program = make_program(**fields)
        assert wording.promise(program).replace(NBSP, " ") == said
        assert said in words(page(admin_client, "program_changelist")).replace(NBSP, " ")

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({}, "active"),
            ({"active": False}, "not active"),
            ({"valid_until": timezone.now() - timedelta(days=1)}, "ended"),
            ({"valid_from": timezone.now() + timedelta(days=1)}, "begins later"),
            ({"valid_until": timezone.now() + timedelta(days=1)}, "active"),
        ],
    )
    def test_its_state(self, admin_client, fields, said):
        program = make_program(**fields)
        badge = re.search(r'aff-badge aff-\w+">([^<]+)<', page(admin_client, "program_changelist"))
        assert badge[1] == said
        assert page(admin_client, "program_change", program.pk)

    def test_a_hostile_name_harms_nothing(self, admin_client):
        program = make_program(name=HOSTILE)
        for text in (
            page(admin_client, "program_changelist"),
            page(admin_client, "program_change", program.pk),
            page(admin_client, "member_changelist"),
        ):
            assert HOSTILE not in text


class TestProgramFigures:
    def test_what_has_come_of_it(self, admin_client):
        program = make_program()
        anna = make_member(program=program)
        ben, carl = make_member(anna), make_member(anna)
        invoices.report_total(ben, euros(100))
        make_member(anna, program=make_program())
        said = words(page(admin_client, "program_change", program.pk))
        assert "Members 3" in said
        assert "Brought by others 2" in said
        assert "Have reached the target 1" in said
        assert "Credited at sign-up 10.00 EUR" in said
        assert "Promised, not yet earned 20.00 EUR" in said
        assert "Earned 20.00 EUR" in said
        assert "3 have registered in the last 30 days" in said
        assert carl.program == program

    def test_by_day(self):
        program = make_program()
        anna = make_member(program=program)
        ben = make_member(anna)
        long_ago, yesterday = (timezone.now() - timedelta(days=n) for n in (40, 1))
        Member.objects.filter(pk=anna.pk).update(registered_on=long_ago)
        Member.objects.filter(pk=ben.pk).update(registered_on=yesterday)
        make_member(program=program)
        days = programs_admin.last_days()
        found = programs_admin.registered_by_day(Member.objects.filter(program=program), days)
        assert [each[-2:] for each in found] == [[1, 1], [1, 0]]
        assert [sum(each) for each in found] == [2, 1]

    def test_a_list_of_many_costs_as_much_as_of_one(self, admin_client):
        def cost():
            with CaptureQueriesContext(connection) as queries:
                text = page(admin_client, "program_changelist")
            assert f"?program__id__exact={program.pk}" in text
            return len(queries)

        program = make_program()
        make_member(program=program)
        before = cost()
        for _ in range(5):
            make_member(program=make_program())
        assert cost() == before


class TestDeleting:
    def test_one_without_members(self, admin_client):
        program = make_program()
        admin_client.post(address("program_delete", program.pk), {"post": "yes"})
        assert not Program.objects.exists()

    @pytest.mark.parametrize("method", ["get", "post"])
    def test_one_with_members_stays_and_it_is_said_what_to_do(self, admin_client, method):
        program = make_member(program=make_program()).program
        ask = getattr(admin_client, method)
        response = ask(address("program_delete", program.pk), {"post": "yes"}, follow=True)
        assert response.redirect_chain == [(address("program_change", program.pk), 302)]
        [said] = told(response)
        assert "Take the tick at “Active” away" in said
        assert Program.objects.exists()

    def test_somebody_registers_while_it_is_being_deleted(self, admin_client, monkeypatch):
        program = make_member(program=make_program()).program
        monkeypatch.setattr(programs_admin, "has_members", lambda program: False)
        monkeypatch.setattr(
            programs_admin.ProgramAdmin, "get_deleted_objects", lambda *args: ([], {}, set(), [])
        )
        url = address("program_delete", program.pk)
        response = admin_client.post(url, {"post": "yes"}, follow=True)
        assert "it cannot be deleted" in told(response)[0]
        assert Program.objects.exists()

    def test_many_at_once_cannot_be(self, admin_client):
        make_program()
        assert "delete_selected" not in page(admin_client, "program_changelist")


class TestMemberList:
    @pytest.fixture(autouse=True)
    def some(self):
        self.first, self.second = make_program(), make_program()
        self.anna = services.register("anna-1", program=self.first, user=make_user("annas-name"))
        self.ben = services.register("anna-2", indicator=self.anna)
        self.carl = services.register("carl", indicator=self.ben, program=self.second)

    @pytest.mark.parametrize(
        ("term", "found"),
        [
            ("anna-1", ["anna-1"]),
            (" carl ", ["carl"]),
            ("anna", ["anna-1", "anna-2"]),
            ("annas-n", ["anna-1"]),
            ("ANNA-1", []),
            ("nna", []),
            ("%", []),
            ("_arl", []),
            ("änna", []),
            ("\0", ["anna-1", "anna-2", "carl"]),
            (HOSTILE, []),
            ("x" * 5000, []),
        ],
    )
    def test_it_finds_by_how_a_hash_or_a_name_begins(self, admin_client, term, found):
        assert listed(admin_client, q=term) == found

    def test_it_finds_a_share_code(self, admin_client):
        assert listed(admin_client, q=self.carl.code) == ["carl"]
        assert listed(admin_client, q=self.carl.code[:8]) == ["carl"]

    def test_filters(self, admin_client):
        assert listed(admin_client, program__id__exact=self.second.pk) == ["carl"]
        assert listed(admin_client, indicator="yes") == ["anna-2", "carl"]
        assert listed(admin_client, indicator="no") == ["anna-1"]

    @pytest.mark.parametrize("junk", JUNK)
    def test_junk_harms_nothing(self, admin_client, junk):
        for name in ("q", "program__id__exact", "indicator", "p", "o", "all", "no-such"):
            for model in ("program", "member"):
                url = address(f"{model}_changelist")
                assert admin_client.get(url, {name: junk}).status_code in (200, 302)
        for row in (self.anna, self.first):
            url = address(f"{row._meta.model_name}_change", row.pk)
            for name in ("before", "brought", "_changelist_filters"):
                assert admin_client.get(url, {name: junk}).status_code == 200
        for model in ("program", "member"):
            for what in ("change", "delete", "history"):
                url = f"/admin/affiliations_referrals/{model}/{junk or 'none'}/{what}/"
                assert admin_client.get(url.replace("\0", "%00")).status_code < 500

    def test_a_list_of_many_costs_as_much_as_of_one(self, admin_client):
        def cost():
            with CaptureQueriesContext(connection) as queries:
                page(admin_client, "member_changelist")
            return len(queries)

        before = cost()
        for _ in range(5):
            make_member(self.ben, user=make_user())
        assert cost() == before


class TestAddingAMember:
    def post(self, client, **fields):
        data = {"user_hash": "anna", "program": "", "user": "", **fields}
        return client.post(address("member_add"), data, follow=True)

    def test_the_first_one(self, admin_client):
        program, user = make_program(), make_user()
        response = self.post(admin_client, program=program.pk, user=user.pk)
        assert response.redirect_chain == [(address("member_changelist"), 302)]
        anna = Member.objects.get()
        assert (anna.user_hash, anna.program, anna.user) == ("anna", program, user)
        assert anna.indicator is None
        assert anna.target == euros(100)
        assert [each.kind for each in Operation.objects.all()] == ["signup"]
        assert LogEntry.objects.get().object_id == str(anna.pk)

    @pytest.mark.parametrize(
        ("field", "typed"),
        [
            *(("user_hash", each) for each in ["", "a b", "ä", "x" * 201, "a\0", "taken"]),
            *(("program", each) for each in ["", "x", "9" * 30, "\0"]),
            *(("user", each) for each in ["x", "9" * 30, "\0", "-1"]),
        ],
    )
    def test_what_is_wrong_is_said_of_its_field(self, admin_client, field, typed):
        services.register("taken", program=make_program())
        fields = {"program": Program.objects.get().pk, field: typed}
        assert [*errors(self.post(admin_client, **fields))] == [field]
        assert Member.objects.count() == 1

    def test_a_user_who_is_a_member(self, admin_client):
        user = make_user()
        program = services.register("taken", program=make_program(), user=user).program
        found = errors(self.post(admin_client, program=program.pk, user=user.pk))
        assert [*found] == ["user"]

    @pytest.mark.parametrize(
        "fields",
        [
            {"active": False},
            {"valid_until": timezone.now() - timedelta(days=1)},
            {"valid_from": timezone.now() + timedelta(days=1)},
        ],
    )
    def test_a_program_that_is_not_open(self, admin_client, fields):
        over = make_program(**fields)
        assert [*errors(self.post(admin_client, program=over.pk))] == ["program"]

    def test_somebody_is_faster(self, admin_client, monkeypatch):
        program = services.register("anna", program=make_program()).program
        monkeypatch.setattr(members_admin.MemberForm, "validate_unique", lambda form: None)
        monkeypatch.setattr(Member, "validate_constraints", lambda *args, **options: None)
        response = self.post(admin_client, program=program.pk)
        assert response.redirect_chain == [(address("member_add"), 302)]
        assert told(response) == ["user_hash: is registered already"]
        assert Member.objects.count() == 1


class TestMemberPage:
    def test_what_it_says(self, admin_client):
        make_program()
        anna = services.register("anna", user=make_user("annas-name"))
        ben = make_member(anna)
        make_member(ben)
        invoices.report_total(ben, euros(40))
        said = words(page(admin_client, "member_change", ben.pk)).replace(NBSP, " ")
        assert f"Share code {ben.code}" in said
        assert "Brought by anna" in said
        assert "40.00 EUR of 100.00 EUR: 60.00 EUR to go." in said
        assert "Whoever brought them is credited 20.00 EUR then." in said
        assert "Has brought 1" in said
        assert "Balance 25.00 EUR Available 5.00 EUR Promised 20.00 EUR" in said
        text = page(admin_client, "member_change", ben.pk)
        assert 'max="100" value="40"' in text
        account = Account.objects.get(holder=ben.holder)
        assert reverse("admin:affiliations_rewards_account_change", args=[account.pk]) in text
        said = words(page(admin_client, "member_change", anna.pk))
        assert "User annas-name" in said
        assert "They came by themselves" in said
        invoices.report_total(ben, euros(100))
        said = words(page(admin_client, "member_change", ben.pk)).replace(NBSP, " ")
        assert "100.00 EUR: the target of 100.00 EUR is reached." in said
        assert "Whoever brought them was credited 20.00 EUR on" in said

    def test_its_statement_adds_up(self, admin_client):
        make_program()
        anna = make_member()
        ben, carl = make_member(anna), make_member(anna)
        invoices.report_total(ben, euros(100))
        response = admin_client.get(address("member_change", anna.pk))
        rows = [
            (each["kind"], each["amount"], each["sum"])
            for each in response.context["statement"]["rows"]
        ]
        assert rows == [
            ("acquired credit", f"+20.00{NBSP}EUR", f"40.00{NBSP}EUR"),
            ("potential credit", f"{MINUS}20.00{NBSP}EUR", f"20.00{NBSP}EUR"),
            ("potential credit", f"+20.00{NBSP}EUR", f"40.00{NBSP}EUR"),
            ("indication", "–", "–"),
            ("potential credit", f"+20.00{NBSP}EUR", f"20.00{NBSP}EUR"),
            ("indication", "–", "–"),
            ("sign-up", "–", "–"),
        ]
        assert carl.user_hash in response.content.decode()
        for each in response.context["statement"]["rows"]:
            if each["entry_url"]:
                path, _, mark = each["entry_url"].partition("#")
                assert f'id="{mark}"' in admin_client.get(path).content.decode()

    def test_a_statement_in_two_currencies_keeps_them_apart(self, admin_client):
        anna = make_member()
        make_member(anna)
        make_member(anna, program=make_program(currency="JPY", reward_minor=7))
        response = admin_client.get(address("member_change", anna.pk))
        rows = [each["sum"] for each in response.context["statement"]["rows"] if each["entry_url"]]
        assert rows == [f"7{NBSP}JPY", f"20.00{NBSP}EUR"]

    def test_pages_are_turned_apart(self, admin_client, monkeypatch):
        monkeypatch.setattr(members_admin, "MOST_BROUGHT", 2)
        monkeypatch.setattr(members_admin, "MOST_OPERATIONS", 3)
        make_program()
        anna = make_member()
        brought = [make_member(anna) for _ in range(5)]
        url = address("member_change", anna.pk)
        seen, query = [], ""
        while True:
            context = admin_client.get(f"{url}{query}").context
            seen += [words(each["link"]) for each in context["brought"]["rows"]]
            first = context["statement"]["rows"]
            assert len(first) == 3
            query = context["brought"]["older"]
            if not query:
                break
        assert seen == [each.user_hash for each in reversed(brought)]
        assert context["brought"]["newest"] == "?"
        seen, query = [], "?brought=" + str(brought[2].pk)
        while query:
            context = admin_client.get(f"{url}{query}").context
            seen += [(each["kind"], each["sum"]) for each in context["statement"]["rows"]]
            assert len(context["brought"]["rows"]) == 2
            query = context["statement"]["older"]
        assert len(seen) == 11
        sums = [each for kind, each in seen if kind == "potential credit"]
        assert sums == [f"{20 * n}.00{NBSP}EUR" for n in (5, 4, 3, 2, 1)]

    def test_it_costs_the_same_however_many_they_have_brought(self, admin_client):
        def cost():
            with CaptureQueriesContext(connection) as queries:
                page(admin_client, "member_change", anna.pk)
            return len(queries)

        make_program()
        anna = make_member()
        make_member(anna)
        before = cost()
        assert before <= 24
        for _ in range(60):
            make_member(anna)
        assert cost() == before

    def test_somebody_who_was_imported(self, admin_client):
        anna = make_member(program=make_program())
        found = importing.Import()
        found.check(importing.read(BytesIO(f"ben|{anna.user_hash}\n".encode())), lambda *far: None)
        found.make(lambda *far: None)
        found.close()
        ben = services.find_member("ben")
        said = words(page(admin_client, "member_change", ben.pk))
        assert "Nothing was promised for them" in said
        assert "Nothing so far." in said

    def test_a_target_of_nothing_is_reached(self, admin_client):
        anna = make_member(program=make_program(target_minor=0))
        ben = make_member(anna)
        assert 'value="100"' in page(admin_client, "member_change", ben.pk)

    def test_an_account_that_is_owed_to_the_site(self, admin_client):
        anna = make_member(program=make_program())
        ledger.post(ledger.account_of(anna.holder, "EUR"), euros(-3), kind="adjustment", key="less")
        said = words(page(admin_client, "member_change", anna.pk))
        assert f"{MINUS}3.00 EUR: owed to the site" in said


class TestWhoMayDoWhat:
    def test_nobody_else_sees_any_of_it(self, client):
        anna = make_member(program=make_program())
        staff_with(client)
        for model, row in (("member", anna), ("program", anna.program)):
            assert client.get(address(f"{model}_changelist")).status_code == 403
            assert client.get(address(f"{model}_add")).status_code == 403
            assert client.get(address(f"{model}_change", row.pk)).status_code == 403
            assert client.get(address(f"{model}_delete", row.pk)).status_code == 403

    def test_who_may_look(self, client):
        anna = make_member(program=make_program())
        staff_with(client, "view_member", "view_program")
        assert "promised" in page(client, "program_change", anna.program.pk)
        assert page(client, "member_change", anna.pk)
        assert change(client, anna.program, name="Other").status_code == 403
        assert client.get(address("program_delete", anna.program.pk)).status_code == 403
        assert client.get(address("member_add")).status_code == 403

    def test_nobody_edits_or_deletes_a_member(self, admin_client):
        anna = make_member(program=make_program())
        assert admin_client.get(address("member_delete", anna.pk)).status_code == 403
        url = address("member_change", anna.pk)
        assert admin_client.post(url, {"user_hash": "other"}).status_code == 403
        assert Member.objects.get() == anna

    def test_who_may_add_members_only(self, client):
        program = make_program()
        staff_with(client, "add_member")
        data = {"user_hash": "anna", "program": program.pk, "user": ""}
        response = client.post(address("member_add"), data)
        assert response.status_code == 302
        assert Member.objects.get().user_hash == "anna"
