"""CSV: nothing in it runs, and no table is too long for it."""

import csv
from decimal import Decimal
from io import StringIO
from itertools import count, islice

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncRequestFactory, RequestFactory
from hypothesis import given
from hypothesis import strategies as st

from affiliations import csvexport
from affiliations.csvexport import cell, lines, response


def read(data):
    return list(csv.reader(StringIO(data.decode("utf-8-sig"), newline="")))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])
def test_what_would_be_a_formula_is_text(start):
    assert cell(f"{start}1+1") == f"'{start}1+1"


def test_everything_else_is_left_alone():
    assert [cell(value) for value in (None, -5, Decimal("-1.50"), -0.5, "a=b", "", " =1")] == [
        *("", "-5", "-1.50", "-0.5", "a=b", "", " =1")
    ]


@given(
    st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"))), max_size=5)
)
def test_what_is_read_back_is_what_was_written(rows):
    rows = [["-", *row] for row in rows]
    found = read(b"".join(lines(["number"], rows)))
    assert found == [["number"], *([cell(value) for value in row] for row in rows)]
    assert not [text for row in found for text in row if text.startswith(csvexport.FORMULA)]


@given(st.text(st.sampled_from("'=-a\t"), max_size=5))
def test_what_a_cell_holds_is_had_back(text):
    assert csvexport.text_of(cell(text)) == text


def test_rows_are_read_as_they_are_sent():
    taken = count()
    endless = ([next(taken), "x" * 1000] for _ in count())
    chunks = list(islice(lines(["number", "text"], endless), 2))
    assert next(taken) < 200
    assert all(len(chunk) < 2 * csvexport.CHUNK for chunk in chunks)


def test_it_is_saved_as_a_file_and_by_nobody_else():
    answer = response(RequestFactory().get("/"), "a.csv", ["ä"], [[1]])
    assert answer["Content-Disposition"] == 'attachment; filename="a.csv"'
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert "no-store" in answer["Cache-Control"]
    assert b"".join(answer) == b"\xef\xbb\xbf\xc3\xa4\r\n1\r\n"


def test_it_is_streamed_under_asgi_too():
    taken = count()
    endless = ([next(taken), "x" * 1000] for _ in count())
    answer = response(AsyncRequestFactory().get("/"), "a.csv", ["number", "text"], endless)

    async def first():
        return await anext(aiter(answer))

    assert async_to_sync(first)().startswith(b"\xef\xbb\xbfnumber,text\r\n0,xxx")
    assert next(taken) < 200


@pytest.mark.parametrize(
    ("text", "separator"),
    [("a,b\n1;2;3", ","), ("\ufeff\r\na;b,c;d\n", ";"), ("a\tb", "\t"), ("", ","), ("a", ",")],
)
def test_a_files_first_line_tells_by_what_cells_are_parted(text, separator):
    assert csvexport.separator_of(text) == separator
