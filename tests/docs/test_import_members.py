"""The page about the import of members: what it shows works, and what it says of it is so."""

import re
from contextlib import suppress
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from affiliations.referrals import importing
from affiliations.referrals.models import Member
from tests.core.factories import make_user
from tests.docs.test_docs import DOCS, code, commands, quoted, rows, text
from tests.referrals.factories import make_program

pytestmark = pytest.mark.django_db

PAGE = DOCS / "how-to" / "import-members.md"


@pytest.fixture
def run(tmp_path):
    """Have a block of the page imported."""
    make_program(name="Bring a friend")

    def run(block, *options):
        path = tmp_path / "members.txt"
        path.write_text(block)
        err = StringIO()
        with suppress(CommandError):
            call_command("import_members", str(path), *options, stdout=StringIO(), stderr=err)
        return err.getvalue().strip()

    return run


def test_the_columns_and_options_are_those_of_the_code():
    shown = [name for cells in rows(PAGE)[1:] for name in quoted(cells[0])]
    assert tuple(shown) == importing.COLUMNS
    there = {
        each for each in commands("affiliations.referrals")["import_members"] if each[0] == "-"
    }
    assert {*re.findall(r"(?<=[ `])--[a-z-]+", text(PAGE))} == there
    assert f"made {importing.AT_ONCE} at a time" in text(PAGE)


def test_the_predecessors_lines(run):
    assert run(code("docs/how-to/import-members.md", "lines")) == ""
    relations = dict(Member.objects.values_list("user_hash", "indicator__user_hash"))
    assert relations == {"anna": None, "ben": "anna", "carl": "ben"}


def test_a_table(run):
    user = make_user("anna")
    assert run(code("docs/how-to/import-members.md", "table")) == ""
    assert Member.objects.get(user=user).registered_on.year == 2019
    assert Member.objects.get(user_hash="ben").indicator.user == user


def test_what_is_said_to_be_wrong(run):
    assert run(code("docs/how-to/import-members.md", "wrong")) == code(
        "docs/how-to/import-members.md", "said"
    )
    assert not Member.objects.exists()
