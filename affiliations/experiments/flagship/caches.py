"""Keep what visitors were given, so that they are given it again.

What is kept of somebody is `{"version": 1, "data": {"vId": their id, "vaIds": [variations' ids]}}`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from hashlib import sha256
from typing import Any

from django.core.cache import caches
from django.utils.module_loading import import_string

__all__ = ["DatabaseCacheManager", "DjangoCacheManager", "VisitorCacheManager"]

VERSION = 1


class VisitorCacheManager(ABC):
    """Where an application keeps what visitors were given; it writes the two methods."""

    @abstractmethod
    def save(self, visitor_id: str, visitor_data: dict[str, Any]) -> None:
        """Keep what somebody was given; called after each `synchronize_modifications`."""

    @abstractmethod
    def lookup(self, visitor_id: str) -> dict[str, Any] | None:
        """Return what was kept of somebody; called before each `synchronize_modifications`.

        None, or whatever else has not the form that is saved, is as good as nothing.
        """


class DjangoCacheManager(VisitorCacheManager):
    """Keeps it in one of Django's caches, for so many seconds or, with None, for ever.

    Programs that share a cache and are of different environments need different prefixes.
    """

    def __init__(
        self, alias: str = "default", timeout: float | None = None, *, prefix: str = "flagship"
    ) -> None:
        self._alias, self._timeout, self._prefix = alias, timeout, prefix

    def save(self, visitor_id: str, visitor_data: dict[str, Any]) -> None:
        """Keep what somebody was given."""
        caches[self._alias].set(self._key(visitor_id), visitor_data, self._timeout)

    def lookup(self, visitor_id: str) -> dict[str, Any] | None:
        """Return what was kept of somebody."""
        found: dict[str, Any] | None = caches[self._alias].get(self._key(visitor_id))
        return found

    def _key(self, visitor_id: str) -> str:
        # Caches take no key that is long, or has blanks.
        digest = sha256(visitor_id.encode(errors="surrogatepass")).hexdigest()
        return f"{self._prefix}:{digest}"


class DatabaseCacheManager(VisitorCacheManager):
    """Keeps it in the database, where the suite keeps what visitors have seen: as assignments.

    What somebody was given and has not seen is one that has no moment yet at which it was seen.
    `env_id` is the environment's, by default that of AFFILIATE_TRACKING_PROPERTY. Of a variation
    that is not in force nothing is kept.
    """

    def __init__(self, env_id: str = "") -> None:
        self._env_id = env_id

    def save(self, visitor_id: str, visitor_data: dict[str, Any]) -> None:
        """Keep what somebody was given, unless they have been given another of the group before."""
        _stored("save")(self._env_id, visitor_id, variations(visitor_id, visitor_data) or [])

    def lookup(self, visitor_id: str) -> dict[str, Any] | None:
        """Return what was kept of somebody, and what they have seen."""
        return data(visitor_id, _stored("lookup")(self._env_id, visitor_id))


def _stored(name: str) -> Any:
    # Models can be imported only where their app is installed.
    return import_string(f"{__package__}.stored.{name}")


def data(visitor_id: str, variation_ids: list[str]) -> dict[str, Any]:
    """Return what is to be kept of somebody."""
    return {"version": VERSION, "data": {"vId": visitor_id, "vaIds": variation_ids}}


def variations(visitor_id: str, found: Any) -> list[str] | None:
    """Return the ids of the variations that were kept of somebody, None where it was not kept so.

    By the form's version, and the visitor's own id in it.
    """
    if not isinstance(found, dict) or type(found.get("version")) is not int:
        return None
    kept = found.get("data")
    if found["version"] != VERSION or not isinstance(kept, dict):
        return None
    told, ids = kept.get("vId"), kept.get("vaIds")
    if not (isinstance(told, str) and told and told == visitor_id and isinstance(ids, list)):
        return None
    return [each for each in ids if isinstance(each, str)]
