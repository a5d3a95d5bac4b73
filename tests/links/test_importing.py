"""Links out of a CSV file: what can be read, what is wrong with each line, and all or none."""

from datetime import UTC, datetime
from io import BytesIO, StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from affiliations import csvexport
from affiliations.links import importing, services
from affiliations.links.exceptions import InvalidLink, UnreadableFile
from affiliations.links.importing import check, make, read
from affiliations.links.models import Link
from tests.core.factories import make_partner
from tests.links.factories import click, make_link

YEARS = [datetime(each, 1, 1) for each in (2000, 2099)]  # noqa: DTZ001 - hypothesis adds it
HEADING = ",".join(importing.COLUMNS)
TWO = "item_id,landing_page\ncourse-1,https://shop.example/1\ncourse-2,https://shop.example/2\n"


def problems(text):
    """Return what is wrong with each line of a file, by its number and column."""
    lines = read(text)
    assert check(lines) == (not any(line.problems for line in lines))
    return {line.number: line.problems for line in lines if line.problems}


def the_only(text):
    """Return the link of a file that has one, and is good."""
    lines = read(text)
    assert check(lines), lines
    [link] = [line.link for line in lines]
    return link


class TestRead:
    @pytest.mark.parametrize(
        "data",
        [
            TWO,
            TWO.encode(),
            b"\xef\xbb\xbf" + TWO.encode(),
            "\ufeff" + TWO,
            TWO.replace("\n", "\r\n"),
            TWO.replace("\n", "\r"),
            TWO.replace(",", ";"),
            TWO.replace(",", "\t"),
            "\r\n \n" + TWO.replace("course-2", "\n;;;\n,,,\ncourse-2").replace(";;;", ""),
            TWO.replace("item_id,landing_page", '"ITEM_ID", "MarketingLandingPage",,'),
            TWO.replace("course-1", '" course-1 "'),
        ],
    )
    def test_the_many_ways_to_write_the_same(self, data):
        assert [line.values for line in read(data)] == [
            {"item_id": f"course-{n}", "landing_page": f"https://shop.example/{n}"} for n in (1, 2)
        ]

    def test_the_documents_own_names(self):
        text = "Item_ID;MarketingLandingPage;CallbackURL;FloorPrice;address\na;b;c;1;x\n"
        assert read(text)[0].values == {
            "item_id": "a",
            "landing_page": "b",
            "callback_url": "c",
            "floor_price": "1",
        }

    def test_lines_have_the_numbers_that_an_editor_shows(self):
        text = '\nitem_id,landing_page\n\n"a\nb",c\n\nd,e\n'
        assert [line.number for line in read(text)] == [4, 7]

    def test_what_was_quoted_against_formulas_is_read_back(self):
        text = "item_id,landing_page\n'=1+1,'https://shop.example/\n"
        assert list(read(text)[0].values.values()) == ["=1+1", "'https://shop.example/"]

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ("", "It is empty"),
            (b"\xef\xbb\xbf\n \n", "It is empty"),
            ("item_id,landing_page\n\n", "no line below"),
            (TWO.encode("utf-16"), "UTF-16"),
            (TWO.encode() + "käse,https://x.example".encode("latin-1"), "Line 4 is not written"),
            ("item_id\nx\n", "The column landing_page is missing"),
            ("item_id,landing_page,mlp,Price\n", "by these names: 'mlp', 'Price'. There are: item"),
            ("item_id,landing_page,LANDING_page\n", "landing_page is there twice"),
            ("item_id,landing_page,MarketingLandingPage\n", "landing_page is there twice"),
            ('item_id,landing_page\nx,"y"z\n', "Line 2 cannot be read"),
            ('item_id,landing_page\nx,y\nx,"y', "Line 3 cannot be read"),
            (f"item_id,landing_page\n{'x' * 200_000},y\n", "Line 2 cannot be read"),
        ],
    )
    def test_what_no_line_can_be_read_from(self, data, words):
        with pytest.raises(UnreadableFile, match=words) as error:
            read(data)
        assert error.value.code == "unreadable-file"
        assert isinstance(error.value, ValueError)

    def test_a_page_takes_so_many(self):
        assert len(read(TWO, most=2)) == 2
        with pytest.raises(
            UnreadableFile, match=r"more than 1 lines\. Use manage\.py import_links"
        ):
            read(TWO, most=1)

    @given(st.binary(max_size=300) | st.binary(max_size=99).map(b"item_id,landing_page\n".__add__))
    def test_no_bytes_break_it(self, data):
        try:
            lines = read(data)
        except UnreadableFile:
            return
        assert lines


@pytest.mark.django_db
class TestCheck:
    def test_all_that_is_wrong_with_every_line_is_said_at_once(self):
        make_link(path="Taken42")
        text = f"""{HEADING}
course,https://shop.example/,,,,,,,,,,
,ftp://x,https://{{x}}.example/,12.345,EUR,nobody99,a b,yesterday,2026-99-01,%,,perhaps
x,https://shop.example/,,1,ABC,,,2026-11-20,2026-11-19,,,,surplus
a,https://shop.example/,,,,,taken42,,,,,
b,https://shop.example/,,,,,Mine,,,,,
c,https://shop.example/,,,,,mINE,,,,,
d,https://shop.example/,,,,,delete,,,,,
"""
        found = problems(text)
        assert list(found) == [3, 4, 5, 6, 7, 8]
        assert set(found[3]) == {
            "item_id",
            "landing_page",
            "callback_url",
            "floor_price",
            "partner",
            "path",
            "valid_from",
            "valid_until",
            "adds",
            "active",
        }
        assert set(found[4]) == {"", "currency", "valid_until"}
        assert found[5] == {"path": [services.PATH_TAKEN]}
        assert found[6] == {"path": ["Line 7 has the same path."]}
        assert found[7] == {"path": ["Line 6 has the same path."]}
        assert found[8] == {"path": ["This name is taken by the API."]}
        assert Link.objects.count() == 1

    def test_an_empty_cell_is_as_one_that_is_not_there(self, settings):
        settings.AFFILIATE_LINKS_CURRENCY = "EUR"
        for text in (f"{HEADING}\nx,https://shop.example/,,,,,,,,,,\n", TWO.rpartition("c")[0]):
            link = the_only(text)
            plain = Link(item_id="x", landing_page="https://shop.example/", path=link.path)
            for name in ("floor_minor", "currency", "partner", "adds", "passes", "active"):
                assert getattr(link, name) == getattr(plain, name), name
            assert len(link.path) == 8

    def test_everything_that_can_be_said(self):
        partner = make_partner()
        link = the_only(
            f"{HEADING}\ncourse,https://Shop.example/x?a=b,"
            f"https://net.example/?t={{transaction_id}},12.50,eur,{partner.uid},Spring-26,"
            "2026-03-01,2026-06-01T12:30+02:00,?utm_source=anna,gclid aff_sub,OFF\n"
        )
        assert (link.landing_page, link.path) == ("https://shop.example/x?a=b", "Spring-26")
        assert (link.floor_minor, link.currency, link.partner) == (1250, "EUR", partner)
        assert (link.adds, link.passes, link.active) == (
            "utm_source=anna",
            "gclid aff_sub",
            False,
        )
        assert link.valid_until == datetime(2026, 6, 1, 10, 30, tzinfo=UTC)

    @pytest.mark.parametrize("count", [1, 400])
    def test_it_takes_the_same_queries_however_many_lines(self, django_assert_num_queries, count):
        partner = make_partner()
        rows = [f"x,https://shop.example/{n},{partner.uid},path-{n}\n" for n in range(count)]
        lines = read("item_id,landing_page,partner,path\n" + "".join(rows))
        # The partners; which paths are taken.
        with django_assert_num_queries(2):
            assert check(lines)

    @given(
        st.lists(
            st.text(max_size=30)
            | st.sampled_from(["\0", "9" * 5000, "1e400", "NaN", "-1", "\ud800", "'=x", "-", "é"]),
            min_size=len(importing.COLUMNS),
            max_size=len(importing.COLUMNS),
        )
    )
    def test_no_cells_break_it(self, row):
        quoted = ",".join('"' + cell.replace('"', '""') + '"' for cell in row)
        try:
            lines = read(f"{HEADING}\n{quoted}\n")
        except UnreadableFile:
            return
        check(lines)


@pytest.mark.django_db
class TestMake:
    def test_all_are_made_and_lead_on_at_once(self, client):
        lines = read(TWO.replace("landing_page", "landing_page,path", 1).replace("/1", "/1,one"))
        assert click(client, "one").status_code == 404  # and that is remembered
        assert check(lines)
        assert not Link.objects.exists()
        made = make(lines)
        assert [link.item_id for link in made] == ["course-1", "course-2"]
        assert [link.pk for link in made] == sorted(Link.objects.values_list("pk", flat=True))
        assert click(client, "one").url == "https://shop.example/1"

    def test_none_is_made_where_one_path_was_taken_since(self):
        lines = read(
            "item_id,landing_page,path\na,https://a.example/,a42\nb,https://b.example/,b42"
        )
        assert check(lines)
        make_link(path="b42")
        with pytest.raises(InvalidLink):
            make(lines)
        assert list(Link.objects.values_list("path", flat=True)) == ["b42"]
        assert connection.is_usable()

    @given(
        floor=st.integers(0, 2**63 - 1),
        currency=st.sampled_from(["EUR", "JPY", "KWD"]),
        item=st.text(st.characters(codec="utf-8"), min_size=1, max_size=50),
        adds=st.sampled_from(["", "a=b", "utm_source=ann%C3%A4&x="]),
        passes=st.sampled_from(["*", "", "a b"]),
        active=st.booleans(),
        since=st.none() | st.datetimes(*YEARS, timezones=st.just(UTC)),
    )
    def test_what_was_exported_is_imported_as_the_same(
        self, floor, currency, item, adds, passes, active, since
    ):
        item = item.strip()
        if not item or not item.isprintable():
            return
        link = Link(
            item_id=item,
            landing_page="https://shop.example/?a=b,c",
            callback_url="https://net.example/?t={transaction_id}",
            floor_minor=floor,
            currency=currency,
            adds=adds,
            passes=passes,
            active=active,
            valid_from=since,
        )
        heading = (*importing.COLUMNS, "address")
        file = b"".join(csvexport.lines(heading, [[*importing.cells(link), "https://x/"]]))
        again = the_only(file)
        assert importing.cells(again) == importing.cells(link)


@pytest.mark.django_db
class TestCommand:
    def run(self, path, *options):
        out, err = StringIO(), StringIO()
        call_command("import_links", str(path), *options, stdout=out, stderr=err)
        return out.getvalue(), err.getvalue()

    @pytest.fixture
    def file(self, tmp_path):
        path = tmp_path / "links.csv"
        path.write_text(TWO)
        return path

    def test_it_makes_them_and_prints_their_paths(self, file):
        out, err = self.run(file)
        assert err == "2 links were made.\n"
        paths = dict(line.split("\t") for line in out.splitlines())
        assert paths == dict(Link.objects.values_list("path", "item_id"))
        assert sorted(paths.values()) == ["course-1", "course-2"]

    def test_a_dry_run_makes_none(self, file):
        assert self.run(file, "--dry-run") == ("2 links would be made.\n", "")
        assert not Link.objects.exists()

    def test_it_reads_standard_input(self, monkeypatch):
        stdin = type("Stdin", (), {"buffer": BytesIO(TWO.encode())})
        monkeypatch.setattr("sys.stdin", stdin)
        self.run("-")
        assert Link.objects.count() == 2

    def test_it_says_all_that_is_wrong_and_makes_none(self, file):
        file.write_text(TWO + "x,nowhere\n,https://shop.example/,more\n")
        err = StringIO()
        with pytest.raises(CommandError, match="2 of 4 lines cannot be imported, so none was"):
            call_command("import_links", str(file), stderr=err)
        assert [line.partition(": ")[0] for line in err.getvalue().splitlines()] == [
            "line 4",
            "line 5",
            "line 5",
        ]
        assert "line 4: landing_page: " in err.getvalue()
        assert "line 5: “more” stands in a column without a name.\n" in err.getvalue()
        assert not Link.objects.exists()

    def test_what_cannot_be_read(self, file, tmp_path):
        with pytest.raises(CommandError, match="No such file"):
            self.run(tmp_path / "nothing.csv")
        file.write_bytes(TWO.encode("utf-16"))
        with pytest.raises(CommandError, match="UTF-16"):
            self.run(file)

    def test_a_terminal_shows_how_far_it_is(self, file, monkeypatch):
        monkeypatch.setattr("affiliations.management.progress.EVERY", 0)
        err = StringIO()
        err.isatty = lambda: True
        call_command("import_links", str(file), stdout=StringIO(), stderr=err)
        assert "2 of 2 lines are checked" in err.getvalue()
        assert "2 of 2 links" in err.getvalue()
