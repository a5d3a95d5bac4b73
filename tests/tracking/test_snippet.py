"""The snippet is put into a page as it should be, or left out, and the page is shown."""

import re

import pytest
from django.contrib.auth.models import AnonymousUser
from django.http import HttpResponse
from django.template import Context, RequestContext, Template
from django.test import Client as Browser
from django.test import RequestFactory
from django.urls import path, set_script_prefix
from django.utils.functional import SimpleLazyObject, empty
from django.utils.module_loading import import_string

from affiliations import ident
from affiliations.tracking.models import Hit, Identity
from tests.tracking.factories import make_property

#: Bytes of the whole element.
MOST = 2048
KEY = "HarbourKiln-2026_abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKL"[:64]

urlpatterns = [path("somewhere/", lambda request: None)]


@pytest.fixture(autouse=True)
def own(settings):
    settings.AFFILIATE_TRACKING_PROPERTY = "SHOP"


def visit(**headers):
    request = RequestFactory().get("/shoes", headers=headers)
    request.user = AnonymousUser()
    return request


def rendered(arguments="", request=None, **names):
    """Return the page that the tag is in, with nothing around it."""
    source = f"{{% load tracking %}}{{% tracking_snippet {arguments} %}}"
    return Template(source).render(Context({"request": request or visit(), **names})).strip()


def test_the_script():
    script = rendered()
    assert re.fullmatch(r"<script>.*</script>", script, re.DOTALL)
    assert 'public_key: "SHOP"' in script
    assert 'url = "/attribution/events"' in script
    assert "may = 1" in script
    assert "navigator.globalPrivacyControl" in script
    # Neither its comments nor anything of the template's.
    assert not re.search(r"\{%|\{\{|\{#|comment", script)


def test_its_size(settings):
    settings.AFFILIATE_TRACKING_PROPERTY = KEY
    nonce = "x" * 44
    assert len(rendered(f"wait=True nonce='{nonce}'").encode()) < MOST
    # With room for where a site may have its addresses.
    assert len(rendered(f"nonce='{nonce}'").encode()) < MOST - 100


def test_a_request_without_a_context_processor_for_it():
    source = Template("{% load tracking %}{% tracking_snippet %}")
    assert "public_key" in source.render(RequestContext(visit()))


def test_another_property():
    assert 'public_key: "OTHER"' in rendered("property='OTHER'")
    assert 'public_key: "OTHER"' in rendered("property=key", key="OTHER")


HOSTILE = (
    "</script><script>alert(1)</script>",
    '"+alert(1)+"',
    "\\",
    "\u2028\n\r",
    "<!--",
    "'`${x}",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_put_into_it_cannot_break_out(text):
    calm, made = rendered(), rendered("property=key nonce=nonce", key=text, nonce=text)
    assert made.count("<") == calm.count("<")
    assert made.count('"') == calm.count('"') + 2  # those of the nonce
    assert made.count("\n") == calm.count("\n") + text.count("\n")
    [key] = re.findall(r'public_key: "(.*?)"', made)
    assert re.sub(r"\\u(....)", lambda found: chr(int(found[1], 16)), key) == text
    assert "\u2028" not in key


def test_a_site_below_a_path():
    set_script_prefix("/a-shop/")
    try:
        [url] = re.findall(r'url = "(.*?)"', rendered())
    finally:
        set_script_prefix("/")
    assert url.replace("\\u002D", "-") == "/a-shop/attribution/events"


# The nonce


class Lazy(SimpleLazyObject):
    """As Django's and django-csp's nonces are: false until somebody has used them."""

    def __bool__(self):
        return self._wrapped is not empty


def nonce_of(script):
    return re.search(r"^<script(?: nonce=\"(.*?)\")?>", script)[1]


def lazy(text):
    return Lazy(lambda: text)


def test_the_nonce_of_a_context():
    assert nonce_of(rendered(csp_nonce=lazy("of-django"))) == "of-django"


@pytest.mark.parametrize("name", ["csp_nonce", "_csp_nonce"])
def test_the_nonce_of_a_request(name):
    request = visit()
    made = lazy("of-a-request")
    setattr(request, name, made)
    assert nonce_of(rendered(request=request)) == "of-a-request"
    # The policy has to hear of it.
    assert bool(made)


def test_a_nonce_that_is_given_counts():
    given = rendered("nonce=mine", mine="mine", csp_nonce=lazy("of-django"))
    assert nonce_of(given) == "mine"
    assert nonce_of(rendered("nonce=''", csp_nonce=lazy("of-django"))) == "of-django"


def test_no_nonce():
    assert nonce_of(rendered()) is None
    assert nonce_of(rendered(csp_nonce=None)) is None


def test_djangos_own_policy(settings):
    middleware = pytest.importorskip("django.middleware.csp").ContentSecurityPolicyMiddleware
    settings.SECURE_CSP = {"script-src": [import_string("django.utils.csp.CSP").NONCE]}
    answer = middleware(lambda request: HttpResponse(rendered(request=request)))(visit())
    nonce = nonce_of(answer.content.decode())
    assert nonce
    assert answer.headers["Content-Security-Policy"] == f"script-src 'nonce-{nonce}'"


# Who does not want it


def agrees(request):
    return True


def fails(request):
    raise RuntimeError("the consent manager is down")


def test_without_consent(settings):
    for hook in (lambda request: False, lambda request: None, fails, "no.such.hook"):
        settings.AFFILIATE_CONSENT = hook
        assert rendered() == ""
        assert "may = 0" in rendered("wait=True")
        assert rendered("wait=False") == ""


def test_with_consent(settings):
    settings.AFFILIATE_CONSENT = agrees
    assert "may = 1" in rendered()
    assert "may = 1" in rendered("wait=True")


def test_gpc(settings):
    settings.AFFILIATE_CONSENT = agrees
    asks = {"Sec-GPC": "1"}
    for arguments in ("", "wait=True"):
        assert rendered(arguments, visit(**asks)) == ""
    settings.AFFILIATE_HONOUR_GPC = False
    assert "globalPrivacyControl" not in rendered(request=visit(**asks))
    assert "may = 1" in rendered(request=visit(**asks))


# What is missing


@pytest.mark.parametrize("what", ["property", "urls", "request"])
def test_a_page_is_shown_whatever_is_missing(settings, caplog, what):
    if what == "property":
        settings.AFFILIATE_TRACKING_PROPERTY = ""
    elif what == "urls":
        settings.ROOT_URLCONF = __name__
    source = Template("<p>Shoes</p>{% load tracking %}{% tracking_snippet %}")
    names = {} if what == "request" else {"request": visit()}
    assert source.render(Context(names)) == "<p>Shoes</p>"
    [said] = caplog.records
    assert said.levelname == "WARNING"
    assert said.message.startswith("tracking_snippet: ")


# At what cost


@pytest.mark.django_db
def test_it_asks_the_database_nothing_and_lets_pages_be_cached(django_assert_num_queries):
    request = visit()
    with django_assert_num_queries(0):
        rendered(request=request)
    # Nobody has looked at the cookie, by which the page would be one person's.
    assert not hasattr(request, ident.ATTRIBUTE)


@pytest.mark.django_db
@pytest.mark.parametrize(("site", "status"), [("same-origin", 201), ("cross-site", 403), ("", 403)])
def test_a_beacon_of_a_page_that_tells_nobody_where_one_comes_from(site, status):
    make_property(public_key="SHOP")
    browser = Browser(headers={"Origin": "null", "Sec-Fetch-Site": site})
    told = '{"event": {"public_key": "SHOP", "type": "pageview"}}'
    answer = browser.post("/attribution/events", told, content_type="text/plain")
    assert answer.status_code == status
    assert Hit.objects.count() == Identity.objects.count() == (status == 201)
