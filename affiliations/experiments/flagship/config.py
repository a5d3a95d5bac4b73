"""Say which environment decides, where it does, and how."""

from __future__ import annotations

import math
from enum import Enum
from typing import TypeAlias

from .arguments import typed
from .caches import VisitorCacheManager
from .errors import ParamError
from .handler import FlagshipEventHandler

__all__ = ["Config"]

#: Seconds between two looks at the file that decides, and for which a server is waited for.
POLLING_INTERVAL, TIMEOUT = 60, 2.0
LONGEST = 3600.0


class Mode(Enum):
    """Who decides: whoever is asked for each visitor, or a file that is fetched now and then."""

    API = "API"
    BUCKETING = "BUCKETING"


class Config:
    """What Flagship is started with.

    `env_id` is a property's public key, and `api_key` its secret, which may be left out where it is
    decided in this process. That is so unless `decision_api_url` says where a server has the
    addresses of `affiliations.experiments.urls`, such as "https://shop.example/flagship".

    `timeout` is in seconds, for each request to that server. With `Mode.BUCKETING` the server gives
    a file by which it is decided here, looked for each `polling_interval` seconds, and only at the
    start if that is 0 or less; and visitors are not carried over when they log in. Without `debug`,
    which is False, no message of the level DEBUG is given to the `event_handler`.

    Raises TypingError and ParamError, which name the argument.
    """

    Mode: TypeAlias = Mode

    def __init__(
        self,
        env_id: str | None = None,
        api_key: str | None = None,
        *,
        mode: Mode = Mode.API,
        timeout: float = TIMEOUT,
        polling_interval: float = POLLING_INTERVAL,
        event_handler: FlagshipEventHandler | None = None,
        debug: bool | None = None,
        visitor_cache_manager: VisitorCacheManager | None = None,
        decision_api_url: str | None = None,
    ) -> None:
        nothing = type(None)
        self.env_id: str | None = typed("env_id", env_id, str, nothing)
        self.api_key: str | None = typed("api_key", api_key, str, nothing)
        self.mode: Mode = typed("mode", mode, Mode)
        self.timeout = float(typed("timeout", timeout, float))
        if not 0 < self.timeout <= LONGEST:
            raise ParamError(f"timeout: must be more than 0 seconds, and at most {LONGEST:.0f}")
        interval: float = typed("polling_interval", polling_interval, float)
        if math.isnan(interval):
            raise ParamError("polling_interval: must be a number of seconds")
        self.bucketing_refresh_interval = interval
        handler = typed("event_handler", event_handler, FlagshipEventHandler, nothing)
        self.event_handler: FlagshipEventHandler = handler or FlagshipEventHandler()
        self.debug: bool | None = typed("debug", debug, bool, nothing)
        self.visitor_cache_manager: VisitorCacheManager | None = typed(
            "visitor_cache_manager", visitor_cache_manager, VisitorCacheManager, nothing
        )
        url: str = typed("decision_api_url", decision_api_url, str, nothing) or ""
        if url and not url.startswith(("https://", "http://")):
            raise ParamError("decision_api_url: must begin with https:// or http://")
        self.decision_api_url = url.rstrip("/")

    def __repr__(self) -> str:
        where = self.decision_api_url or "this process"
        return f"<Config {self.env_id} {self.mode.value} at {where}>"
