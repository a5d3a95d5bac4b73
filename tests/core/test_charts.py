"""The drawings: well-formed, told in words, and as tall as what they show."""

from datetime import date, timedelta
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affiliations import charts
from affiliations.charts import Series, daily, sparkline, table

DAYS = [date(2026, 11, 1) + timedelta(days=n) for n in range(30)]
counts = st.lists(st.integers(0, 10**9), min_size=30, max_size=30)


def svg(text):
    """Parse a drawing as a browser would, and see that it is one that anybody can take in."""
    drawing = ElementTree.fromstring(str(text))
    assert drawing.tag == "svg"
    assert drawing.get("role") == "img"
    assert drawing.get("aria-label") == drawing.findtext("title") != ""
    for each in drawing.iter():
        assert each.tag not in ("script", "style", "foreignObject", "a")
        assert not [name for name in each.attrib if name.startswith("on") or name == "style"]
    return drawing


def columns(drawing):
    """Return the heights of the columns that stand for something."""
    paths = [each.get("d") for each in drawing.iter("path") if each.get("class") == "aff-bar"]
    return [float(part.partition("h")[0]) for path in paths for part in path.split("v-")[1:]]


@given(counts)
def test_a_sparkline_has_a_column_for_each_day_that_counts(values):
    drawing = svg(sparkline(values, title="Visitors"))
    heights = columns(drawing)
    assert len(heights) == sum(value > 0 for value in values)
    assert all(2 <= height <= charts.SPARK_HEIGHT for height in heights)
    if heights:
        assert max(heights) == charts.SPARK_HEIGHT


@given(counts, counts)
def test_a_chart_stays_within_its_panels(visitors, conversions):
    drawing = svg(
        daily(DAYS, [Series("Visitors", visitors), Series("Conversions", conversions)], title="T")
    )
    assert all(2 <= height <= charts.PANEL for height in columns(drawing))
    _, _, width, height = map(float, drawing.get("viewBox").split())
    for text in drawing.iter("text"):
        assert 0 <= float(text.get("x")) <= width
        assert 0 <= float(text.get("y")) <= height
    pointed = [each.findtext("title") for each in drawing.iter("rect")]
    assert pointed[0] == f"November 1: Visitors {visitors[0]}, Conversions {conversions[0]}"
    assert len(pointed) == 30


def test_nothing_counted_looks_intended():
    nothing = [0] * 30
    assert columns(svg(sparkline(nothing, title="None"))) == []
    drawing = svg(daily(DAYS, [Series("Visitors", nothing)], title="None"))
    assert columns(drawing) == []
    assert next(drawing.iter("text")).text == "Visitors: 0"
    assert float(drawing.get("viewBox").split()[3]) < 120
    svg(sparkline([], title="None"))
    svg(daily([], [], title="None"))


@pytest.mark.parametrize(
    ("highest", "ceiling"),
    [(1, "1"), (3, "5"), (10, "10"), (11, "20"), (999, "1k"), (7001, "10k"), (2_000_000, "2000k")],
)
def test_the_scale_ends_at_a_round_number(highest, ceiling):
    drawing = svg(daily(DAYS, [Series("Visitors", [highest] + [0] * 29)], title="T"))
    assert ceiling in [text.text for text in drawing.iter("text")]


def test_the_table_says_the_same():
    text = table(DAYS, [Series("<b>", range(30)), Series("C", [0] * 30)], caption="A & B")
    rows = list(ElementTree.fromstring(str(text)).iter("tr"))
    assert [cell.text for cell in rows[0]] == ["Day", "<b>", "C"]
    assert [cell.text for cell in rows[1]] == ["Nov. 30, 2026", "29", "0"]
    assert len(rows) == 31


def test_names_are_text():
    hostile = "</title><script>alert(1)</script>"
    svg(sparkline([1], title=hostile))
    svg(daily(DAYS, [Series(hostile, [1] * 30)], title=hostile))


@given(st.lists(st.integers(-(10**30), 10**30), max_size=9))
def test_differences_go_to_the_side_of_their_sign_and_stay_within(values):
    rows = [charts.Difference(f"N{n}", value, f"{value:+}") for n, value in enumerate(values)]
    drawing = svg(charts.differences(rows, title="Differences"))
    _, _, width, height = map(float, drawing.get("viewBox").split())
    bars = list(drawing.iter("rect"))
    assert len(bars) == len(values)
    for value, bar in zip(values, bars, strict=True):
        left, wide = float(bar.get("x")), float(bar.get("width"))
        assert bar.get("class") == ("aff-less" if value < 0 else "aff-more")
        assert 0 <= left <= left + wide <= width
        assert (left + wide if value < 0 else left) == width / 2
        assert (wide >= 2) == (value != 0)
        assert float(bar.get("y")) + float(bar.get("height")) <= height
    widest = max((float(bar.get("width")) for bar in bars), default=0)
    assert widest in (0, width / 2)
    said = [each.text for each in drawing.iter("text")]
    assert said == [text for n, value in enumerate(values) for text in (f"N{n}", f"{value:+}")]


@given(st.lists(st.integers(0, 10**9), max_size=6))
def test_parts_fill_their_bar_and_each_can_be_seen(numbers):
    parts = [(f"p{index}", number) for index, number in enumerate(numbers)]
    drawing = svg(charts.stacked(parts, title="States"))
    bars = list(drawing.iter("rect"))
    assert [each.get("class") for each in bars] == [
        f"aff-part-{name}" for name, number in parts if number
    ]
    widths = [float(each.get("width")) for each in bars]
    assert all(width >= 2 for width in widths)
    ends = [float(each.get("x")) + float(each.get("width")) for each in bars]
    assert ends == sorted(ends)
    assert not ends or abs(ends[-1] + 1 - charts.BAR_WIDTH) < 0.1
