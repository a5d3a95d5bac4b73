"""A callback URL is what staff entered, whatever a visitor put into its values."""

import string
from contextlib import suppress
from urllib.parse import parse_qsl, quote, unquote

import ada_url
import pytest
import requests
from hypothesis import assume, find, given
from hypothesis import strategies as st

from affiliations.callbackurl import (
    MAX_LENGTH,
    MAX_RENDERED_LENGTH,
    PLACEHOLDERS,
    render,
    request_target,
    validate,
)
from affiliations.exceptions import InvalidCallbackURL
from affiliations.testing import callback_server

TEMPLATE = (
    "https://partner.example:8443/cb/{sub1}/{trigger}.{sub2}/end"
    "?id={visitor_id}&{reference}=1&payout=1&a={sub3}-{sub4}#{sub5}"
)
HOSTILE = [
    "x&payout=9999",
    "x#",
    "x;payout=9999",
    "a=b?c=d",
    "../",
    "..",
    ".",
    "%2e%2e",
    "/",
    "//evil.example/",
    "\\\\evil.example\\",
    "@evil.example",
    "%0d%0aX: y",
    "\r\nX: y",
    "\0",
    "%",
    "%4",
    "+",
    " ",
    "{sub2}",
    "{visitor_id}",
    "{0.__class__}",
    "é漢😀",
    "\ud800",
    "\udcff\ud83d",
    "\u2028\u202e",
    "",
]
VALUES = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        PLACEHOLDERS,
        st.one_of(
            st.sampled_from(HOSTILE),
            st.text(alphabet=st.characters(exclude_categories=[]), max_size=20),
        ),
    ),
)
AWKWARD = r"""
a %41 %2f %2E %c3%a9 % %4 %zz [ ] | ^ ` " ' < > \ ; : @ & = + $ , ! * ( ) ~ .. / // - _ ü 漢 😀 ．
"""
LITERALS = st.one_of(
    st.sampled_from([*AWKWARD.split(), "\u200b"]),
    st.text(alphabet=string.printable.strip(), max_size=3),
)
PIECES = st.lists(st.one_of(LITERALS, st.sampled_from([f"{{{name}}}" for name in PLACEHOLDERS])))
HOSTS = """
partner.example PARTNER.example. bücher.example xn--bcher-kva.example a_b.example localhost
127.0.0.1 [::1] [2001:DB8::0:1]
"""


@st.composite
def templates(draw):
    """Draw a template that staff might get accepted, with anything at all behind its host."""
    url = (
        draw(st.sampled_from(["http", "https", "HTTPS"]))
        + "://"
        + draw(st.sampled_from(HOSTS.split()))
    )
    url += draw(st.sampled_from(["", ":80", ":0443", ":65535"]))
    for mark in "/?#":
        if draw(st.booleans()):
            url += mark + "".join(draw(PIECES))
    return url


def replaced(template, values):
    """Render as it is done without thinking."""
    for name in PLACEHOLDERS:
        template = template.replace(f"{{{name}}}", values.get(name, ""))
    return template


def quoted_only(template, values):
    """Render with each value quoted, which a dot survives."""
    return replaced(template, {name: quote(v, "", errors="replace") for name, v in values.items()})


def as_seen(url):
    """Return what a WHATWG parser makes of a URL: origin, segments, names, own values."""
    seen = ada_url.URL(url)
    segments = seen.pathname.split("/")
    pairs = parse_qsl(seen.search.removeprefix("?"), keep_blank_values=True)
    return {
        "origin": (seen.protocol, seen.host, seen.username, seen.password),
        "segments": (len(segments), segments[1], segments[-1]),
        "names": [name for position, (name, _) in enumerate(pairs) if position != 1],
        "payout": [value for name, value in pairs if name == "payout"],
    }


def is_confined(renderer, values):
    """Whether values change nothing of a URL but the places that are theirs."""
    try:
        url = renderer(TEMPLATE, values)
        return url.isascii() and as_seen(url) == as_seen(renderer(TEMPLATE, TAME))
    except (ValueError, UnicodeError):
        return False


TAME = dict.fromkeys(PLACEHOLDERS, "x")


@given(VALUES)
def test_values_stay_in_their_place(values):
    assert is_confined(render, values)


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("name", PLACEHOLDERS)
def test_each_hostile_value_in_each_place(name, value):
    assert is_confined(render, {**TAME, name: value})


@pytest.mark.parametrize("broken", [replaced, quoted_only])
def test_broken_renderers_are_caught(broken):
    values = find(VALUES, lambda each: not is_confined(broken, {**TAME, **each}))
    assert is_confined(render, {**TAME, **values})


@given(VALUES)
def test_values_arrive_as_they_were(values):
    query = request_target(render(TEMPLATE, {**TAME, **values})).partition("?")[2]
    received = dict(parse_qsl(query, keep_blank_values=True))
    # UTF-8 has no surrogates, so they arrive as question marks.
    assert received["id"] == values.get("visitor_id", "x").encode(errors="replace").decode()


def is_left_alone(renderer, template, values):
    """Whether requests sends exactly the URL that was rendered."""
    url = renderer(template, values)
    prepared = requests.Request("GET", url).prepare()
    return url.isascii() and prepared.url == url and prepared.path_url == request_target(url)


def rendered(template, values):
    try:
        return render(template, values)
    except InvalidCallbackURL:
        return None


@given(templates(), VALUES)
def test_requests_leaves_rendered_urls_alone(template, values):
    url = rendered(template, values)
    assume(url is not None)
    assert is_left_alone(render, template, values)
    # A rendered URL is in normal form: rendered again, without placeholders, it is the same.
    assert render(url, {}) == url or len(url) > MAX_LENGTH


def test_requests_rewriting_a_url_is_caught():
    def untouched(template, values):
        return replaced(template, TAME)

    def differs(template):
        return rendered(template, TAME) is not None and not is_left_alone(untouched, template, TAME)

    template = find(templates(), differs)
    assert is_left_alone(render, template, TAME)


@pytest.mark.parametrize(
    "rest",
    [
        "?v={visitor_id}",
        "/{sub1}/cb?v={visitor_id}",
        "//{sub1}//{sub2}?v={visitor_id}",
        "/{sub3}/{sub4}/{visitor_id}",
        "/%41%2f%zz|[ü]'?{sub5}={visitor_id}&x=%#end",
        "/a?",
        "/a?{sub2}",
        "#{visitor_id}",
    ],
)
def test_the_signed_target_is_what_goes_over_the_wire(rest):
    values = {"visitor_id": "é&=#\0", "sub3": "..", "sub4": "%2e.", "sub5": "//\r\n"}
    with callback_server() as server:
        url = render(server.url + rest, values)
        with requests.Session() as session:
            session.trust_env = False
            session.get(url, timeout=10)
    assert [call.target for call in server.received] == [request_target(url)]


@pytest.mark.parametrize(
    ("template", "url"),
    [
        ("HTTP://Partner.EXAMPLE", "http://partner.example/"),
        ("http://p.example?v={visitor_id}", "http://p.example/?v=7"),
        ("http://p.example/{visitor_id}", "http://p.example/7"),
        ("http://p.example/a/{sub1}/{visitor_id}", "http://p.example/a//7"),
        ("http://p.example/{sub1}/{visitor_id}", "http://p.example/-/7"),
        ("http://p.example/a/{sub2}/{visitor_id}", "http://p.example/a/-/7"),
        ("http://p.example/a/.{sub3}/b", "http://p.example/a/-/b"),
        ("http://p.example//a//b", "http://p.example/a//b"),
        ("http://p.example/?s={sub1}&v={visitor_id}", "http://p.example/?s=&v=7"),
        ("http://p.example/?v={sub2}", "http://p.example/?v=.."),
        ("http://p.example/?{sub1}#{sub1}", "http://p.example/"),
        ("http://p.example/%41%e4%2F%", "http://p.example/A%E4%2F%25"),
        ("http://p.example/%4{visitor_id}", "http://p.example/%2547"),
        ("http://p.example/ü?ü#ü", "http://p.example/%C3%BC?%C3%BC#%C3%BC"),
        ("http://bücher.example:0080/", "http://xn--bcher-kva.example:80/"),
        ("http://bu\u0308cher.example/", "http://xn--bcher-kva.example/"),
        ("http://[2001:DB8::0:1]:8080/", "http://[2001:db8::1]:8080/"),
        ("http://p.example/%7Bvisitor_id%7D", "http://p.example/%7Bvisitor_id%7D"),
    ],
)
def test_rendered(template, url):
    assert render(template, {"visitor_id": "7", "sub2": "..", "sub3": "."}) == url


def test_values_are_decoded_once():
    assert unquote(render("http://p.example/{sub1}", {"sub1": "{sub2}%41"})).endswith("/{sub2}%41")


ACCEPTED = [
    "https://p.example/cb?v={visitor_id}",
    "http://p.example/{visitor_id}",
    "http://p.example/{visitor_id}#{visitor_id}",
    "http://localhost:8000/{visitor_id}/{visitor_id}",
    "https://[::1]/?v={visitor_id}",
    "https://bücher.example/?v={visitor_id}",
    "https://p.example/?" + "&".join(f"{name}={{{name}}}" for name in PLACEHOLDERS),
    "https://p.example/?v={visitor_id}".ljust(MAX_LENGTH, "x"),
]
REFUSED = {
    "http://p.example/#{visitor_id}": "must contain {visitor_id} before",
    "": "must start with http",
    "p.example/{visitor_id}": "must start with http",
    "//p.example/{visitor_id}": "must start with http",
    "ftp://p.example/{visitor_id}": "must start with http",
    "javascript:alert({visitor_id})": "must start with http",
    "{trigger}://p.example/{visitor_id}": "must start with http",
    "http:/p.example/{visitor_id}": "must start with http",
    "http:p.example/{visitor_id}": "must start with http",
    " http://p.example/{visitor_id}": "blank",
    "https://p.example/cb": "must contain {visitor_id}",
    "https://p.example/?v={partner_uid}": "must contain {visitor_id}",
    "https://p.example/?v={visitor_id}".ljust(MAX_LENGTH + 1, "x"): "longer than 2,000",
    "https://p.example/?v={visitor_id}&x=" + "漢" * 1900: "longer than 8,000",
    "https://{visitor_id}.example/": "only after the host",
    "https://{visitor_id}/": "only after the host",
    "https://p.example:{sub1}/{visitor_id}": "only after the host",
    "https://{sub1}@p.example/{visitor_id}": "only after the host",
    "https://p{.example/{visitor_id}": "only after the host",
    "https://user@p.example/{visitor_id}": "user name",
    "https://user:secret@p.example/{visitor_id}": "user name",
    "https://@p.example/{visitor_id}": "user name",
    "https:///{visitor_id}": "no host",
    "https://?v={visitor_id}": "no host",
    "https://:80/{visitor_id}": "no host",
    "https://p.example:/{visitor_id}": "port",
    "https://p.example:0/{visitor_id}": "port 0",
    "https://p.example:65536/{visitor_id}": "port 65536",
    "https://p.example:８０/{visitor_id}": "port",
    "https://p.example:80:80/{visitor_id}": "port",
    "https://p.example:-1/{visitor_id}": "port",
    "http://[": "IPv6",
    "http://[/{visitor_id}": "IPv6",
    "http://]/{visitor_id}": "IPv6",
    "http://[]/{visitor_id}": "not an IPv6 address",
    "http://[::1/{visitor_id}": "IPv6",
    "http://[::1]x/{visitor_id}": "IPv6",
    "http://[v1.x]/{visitor_id}": "not an IPv6 address",
    "http://[fe80::1%eth0]/{visitor_id}": "not an IPv6 address",
    "http://::1/{visitor_id}": "IPv6",
    "https://./{visitor_id}": "not a valid host",
    "https://a..b/{visitor_id}": "not a valid host",
    "https://*.example/{visitor_id}": "not a valid host",
    "https://%6c.example/{visitor_id}": "not a valid host",
    "https://a,b/{visitor_id}": "not a valid host",
    f"https://{'a' * 64}.example/{{visitor_id}}": "not a valid host",
    f"https://{'a.' * 127}example/{{visitor_id}}": "not a valid host",
    "https://straße.example/{visitor_id}": "everybody reads alike",
    "https://ｅvil.example/{visitor_id}": "everybody reads alike",
    "https://p.example℀/{visitor_id}": "everybody reads alike",
    "https://p\u200d.example/{visitor_id}": "everybody reads alike",
    "https://ü..example/{visitor_id}": "everybody reads alike",
    "https://p.example\\@evil.example/{visitor_id}": "backslash",
    "https://p.example\\{visitor_id}": "backslash",
    "https://\\\\p.example/{visitor_id}": "backslash",
    "https://p.example/../{visitor_id}": "steps",
    "https://p.example/a/./{visitor_id}": "steps",
    "https://p.example/%2e%2E/{visitor_id}": "steps",
    "https://p.example/..?v={visitor_id}": "steps",
    "https://p.example/{visitor_id} ": "blank",
    "https://p.example/{visitor_id}\n": "blank",
    "https://p.example/\t{visitor_id}": "blank",
    "https://p.example/{visitor_id}\0": "blank",
    "https://p.example/{visitor_id}\x7f": "blank",
    "https://p.example/{visitor_id}\x85": "blank",
    "https://p.example/{visitor_id}\u3000": "blank",
    "https://p.example/{visitor_id}\u2028": "blank",
    "https://p.example/{visitor_id}\ud800": "blank",
    "https://p.example/{visitor_id}{": "stray",
    "https://p.example/{visitor_id}}": "stray",
    "https://p.example/{{visitor_id}}": "stray",
    "https://p.example/{{visitor_id}": "stray",
    "https://p.example/{visitor_id}{{": "stray",
    "https://p.example/{visitor_id}{{}}": "stray",
    "https://p.example/}{visitor_id}{": "stray",
    "https://p.example/{visitor_id?}": "stray",
    "https://p.example/{visitor_id}?{sub1#}": "stray",
    "https://p.example/{visitor_id.__class__}": "not a placeholder",
    "https://p.example/{visitor_id}{visitor_id.__class__.__mro__}": "not a placeholder",
    "https://p.example/{visitor_id}{visitor_id[0]}": "not a placeholder",
    "https://p.example/{visitor_id}{visitor_id!r}": "not a placeholder",
    "https://p.example/{visitor_id}{visitor_id:>10}": "not a placeholder",
    "https://p.example/{visitor_id}{visitor_id:>1000000000}": "not a placeholder",
    "https://p.example/{visitor_id}{0}": "not a placeholder",
    "https://p.example/{visitor_id}{}": "not a placeholder",
    "https://p.example/{visitor_id}{sub6}": "not a placeholder",
    "https://p.example/{visitor_id}{Sub1}": "not a placeholder",
    "https://p.example/{visitor_id}{sub1}{SECRET_KEY}": "not a placeholder",
}


@pytest.mark.parametrize("url", ACCEPTED)
def test_accepted(url):
    validate(url)


@pytest.mark.parametrize(("url", "problem"), REFUSED.items(), ids=ascii)
def test_refused_in_words_for_staff(url, problem):
    with pytest.raises(InvalidCallbackURL) as caught:
        validate(url)
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 500


def let_through(check):
    """Return which of the URLs that must be refused `check` lets through."""
    accepted = []
    for url in REFUSED:
        # A width of a billion would take the memory of the machine, and so prove the point.
        if ":>1000000000" in url:
            continue
        try:
            check(url)
        except (ValueError, LookupError, AttributeError):
            continue
        accepted.append(url)
    return accepted


def test_a_validator_by_str_format_is_caught():
    def check(url):
        if not url.startswith("https://") or "{visitor_id" not in url:
            raise ValueError(url)
        url.format(**dict.fromkeys(PLACEHOLDERS, "x"))

    tricks = {
        "https://p.example/{visitor_id.__class__}",
        "https://p.example/{visitor_id}{visitor_id!r}",
        "https://p.example/{visitor_id}{visitor_id:>10}",
        "https://p.example/{{visitor_id}}",
        "https://{visitor_id}.example/",
    }
    assert tricks <= set(let_through(check))
    assert let_through(validate) == []


@given(
    st.one_of(
        st.text(alphabet=st.characters(exclude_categories=[])), templates(), PIECES.map("".join)
    )
)
def test_nothing_else_is_ever_raised(url):
    for call in (validate, lambda each: render(each, {}), lambda each: validate(f"http://{each}")):
        with suppress(InvalidCallbackURL):
            call(url)


@pytest.mark.parametrize("url", [None, b"https://p.example/{visitor_id}", 7])
def test_what_is_no_text(url):
    with pytest.raises(InvalidCallbackURL):
        validate(url)


@pytest.mark.parametrize("url", [url for url, why in REFUSED.items() if "must contain" not in why])
def test_templates_of_the_predecessor_render_only_if_valid(url):
    with pytest.raises(InvalidCallbackURL):
        render(url, TAME)


def test_templates_of_the_predecessor_need_no_visitor_id():
    assert render("https://p.example/cb?t={trigger}", {"trigger": "a b"}) == (
        "https://p.example/cb?t=a%20b"
    )


def test_how_long_a_url_may_become():
    fits = MAX_RENDERED_LENGTH - len("http://p.example/?")
    assert len(render("http://p.example/?{sub1}", {"sub1": "x" * fits})) == MAX_RENDERED_LENGTH
    with pytest.raises(InvalidCallbackURL, match="8,000"):
        render("http://p.example/?{sub1}", {"sub1": "x" * (fits + 1)})
