"""Tell what brought somebody to a page, from the page's address and the one they came from.

Pure functions. The channels are drawn as the default channel group of Google Analytics 4 draws
them, from which people know them; its list of AI assistants is newer, and is ours. Only what is
said counts: somebody who types an address, or goes from one page of a site to the next, was brought
by nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from .. import querystring

__all__ = ["CHANNELS", "Touch", "host_of", "touch_of"]

#: Characters that are kept of each field.
MOST = 200
#: Characters of a host, by RFC 1035.
MOST_OF_HOST = 253

CHANNELS: Final = (
    "affiliate",
    "ai_assistant",
    "display",
    "email",
    "organic_search",
    "organic_social",
    "organic_video",
    "other",
    "paid_other",
    "paid_search",
    "paid_social",
    "paid_video",
    "push",
    "referral",
    "sms",
)

CAMPAIGN: Final = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")
#: Click ids of advertisers: who gives them, and whether only to clicks that were paid for.
CLICK_IDS: Final = {
    "gclid": ("google", "paid_search"),
    "gbraid": ("google", "paid_search"),
    "wbraid": ("google", "paid_search"),
    "dclid": ("google", "display"),
    "msclkid": ("bing", "paid_search"),
    "yclid": ("yandex", "paid_search"),
    "ttclid": ("tiktok", "paid_social"),
    "twclid": ("x", "paid_social"),
    "li_fat_id": ("linkedin", "paid_social"),
    "rdt_cid": ("reddit", "paid_social"),
    # Facebook and Instagram give theirs to every link that leads away.
    "fbclid": ("facebook", ""),
    "igshid": ("instagram", ""),
}
_WANTED = frozenset({*CAMPAIGN, *CLICK_IDS})

#: Hosts, each with all below it, by what they are; a name stands for its host in any country.
_SEARCH = (
    "google bing duckduckgo.com yahoo yandex baidu.com ecosia.org qwant.com startpage.com "
    "search.brave.com naver.com seznam.cz sogou.com ask.com aol.com"
)
_SOCIAL = (
    "facebook.com instagram.com x.com t.co twitter.com linkedin.com lnkd.in pinterest reddit.com "
    "tiktok.com threads.net threads.com bsky.app mastodon.social tumblr.com vk.com weibo.com "
    "snapchat.com quora.com whatsapp.com wa.me t.me telegram.org discord.com xing.com"
)
_VIDEO = "youtube.com youtu.be vimeo.com twitch.tv dailymotion.com"
_MAIL = "mail.google.com mail.yahoo.com outlook.live.com outlook.office.com mail.proton.me"
_ASSISTANTS = (
    "chatgpt.com chat.openai.com perplexity.ai gemini.google.com copilot.microsoft.com claude.ai "
    "chat.mistral.ai chat.deepseek.com"
)
#: The longest name is the one that counts, so that a mailbox of Google's is no search.
_KINDS = {
    name: kind
    for kind, names in (
        ("search", _SEARCH),
        ("social", _SOCIAL),
        ("video", _VIDEO),
        ("email", _MAIL),
        ("assistant", _ASSISTANTS),
    )
    for name in names.split()
}
#: What a source is called that does not begin its host.
_ALIASES = {
    "search.brave.com": "brave",
    "chat.openai.com": "chatgpt",
    "chat.mistral.ai": "mistral",
    "chat.deepseek.com": "deepseek",
    "lnkd.in": "linkedin",
    "t.co": "x",
    "t.me": "telegram",
    "twitter.com": "x",
    "wa.me": "whatsapp",
    "youtu.be": "youtube",
}
#: By what people call them who write campaigns, and by their hosts.
_CALLED = {
    **{name.partition(".")[0]: name for name, kind in _KINDS.items() if kind != "email"},
    **{name: name for name in _KINDS},
    "brave": "search.brave.com",
    "deepseek": "chat.deepseek.com",
    "fb": "facebook.com",
    "ig": "instagram.com",
    "mistral": "chat.mistral.ai",
    "telegram": "t.me",
}
# Of no host in particular.
for _word in ("chat", "lnkd", "search", "t", "wa"):
    del _CALLED[_word]
_COUNTRY = re.compile(r"\.(?:com?\.)?[a-z]{2,3}")

_PAID = re.compile(r".*cp.*|ppc|retargeting|paid.*")
_MEDIUMS = {
    **dict.fromkeys(("display", "banner", "expandable", "interstitial", "cpm"), "display"),
    **dict.fromkeys(("email", "e-mail", "e_mail", "e mail", "newsletter"), "email"),
    **dict.fromkeys(("affiliate", "affiliates", "partner"), "affiliate"),
    **dict.fromkeys(
        ("social", "social-network", "social-media", "sm", "social network", "social media"),
        "organic_social",
    ),
    **dict.fromkeys(("referral", "app", "link"), "referral"),
    "organic": "organic_search",
    "sms": "sms",
    "video": "organic_video",
}
_BY_KIND = {
    "search": "organic_search",
    "social": "organic_social",
    "video": "organic_video",
    "email": "email",
    "assistant": "ai_assistant",
}
_PAID_BY_KIND = {"search": "paid_search", "social": "paid_social", "video": "paid_video"}


class Touch(NamedTuple):
    """What brought somebody: a channel of CHANNELS, and what is known of it, "" where nothing is.

    `click_ids` holds those of advertisers by their parameters, such as "gclid".
    """

    channel: str
    source: str
    medium: str
    campaign: str
    term: str
    content: str
    click_ids: dict[str, str]


def host_of(address: str) -> str:
    """Return the host of an address, in small letters and without a port; "" where it has none.

    What is longer than any host, or holds what cannot be seen, is none.
    """
    try:
        host = (urlsplit(address).hostname or "").rstrip(".")
    except ValueError:
        return ""
    # Each of its labels is looked up with all that follow, so that its length has to be bounded.
    return host if len(host) <= MOST_OF_HOST and host.isprintable() else ""


def touch_of(
    url: str, referrer: str = "", *, own: Collection[str] = (), by_partner: bool = False
) -> Touch | None:
    """Return what brought somebody to `url`, None where nothing did.

    `referrer` is the address they came from. Hosts in `own`, and that of `url`, are the site
    itself, as are those below them. `by_partner` says that an affiliate link led here. What are no
    addresses have no host, and no parameters; nothing raises.
    """
    found = querystring.parameters(_query(url), _WANTED, MOST)
    fields = [found.get(name, "").strip() for name in CAMPAIGN]
    click_ids = {name: found[name] for name in CLICK_IDS if name in found}
    host = host_of(referrer)
    mine = {host_of(url), *own} - {""}
    if any(host == each or host.endswith(f".{each}") for each in mine):
        host = ""
    if not (any(fields) or click_ids or host or by_partner):
        return None
    source, medium, campaign, term, content = fields
    channel = "affiliate"
    if not by_partner:
        channel = _channel(source.lower(), medium.lower(), click_ids, host)
    source = source or _source(click_ids, host)
    return Touch(channel, source[:MOST], medium, campaign, term, content, click_ids)


def _query(url: str) -> str:
    return url.partition("#")[0].partition("?")[2]


def _channel(source: str, medium: str, click_ids: dict[str, str], host: str) -> str:
    kind = _kind(source) or _kind(host)
    is_paid = _PAID.fullmatch(medium) is not None
    if is_paid and kind in _PAID_BY_KIND:
        return _PAID_BY_KIND[kind]
    if medium in _MEDIUMS:
        return _MEDIUMS[medium]
    if is_paid:
        return "paid_other"
    if medium.endswith("push") or "notification" in medium:
        return "push"
    if source in _MEDIUMS and _MEDIUMS[source] in {"email", "sms"}:
        return _MEDIUMS[source]
    for name in click_ids:
        given_by, channel = CLICK_IDS[name]
        if channel:
            return channel
        kind = kind or _kind(given_by)
    if medium:
        return "other"
    if kind:
        return _BY_KIND[kind]
    return "referral" if host else "other"


def _source(click_ids: dict[str, str], host: str) -> str:
    for name in click_ids:
        return CLICK_IDS[name][0]
    known = _known(host)
    if not known:
        return host.removeprefix("www.")
    return _ALIASES.get(known, known.partition(".")[0] if _kind(known) != "email" else known)


def _kind(host: str) -> str:
    """Return what a host is, or a source that is called as one is, such as "google"."""
    return _KINDS.get(_known(host), "")


def _known(host: str) -> str:
    """Return the name by which the tables know a host, "" where they do not."""
    if host in _CALLED:
        return _CALLED[host]
    labels = host.split(".")
    for start in range(len(labels) - 1):
        rest = ".".join(labels[start:])
        if rest in _KINDS:
            return rest
        if labels[start] in _KINDS and _COUNTRY.fullmatch(rest[len(labels[start]) :]):
            return labels[start]
    return ""
