"""Members out of a file: what can be read, what is wrong with each line, and who is made."""

from datetime import UTC, datetime
from io import BytesIO, StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from affiliations import csvexport
from affiliations.referrals import importing, invoices, services, statements
from affiliations.referrals.exceptions import UnreadableMembers
from affiliations.referrals.models import Member, Operation
from affiliations.referrals.signals import member_registered
from affiliations.rewards.models import Entry
from tests.core.factories import make_user
from tests.referrals.factories import balance, euros, make_member, make_program

FAMILY = "hash,indicator\nanna,\nben,anna\ncarl,ben\n"
RELATIONS = {"anna": None, "ben": "anna", "carl": "ben"}


def relations():
    return dict(Member.objects.values_list("user_hash", "indicator__user_hash"))


def read(data):
    return list(importing.read(BytesIO(data.encode() if isinstance(data, str) else data)))


class TestRead:
    @pytest.mark.parametrize(
        "data",
        [
            "anna|\nben|anna\n",
            "\n anna \n| | ".replace(" anna \n|", "anna|") + "x\nben | anna | 2019 | more",
            "hash,indicator\nanna,\nben,anna\n",
            "\ufeffHASH;Indicator;\r\nanna;;\r\n;;\r\nben;anna\r\n",
            'hash\tindicator\n"anna"\nben\t"anna"',
        ],
    )
    def test_the_many_ways_to_write_the_same(self, data):
        found = [(each["hash"], each.get("indicator") or "") for _, each in read(data)]
        assert found == [("anna", ""), ("ben", "anna")]

    def test_lines_keep_their_numbers(self):
        text = 'hash,user\n\na,"two\nlines"\nb,\n'
        assert [number for number, _ in read(text)] == [3, 5]
        assert [number for number, _ in read("\n\na|\n\nb|a\n")] == [3, 5]

    def test_what_was_exported_can_be_imported(self):
        data = b"".join(csvexport.lines(["hash", "indicator"], [["-a", ""], ["=b", "-a"]]))
        assert [each["hash"] for _, each in read(data)] == ["-a", "=b"]

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            ("", "empty"),
            ("\n \n", "empty"),
            ("anna\nben\n", "name the columns"),
            ("hash,colour\n", "name the columns"),
            ("hash,hash\n", "name the columns"),
            ("user,program\n", "name the columns"),
            (FAMILY.encode("utf-16"), "UTF-16"),
            (b"a|\n\xff|a\n", "Line 2 is not written in UTF-8"),
            ('hash,user\na,b\nc,"d', "Line 3 cannot be read"),
            ("a" * 70_000, "Line 1 is too long"),
        ],
    )
    def test_what_cannot_be_read(self, data, why):
        with pytest.raises(UnreadableMembers, match=why):
            read(data)


@pytest.mark.django_db
class TestImport:
    @pytest.fixture(autouse=True)
    def file(self, tmp_path):
        self.path = tmp_path / "members"

    def run(self, data, *options):
        self.path.write_bytes(data.encode() if isinstance(data, str) else data)
        self.err = StringIO()
        out = StringIO()
        call_command("import_members", str(self.path), *options, stdout=out, stderr=self.err)
        return out.getvalue()

    def refused(self, data, *options):
        """Return what is said to be wrong with which line."""
        with pytest.raises(CommandError) as caught:
            self.run(data, *options)
        assert caught.value.returncode == 1
        lines = [each.partition(": ")[::2] for each in self.err.getvalue().splitlines()]
        return {int(name.removeprefix("line ")): text for name, text in lines}, str(caught.value)

    @pytest.mark.parametrize(
        "data",
        [
            FAMILY,
            "anna|\nben|anna\ncarl|ben\n",
            "carl|ben\nben|anna\nanna|\n",
            "ben|anna|whatever\n\ncarl|ben\nanna",
        ],
    )
    def test_who_brought_whom(self, data):
        program = make_program()
        assert self.run(data) == "3 members were made, 0 were there already.\n"
        assert self.err.getvalue() == ""
        assert relations() == RELATIONS
        assert {each.program for each in Member.objects.all()} == {program}
        kinds = Operation.objects.values_list("member__user_hash", "kind", "about__user_hash")
        assert sorted(kinds) == [
            ("anna", "indication", "ben"),
            ("anna", "signup", "anna"),
            ("ben", "indication", "carl"),
            ("ben", "signup", "ben"),
            ("carl", "signup", "carl"),
        ]

    def test_nobody_is_credited_then_or_later_and_nobody_hears_of_it(self, settings):
        settings.AFFILIATE_REFERRALS_BILLING_URL = "https://billing.example/{user_hash}/"
        make_program()
        heard = []
        member_registered.connect(lambda **given: heard.append(given), weak=False, dispatch_uid="i")
        try:
            self.run(FAMILY)
        finally:
            member_registered.disconnect(dispatch_uid="i")
        ben = services.find_member("ben")
        assert (ben.target, ben.credit, ben.reward) == (euros(100), euros(0), euros(0))
        assert not ben.generates_credit
        assert invoices.report_total(ben, euros(1000)) == 0
        assert not Entry.objects.exists()
        assert heard == []
        assert statements.statement(services.find_member("anna")).potential == 0

    def test_whom_they_bring_from_now_on_is_credited(self):
        make_program()
        self.run(FAMILY)
        dora = make_member(services.find_member("carl"))
        assert balance(dora) == (500, 500)
        assert balance(dora.indicator) == (2000, 0)

    def test_with_credit_it_is_as_if_they_registered_now(self):
        make_program()
        self.run("carl|ben\nben|anna\nanna\n", "--credit")
        assert relations() == RELATIONS
        assert balance(services.find_member("ben")) == (2500, 500)
        assert balance(services.find_member("anna")) == (2000, 0)

    def test_what_can_be_said_of_somebody(self):
        first, second = make_program(), make_program(name="Second, of more", currency="USD")
        user = make_user("anna-user")
        self.run(
            "user;hash;registered_on;program;indicator\n"
            f"anna-user;anna;2019-03-04T05:06Z;{first.pk};\n"
            "-;ben;2020-01-01;Second, of more;anna\n".replace("-;ben", ";ben")
        )
        anna, ben = map(services.find_member, ("anna", "ben"))
        assert (anna.user, anna.program, ben.program) == (user, first, second)
        assert (ben.currency, ben.indicator) == ("USD", anna)
        assert anna.registered_on == datetime(2019, 3, 4, 5, 6, tzinfo=UTC)
        assert anna.operations.get(kind="signup").created_on == anna.registered_on

    def test_the_program_of_lines_that_name_none(self):
        first, second = make_program(), make_program()
        wrong, _ = self.refused("anna|\n")
        assert wrong == {1: "program: in which? Name it here, or by --program"}
        self.run("anna|\n", "--program", str(second.pk))
        self.run("ben|\n", "--program", first.name)
        assert services.find_member("anna").program == second
        assert services.find_member("ben").program == first
        make_program(name=first.name)
        for name, why in [("99999", "there is no"), ("\0", "there is no"), (first.name, "several")]:
            _, said = self.refused("carl|\n", "--program", name)
            assert said.startswith("--program: ")
            assert why in said

    def test_a_dry_run_makes_nobody(self):
        make_program()
        said = self.run(FAMILY, "--dry-run")
        assert said == "3 members would be made, 0 are there already.\n"
        assert not Member.objects.exists()

    def test_a_second_run_makes_only_who_is_missing(self):
        make_program()
        self.run("anna|\nben|anna\n")
        before = list(Member.objects.order_by("pk").values())
        assert self.run(FAMILY) == "1 members were made, 2 were there already.\n"
        assert list(Member.objects.order_by("pk").values())[:2] == before
        assert relations() == RELATIONS
        assert self.run(FAMILY) == "0 members were made, 3 were there already.\n"
        assert Operation.objects.count() == 5

    def test_an_interrupted_run_can_be_done_again(self, monkeypatch):
        monkeypatch.setattr(importing, "AT_ONCE", 2)
        make_program()
        note_all = importing._note_all
        calls = []

        def fail_at_third(members):
            calls.append(1)
            if len(calls) == 3:
                raise RuntimeError
            note_all(members)

        monkeypatch.setattr(importing, "_note_all", fail_at_third)
        data = "".join(f"user-{n}|{f'user-{n // 2}' if n else ''}\n" for n in range(12))
        with pytest.raises(RuntimeError):
            self.run(data)
        there = Member.objects.count()
        assert 0 < there < 12
        assert Operation.objects.filter(kind="signup").count() == there
        monkeypatch.setattr(importing, "_note_all", note_all)
        self.run(data)
        assert relations() == {f"user-{n}": f"user-{n // 2}" if n else None for n in range(12)}
        assert Operation.objects.count() == 12 + 11

    def test_what_is_wrong_with_which_line(self):
        make_program()
        taken, free = make_user("taken"), make_user("free")
        make_member(user=taken)
        there = make_member(make_member())
        text = [
            "hash,indicator,program,user,registered_on",
            "good,,,,",
            "good,there,,,",
            "b b,,,,",
            f"{'x' * 201},,,,",
            ",good,,,",
            "unknown,nobody,,,",
            "self,self,,,",
            "program,,Nowhere,,",
            "user,,,nobody,",
            "nul,,,no\0body,",
            "taken,,,taken,",
            "free,,,free,",
            "free-too,,,free,",
            "date,,,,yesterday",
            f"future,,,,{timezone.now().year + 1}-01-01",
            f"{there.user_hash},good,,,",
            "below,date,,,",
            "deeper,below,,,",
            "one,three,,,",
            "two,one,,,",
            "three,two,,,",
            "beside,two,,,",
            "many,,100%,nobody,%s",
        ]
        wrong, said = self.refused("\n".join(text))
        starts = {number: text.partition(": ")[0] for number, text in wrong.items()}
        assert starts == {
            3: "hash",
            4: "hash",
            5: "hash",
            6: "hash",
            7: "indicator",
            8: "indicator",
            9: "program",
            10: "user",
            11: "user",
            12: "user",
            14: "user",
            15: "registered_on",
            16: "registered_on",
            17: "hash",
            18: "indicator",
            19: "indicator",
            20: "indicator",
            21: "indicator",
            22: "indicator",
            23: "indicator",
            24: "program",
        }
        assert wrong[3] == "hash: line 2 has the same"
        assert wrong[14] == "user: line 13 has the same"
        assert wrong[7] == "indicator: is neither in the file nor a member"
        assert wrong[18] == "indicator: stands in line 15, which cannot be imported"
        assert wrong[19] == "indicator: stands in line 18, which cannot be imported"
        assert wrong[20] == "indicator: they would have brought themselves, over line 22"
        assert wrong[21] == "indicator: they would have brought themselves, over line 20"
        assert wrong[23] == "indicator: stands in line 21, which cannot be imported"
        assert "100%" in wrong[24]
        assert said == "21 of 23 lines cannot be imported, so nobody was made."
        assert Member.objects.filter(user_hash="good").count() == 0
        again, said = self.refused("\n".join(text), "--skip-bad-lines")
        assert again == wrong
        assert said == "21 of 23 lines cannot be imported."
        made = Member.objects.filter(user_hash__in=["good", "free"])
        assert [each.user for each in made.order_by("pk")] == [None, free]
        assert Member.objects.count() == 5

    def test_the_hashes_of_others_differ_in_case(self):
        make_program()
        self.run("anna|\nANNA|anna\nAnna|ANNA\n")
        assert relations() == {"anna": None, "ANNA": "anna", "Anna": "ANNA"}

    def test_with_credit_what_cannot_be_is_said_too(self):
        program = make_program()
        wrong, _ = self.refused("hash,registered_on\nanna,2019-01-01\n", "--credit")
        assert wrong[2].startswith("registered_on: ")
        program.active = False
        program.save()
        wrong, _ = self.refused("anna|\n", "--credit")
        assert wrong[1].startswith("program: ")
        assert self.run("anna|\n").startswith("1 ")

    def test_with_credit_whoever_is_refused_at_last_is_named(self, monkeypatch):
        make_program()
        register = services.register

        def ben_is_there(user_hash, **given):
            if user_hash == "ben":
                raise importing.NotRegistered("user_hash: is 100% registered already")
            return register(user_hash, **given)

        monkeypatch.setattr(services, "register", ben_is_there)
        wrong, said = self.refused(FAMILY, "--credit")
        assert wrong == {
            3: "user_hash: is 100% registered already",
            4: "indicator: is neither in the file nor a member",
        }
        assert said == "2 of 3 lines cannot be imported."
        assert relations() == {"anna": None}

    def test_somebody_who_registers_meanwhile(self, monkeypatch):
        program = make_program()
        make = importing.Import.make

        def too_late(found, progress):
            services.register("ben", program=program)
            return make(found, progress)

        monkeypatch.setattr(importing.Import, "make", too_late)
        _, said = self.refused(FAMILY)
        assert said.endswith("Somebody has registered meanwhile, or was deleted. Run it once more.")
        monkeypatch.undo()
        wrong, _ = self.refused(FAMILY)
        assert wrong == {3: "hash: is a member already, whom another brought"}

    def test_what_cannot_be_read(self):
        _, said = self.refused("hash,colour\n")
        assert said.startswith(f"{self.path}: Its first line")
        with pytest.raises(CommandError, match="No such file"):
            call_command("import_members", f"{self.path}.not")

    def test_it_reads_standard_input_and_shows_how_far_it_is(self, monkeypatch):
        make_program()
        monkeypatch.setattr("affiliations.management.progress.EVERY", 0)
        monkeypatch.setattr(importing, "AT_ONCE", 2)
        monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": BytesIO(FAMILY.encode())}))
        err = StringIO()
        err.isatty = lambda: True
        call_command("import_members", "-", stdout=StringIO(), stderr=err)
        assert "2 lines are checked" in err.getvalue()
        assert "3 of 3 members" in err.getvalue()
        assert relations() == RELATIONS

    def test_a_part_costs_as_much_as_a_line(self, django_assert_max_num_queries):
        make_program()
        data = "".join(f"user-{n}|{'user-0' if n else ''}\n" for n in range(400))
        with django_assert_max_num_queries(24):
            self.run(data)
        assert Member.objects.count() == 400
