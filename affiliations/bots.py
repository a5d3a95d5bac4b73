"""Tell crawlers, previews, prefetches and callbacks from people."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

try:
    from crawleruseragents import CRAWLER_USER_AGENTS_DATA
except ImportError:  # the extra "bots" is not installed
    CRAWLER_USER_AGENTS_DATA = []

#: Enough of a user agent to know it by; a longer one costs no more.
MAX_USER_AGENT = 512

#: What most crawlers call themselves; all there is to go by without the extra.
COMMON = r"bot\b|bots?[/ ;)-]|crawl|spider|slurp|facebookexternalhit|preview|scanner|curl/|wget/"

PREFETCH_HEADERS = ("HTTP_SEC_PURPOSE", "HTTP_PURPOSE", "HTTP_X_PURPOSE", "HTTP_X_MOZ")


@cache
def _pattern() -> re.Pattern[str]:
    # One alternation of all patterns: asking some 700 of them in turn takes ten times as long.
    listed = [crawler["pattern"] for crawler in CRAWLER_USER_AGENTS_DATA]
    return re.compile("|".join([*listed, f"(?i:{COMMON})"]))


@lru_cache(maxsize=4096)
def is_bot(user_agent: str) -> bool:
    """Tell whether a user agent is a known robot's; an empty one is not."""
    return bool(_pattern().search(user_agent[:MAX_USER_AGENT]))


def is_callback(meta: Mapping[str, str]) -> bool:
    """Tell whether a request is some site's callback: one of our own might lead back to us."""
    return "HTTP_WEBHOOK_ID" in meta


def is_prefetch(meta: Mapping[str, str]) -> bool:
    """Tell whether a browser only fetches ahead, and nobody has clicked yet."""
    return any(
        word in meta[header].lower()
        for header in PREFETCH_HEADERS
        if header in meta
        for word in ("prefetch", "preview", "prerender")
    )


def is_embedded(meta: Mapping[str, str]) -> bool:
    """Tell whether a page fetches this as an image, a frame or the like: nobody has clicked.

    Whoever can put an image on a page could otherwise make a click of each of its visitors.
    """
    return meta.get("HTTP_SEC_FETCH_DEST", "document") not in ("document", "empty", "")
