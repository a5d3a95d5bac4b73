"""Robots and prefetches leave nothing behind, and who comes without a link costs nothing."""

import pytest
from django.contrib.sessions.models import Session
from django.db import connection
from django.test.utils import CaptureQueriesContext

from affiliations import bots, middleware
from affiliations.models import Visitor
from tests.core.factories import make_partner

pytestmark = pytest.mark.django_db

PERSON = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1"
)
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36"
)
#: What previews links, scans mail or watches sites, and says so in its user agent.
DECLARED = [
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "Slack-ImgProxy (+https://api.slack.com/robots)",
    "Twitterbot/1.0",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "facebookcatalog/1.0",
    "meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)",
    "WhatsApp/2.23.20.0",
    "WhatsApp/2.2412.54 W",
    "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
    "LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)",
    "TelegramBot (like TwitterBot)",
    "Mozilla/5.0 (compatible; redditbot/1.0; +http://www.reddit.com/feedback)",
    "Pinterestbot/1.0 (+http://www.pinterest.com/bot.html)",
    "Mozilla/5.0 (compatible; vkShare; +http://vk.com/dev/Share)",
    "SkypeUriPreview Preview/0.5 skype-url-preview@microsoft.com",
    "Mozilla/5.0 (compatible; Viber; +https://www.viber.com) preview",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
    "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
    "DuckDuckBot/1.1; (+http://duckduckgo.com/duckduckbot.html)",
    "Mozilla/5.0 (Applebot/0.1; +http://www.apple.com/go/applebot)",
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
    "Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)",
    "Mozilla/5.0 (compatible; GPTBot/1.2; +https://openai.com/gptbot)",
    "ClaudeBot/1.0; +claudebot@anthropic.com",
    "CCBot/2.0 (https://commoncrawl.org/faq/)",
    "Google-Read-Aloud (+https://support.google.com/webmasters/answer/1061943)",
    "AdsBot-Google (+http://www.google.com/adsbot.html)",
    "Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)",
    "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
    "curl/8.10.1",
    "Wget/1.24.5",
    "python-requests/2.32.3",
    "Go-http-client/2.0",
    "Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome/142.0.0.0 Safari/537.36",
]
#: Mail gateways follow links with a browser's user agent: only what they do not do tells them.
DISGUISED = {
    "a mail gateway": CHROME,
    "a safe-links scanner": PERSON,
    "an antivirus that looks ahead": CHROME.replace("142", "109"),
    "a gateway that says nothing": "",
}
AHEAD = [
    {"sec-purpose": "prefetch"},
    {"sec-purpose": "prefetch;prerender"},
    {"purpose": "prefetch"},
    {"x-purpose": "preview"},
    {"x-moz": "prefetch"},
    # No robot either: a callback of some site that leads here.
    {"webhook-id": "msg_1"},
]
PROFILES = [*DECLARED, *DISGUISED.values()]


def left_behind():
    return Visitor.objects.count() + Session.objects.count()


def ways(client, link, agent):
    """Ask for a link in all ways in which nobody has clicked on it; return what was answered."""
    agent = {"user-agent": agent}
    yield "HEAD", client.head(link, headers=agent)
    yield "OPTIONS", client.options(link, headers=agent)
    for headers in AHEAD:
        yield str(headers), client.get(link, headers=agent | headers)
    if bots.is_bot(agent["user-agent"]):
        yield "GET", client.get(link, headers=agent)


def robots_that_leave_something(new_client):
    link = make_partner().link("/?a=1")
    found = []
    for agent in PROFILES:
        for way, response in ways(new_client(), link, agent):
            assert response.status_code in (200, 302), (agent, way)
            if left_behind() or response.cookies:
                found.append((agent, way))
                Visitor.objects.all().delete()
                Session.objects.all().delete()
    return found


def test_there_are_forty_and_each_declared_one_is_known():
    assert len(PROFILES) == len(set(DECLARED)) + len(DISGUISED) == 40
    assert [agent for agent in DECLARED if not bots.is_bot(agent)] == []


def test_robots_and_prefetches_leave_nothing(new_client):
    assert robots_that_leave_something(new_client) == []


def test_a_person_who_clicks_is_recorded(new_client):
    link = make_partner().link("/?a=1")
    for number, agent in enumerate(DISGUISED.values(), start=1):
        # No user agent at all is a person who hides it, more often than a robot.
        assert new_client().get(link, headers={"user-agent": agent}).status_code == 302
        assert Visitor.objects.count() == number


def as_if_clicked(request):
    """Take a HEAD for the GET that may follow."""
    request.method = request.method.replace("HEAD", "GET")
    return REFER(request)


REFER = middleware.refer
CARELESS = [
    ("refer", as_if_clicked, {"HEAD"}),
    ("is_refused", lambda request: False, {*map(str, AHEAD)}),
    ("is_wanted", lambda request: True, {"GET"}),
]


@pytest.mark.parametrize(("name", "careless", "ways"), CARELESS)
def test_teeth_a_middleware_that_does_not_look(new_client, monkeypatch, name, careless, ways):
    monkeypatch.setattr(middleware, name, careless)
    assert {way for _, way in robots_that_leave_something(new_client)} == ways


# Who comes without a link


def strangers(client_class, number):
    """Let so many browsers without cookies come without a link; return what it has cost."""
    paths = ["/", "/echo/?page=2", "/whoami/", "/echo/?affiliate=1", "/aecho/?ref=affiliate_id"]
    cookies = 0
    with CaptureQueriesContext(connection) as queries:
        for count in range(number):
            response = client_class().get(paths[count % len(paths)])
            cookies += bool(response.cookies)
    return {"queries": len(queries), "cookies": cookies, "left behind": left_behind()}


@pytest.mark.parametrize("number", [500, pytest.param(10_000, marks=pytest.mark.long)])
def test_who_comes_without_a_link_costs_no_query_and_gets_no_cookie(new_client, number, settings):
    settings.AFFILIATE_COOKIE = True
    assert strangers(new_client, number) == {"queries": 0, "cookies": 0, "left behind": 0}


def test_teeth_a_middleware_that_keeps_a_note_in_the_session(new_client, monkeypatch):
    attach = middleware.visits.attach

    def noting(request):
        attach(request)
        request.session.setdefault("affiliate_seen", True)

    monkeypatch.setattr(middleware.visits, "attach", noting)
    caught = strangers(new_client, 10)
    assert min(caught.values()) >= 10
