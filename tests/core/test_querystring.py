"""What the middleware reads of a query string, and where it sends the browser."""

import random
import re
from collections import Counter
from urllib.parse import unquote_to_bytes

import ada_url
import pytest
from django.utils.encoding import escape_uri_path, iri_to_uri
from hypothesis import given
from hypothesis import strategies as st

from affiliations.querystring import find, parameters, redirect_target, strip

KEY = "affiliate_id"
ANYTHING = st.text(alphabet=st.characters(exclude_categories=[]))
QUERIES = st.lists(
    st.one_of(
        st.sampled_from(
            [KEY, f"{KEY}=", f"{KEY}=a", f"{KEY}=%41+b", f"{KEY}=a=b", f"{KEY}%3Dx", f"x{KEY}=1"]
        ),
        st.sampled_from(["", "a", "a=", "b=%zz", "é=1", "affiliate%5Fid=1", f"{KEY}x", "=", "?"]),
        ANYTHING,
    )
).map("&".join)

HOSTILE = r"""
/ // /// /%2F %2f / // \ \\ %5c /%5C [ ] //[ //[::1 @ : evil.com //evil.com /\evil.com https: http://
javascript: %00 %0d%0a %0d %0a %09 ; , . .. /.. /. %2e%2e /%2e/ /..// /.// a b c shop é %C3%A9 %E9
%ff 漢 %F0%9F%98%80 ?x # %23 %3f %25 %252F %20 + = & ' " < > | ^ ` { } ~ %7f %c2%85
"""
FRAGMENTS = [*HOSTILE.split(), "\t", "\x0b", "/\t/", " ", "\u3000"]


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("", None),
        ("a=1", None),
        (KEY, ""),
        (f"{KEY}=", ""),
        (f"{KEY}=abc", "abc"),
        (f"a=1&{KEY}=abc&b=2", "abc"),
        (f"{KEY}=first&{KEY}=last", "last"),
        (f"{KEY}=first&{KEY}", ""),
        (f"{KEY}=a=b", "a=b"),
        (f"{KEY}=a%20b+c%2B", "a b c+"),
        (f"{KEY}=%C3%A9", "é"),
        (f"{KEY}=\xc3\xa9", "é"),
        (f"{KEY}=\xe9", "\ufffd"),
        (f"{KEY}=漢%C3%A9", "漢é"),
        (f"{KEY}=漢\ud800", "漢?"),
        (f"{KEY}=%ff%zz%", "\ufffd%zz%"),
        (f"{KEY}=%00", "\0"),
        (f"a=1;{KEY}=abc", None),
        (f"x{KEY}=abc", None),
        (f"{KEY}x=abc", None),
        ("affiliate%5Fid=abc", None),
        (f"{KEY.upper()}=abc", None),
        (f"a={KEY}", None),
        (f" {KEY}=abc", None),
    ],
)
def test_find(query, value):
    assert find(query, KEY) == value


@pytest.mark.parametrize(
    ("query", "rest"),
    [
        ("", ""),
        (KEY, ""),
        (f"{KEY}=1", ""),
        (f"a&&b=&{KEY}=1", "a&&b="),
        (f"{KEY}=1&a&&b=", "a&&b="),
        (f"b=2&{KEY}=1&a=%7E&{KEY}&b=2&a=~", "b=2&a=%7E&b=2&a=~"),
        (f"&{KEY}&", "&"),
        (f"{KEY}&{KEY}=2", ""),
        (f"a=\xe9&{KEY}=1&=&b=%zz+ ", "a=\xe9&=&b=%zz+ "),
        (f"a={KEY}=1&x{KEY}=1", f"a={KEY}=1&x{KEY}=1"),
    ],
)
def test_strip(query, rest):
    assert strip(query, KEY) == rest


@given(QUERIES)
def test_what_is_found_is_what_is_stripped(query):
    rest = strip(query, KEY)
    assert find(rest, KEY) is None
    assert (find(query, KEY) is None) == (rest == query)
    others = [each for each in query.split("&") if each.partition("=")[0] != KEY]
    assert rest.split("&") == (others or [""])


@given(st.lists(st.sampled_from(["a", "b=", "", "c=%41", "d=é"]), max_size=8), st.data())
def test_a_parameter_put_in_comes_out_alone(others, data):
    at = data.draw(st.integers(min_value=0, max_value=len(others)))
    query = "&".join([*others[:at], f"{KEY}=abc", *others[at:]])
    assert find(query, KEY) == "abc"
    assert strip(query, KEY) == "&".join(others)


@pytest.mark.parametrize(
    ("path", "query", "target"),
    [
        ("/", "", "/"),
        ("/a/", "b=1", "/a/?b=1"),
        ("/é", "", "/%C3%A9"),
        ("/a?b#c", "", "/a%3Fb%23c"),
        ("//evil.com/", "", "/%2Fevil.com/"),
        ("///evil.com", "a=1", "/%2F/evil.com?a=1"),
        ("/\\evil.com", "", "/%5Cevil.com"),
        ("//[", "", "/%2F%5B"),
        ("/\r\nX: y", "", "/%0D%0AX:%20y"),
        ("/\ud800", "", "/%3F"),
        ("javascript:alert(1)", "", "/javascript:alert(1)"),
        ("", "a", "/?a"),
        ("/", "a=%7e&&b='|^`{}[]\\~!$()*,;:@/?+%zz%", "/?a=%7e&&b='|^`{}[]\\~!$()*,;:@/?+%zz%"),
        ("/", 'a="<>#', "/?a=%22%3C%3E%23"),
        ("/", "a= \t\r\n\0\x7f", "/?a=%20%09%0D%0A%00%7F"),
        ("/", "\xe9\xc3\xa9\xff", "/?%E9%C3%A9%FF"),
        ("/", "漢😀", "/?%E6%BC%A2%F0%9F%98%80"),
        ("/", "\ud83d\ude00\udcff", "/?%3F%3F%3F"),
    ],
)
def test_redirect_target(path, query, target):
    assert redirect_target(path, query) == target


@given(ANYTHING, ANYTHING)
def test_every_target_fits_a_header_and_stays(path, query):
    target = redirect_target(path, query)
    assert re.fullmatch(r"/(?!/)[!-~]*", target)
    assert ada_url.URL(target, base="http://shop.example/").host == "shop.example"


@given(st.text(alphabet=[chr(each) for each in range(0x21, 0x7F) if chr(each) not in '"#<>']))
def test_a_query_that_may_stand_there_stays_byte_for_byte(query):
    assert redirect_target("/", query).removeprefix("/").removeprefix("?") == query


def decoded(path):
    """Return what Django makes of a path in the request line."""
    return unquote_to_bytes(path).decode("utf-8", "replace")


def unescaped(path, query):
    return f"{path}?{query}"


def with_slashes(path, query):
    """Quote as `get_full_path` does, which leaves two leading slashes alone."""
    return f"{escape_uri_path(path)}?{iri_to_uri(query)}"


def judged(build, number):
    """Count what becomes of random requests' redirects, as a browser's URL parser sees it."""
    source = random.Random(4)
    seen = Counter()
    for _ in range(number):
        path = "/" + "".join(source.choices(FRAGMENTS, k=source.randrange(6)))
        query = "".join(source.choices(FRAGMENTS, k=source.randrange(6)))
        query += f"&{KEY}=x&" + "".join(source.choices(FRAGMENTS, k=source.randrange(3)))
        target = build(decoded(path.partition("?")[0]), strip(query, KEY))
        seen[verdict(target)] += 1
    return seen


def verdict(target):
    if not re.fullmatch(r"[!-~]+", target):
        return "no header"
    try:
        there = ada_url.URL(target, base="http://shop.example/")
    except ValueError:
        return "unparsable"
    if (there.protocol, there.host) != ("http:", "shop.example"):
        return "off-site"
    looping = find(there.search.removeprefix("?"), KEY) is not None
    return "loop" if looping else "fine"


def test_no_redirect_leaves_the_site():
    assert judged(redirect_target, 20_000) == {"fine": 20_000}


@pytest.mark.long
def test_no_redirect_leaves_the_site_in_the_long_run():
    assert judged(redirect_target, 1_000_000) == {"fine": 1_000_000}


@pytest.mark.parametrize("broken", [unescaped, with_slashes])
def test_redirects_that_leave_the_site_are_caught(broken):
    assert judged(broken, 20_000)["off-site"] >= 200


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {}),
        ("sub1=a&sub2=b&other=c", {"sub1": "a", "sub2": "b"}),
        ("sub1=first&sub1=second", {"sub1": "first"}),
        ("sub1=&sub2&sub3=%00", {}),
        ("sub1=%41+b%2B", {"sub1": "A b+"}),
        ("sub1=\xc3\xa9&sub2=%C3%A9&sub3=漢", {"sub1": "é", "sub2": "é", "sub3": "漢"}),
        ("sub1=%ff", {"sub1": "\ufffd"}),
        ("sub1=a%00b%0D%0Ac%7F%C2%85d", {"sub1": "abcd"}),
        ("sub1=%ED%A0%80x", {"sub1": "\ufffd\ufffd\ufffdx"}),
        ("sub1=0123456789abc", {"sub1": "0123456789"}),
        ("sub1=%00" + "é" * 20, {"sub1": "\ufffd" * 10}),
        ("sub%31=a&SUB1=b&sub1x=c", {}),
    ],
)
def test_parameters(query, found):
    assert parameters(query, ("sub1", "sub2", "sub3"), 10) == found


@given(ANYTHING, st.integers(min_value=1, max_value=5))
def test_parameters_can_be_stored(value, limit):
    for text in parameters(f"sub1={value}", ["sub1"], limit).values():
        assert 0 < len(text) <= limit
        assert text.encode().decode() == text
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", text)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param("sub1=a&" + "x" * 2**20, {"sub1": "a"}, id="a megabyte behind"),
        pytest.param("x" * 2**20 + "&sub1=a", {}, id="a megabyte before"),
        pytest.param("&" * 999 + "sub1=a", {"sub1": "a"}, id="the thousandth"),
        pytest.param("&" * 1000 + "sub1=a", {}, id="the next one"),
        pytest.param("&" * 100_000 + "sub1=a", {}, id="a hundred thousand"),
        pytest.param("x" * 65_520 + "&sub1=" + "a" * 20, {}, id="cut in half"),
        pytest.param("sub1=" + "a" * 60_000, {"sub1": "a" * 10}, id="one long value"),
    ],
)
def test_parameters_of_hostile_length(query, found):
    assert parameters(query, ["sub1"], 10) == found
    assert find(query, KEY) is None
    assert strip(query, KEY) == query
