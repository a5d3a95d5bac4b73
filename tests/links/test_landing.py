"""Where a link leads: arithmetic on addresses, by property."""

from collections import Counter
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affiliations.links import deeplinks, landing, relay
from affiliations.links.clicks import bounded
from affiliations.links.landing import Page

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
PAIRS = st.lists(st.tuples(TEXT.filter(bool), TEXT), max_size=8)


@pytest.mark.parametrize(
    ("url", "becomes"),
    [
        ("https://Shop.example", "https://shop.example/"),
        ("HTTP://shop.example:8080/a b".replace(" ", "%20"), "http://shop.example:8080/a%20b"),
        (
            "https://bücher.example/ä?ö=ü#ß",
            "https://xn--bcher-kva.example/%C3%A4?%C3%B6=%C3%BC#%C3%9F",
        ),
        ("https://shop.example//x", "https://shop.example/x"),
    ],
)
def test_an_address_has_one_form(url, becomes):
    assert landing.normal(url) == becomes
    assert landing.normal(becomes) == becomes


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("/course", "http"),
        ("javascript:alert(1)", "http"),
        ("ftp://shop.example/", "http"),
        ("https://", "no host"),
        ("https://user:pw@shop.example/", "user name"),
        ("https://shop.example\\@evil.example/", "backslash"),
        ("https://shop.example/a b", "blank"),
        ("https://shop.example/\r\nX: 1", "line break"),
        ("https://shop.example/../x", "steps"),
        ("https://shop.example/{visitor_id}", "no placeholder|not a placeholder"),
        ("https://shop.example:99999/", "port"),
        ("https://shop.example/" + "x" * 2000, "longer"),
    ],
)
def test_what_nobody_can_be_led_to_is_refused_in_words(url, words):
    with pytest.raises(ValueError, match=words):
        landing.normal(url)


@given(PAIRS, PAIRS, PAIRS)
def test_the_target_is_the_page_and_all_parameters_once(own, adds, more):
    query = landing._encoded(own)
    page = Page.of(f"https://shop.example/a/b?{query}#frag", landing._encoded(adds))
    parts = urlsplit(page.target(more))
    assert (parts.scheme, parts.netloc, parts.path) == ("https", "shop.example", "/a/b")
    assert parts.fragment == "frag"
    found = parse_qsl(parts.query, keep_blank_values=True)
    names = {name for name, _ in own}
    kept = [each for each in adds if each[0] not in names]
    names |= {name for name, _ in kept}
    assert found == [*own, *kept, *(each for each in more if each[0] not in names)]


def test_what_would_be_too_long_is_not_passed_on():
    page = Page.of("https://shop.example/?a=1")
    assert page.target([("x", "y" * 9000)]) == "https://shop.example/?a=1"


@given(st.lists(st.integers(1, 50), min_size=2, max_size=6), st.text(min_size=1))
def test_a_browser_is_led_to_one_of_the_pages_and_always_the_same(weights, who):
    found = landing.choose(weights, who)
    assert 0 <= found < len(weights)
    assert landing.choose(weights, who) == found
    assert landing.choose(weights, "") == 0


def test_each_page_gets_its_weight_of_browsers():
    chosen = Counter(landing.choose([5, 3, 2], f"browser {number}") for number in range(20_000))
    # Four standard deviations of a binomial of 20,000.
    for position, share in enumerate((0.5, 0.3, 0.2)):
        assert abs(chosen[position] - 20_000 * share) < 4 * (20_000 * share * (1 - share)) ** 0.5


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (["*"], "abc"),
        ([], ""),
        (["a"], "a"),
        (["*", "aff_sub"], "abcs"),
        (["tid", "c"], "ct"),
    ],
)
def test_what_is_passed_on(names, kept):
    short = {"a": "a", "b": "b", "c": "c", "aff_sub": "s", "tid": "t", "source": "x"}
    query = [(name, "1") for name in short]
    found = landing.passed(query, names, ["tid"])
    assert "".join(short[name] for name, _ in found) == kept


# Deep links


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_a_deep_link_leads_where_it_was_made_for(path):
    token = deeplinks.token("WTY76RkB", path)
    assert deeplinks.path_of("WTY76RkB", token) == path
    assert deeplinks.path_of("another1", token) == ""


@given(st.text(max_size=80))
def test_nobody_else_makes_one(token):
    assert deeplinks.path_of("WTY76RkB", token) == ""


@given(st.integers(0, 200), st.characters(exclude_categories=["Cs"]))
def test_one_that_was_changed_is_none(position, other):
    token = deeplinks.token("WTY76RkB", "/course/7?x=1")
    position %= len(token)
    changed = token[:position] + other + token[position + 1 :]
    assert deeplinks.path_of("WTY76RkB", changed) in ("", "/course/7?x=1")
    assert changed == token or deeplinks.path_of("WTY76RkB", changed) == ""


@pytest.mark.parametrize("path", ["", "x", "//evil.example/", "/\\evil.example/", "https://evil/"])
def test_a_deep_link_stays_on_its_host(path):
    with pytest.raises(ValueError, match="one slash"):
        landing.on_host("https://shop.example/course?x=1", path)
    assert (
        landing.on_host("https://shop.example:81/c?x", "/b?y=1") == "https://shop.example:81/b?y=1"
    )


# What networks are told


def test_what_is_worth_money_is_not_of_the_click():
    assert not set(relay.OF_CLICK) & {*relay.GIVEN, *relay.OURS, "amount", "currency", "status"}


@given(st.lists(st.tuples(TEXT, st.text(max_size=900)), max_size=90))
def test_a_query_is_kept_in_bounds(query):
    kept = bounded(query)
    values = [each if isinstance(each, list) else [each] for each in kept.values()]
    assert sum(map(len, values)) <= 50
    assert sum(len(name) for name in kept) + sum(len(t) for v in values for t in v) <= 4_000
