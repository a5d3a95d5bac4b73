"""Start Flagship, and make visitors.

flagship = Flagship.instance()
flagship.start(Config("the environment's id"))
visitor = flagship.create_visitor("visitor-1", context={"plan": "gold"})
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, Self, cast, overload

from django.utils.module_loading import import_string

from .arguments import typed
from .config import Config
from .decisions import Decisions
from .errors import InitializationError
from .handler import FlagshipEventHandler, handled
from .visitor import FlagshipVisitor

__all__ = ["Flagship"]


class Flagship:
    """What makes visitors; there is one in a process, `Flagship.instance()`."""

    _instance: Flagship | None = None
    _making = Lock()

    def __init__(self) -> None:
        #: Both at once, so that no thread has the one without the other.
        self._started: tuple[Config, Decisions] | None = None
        self._event_handler = FlagshipEventHandler()

    @classmethod
    def instance(cls) -> Self:
        """Return the one of this process."""
        with cls._making:
            if cls._instance is None:
                cls._instance = cls()
            return cast(Self, cls._instance)

    @property
    def event_handler(self) -> FlagshipEventHandler:
        """Who is told of what happens."""
        return self._event_handler

    @overload
    def start(self, config: Config) -> None: ...

    @overload
    def start(self, env_id: str, api_key: str | None, config: Config) -> None: ...

    def start(self, *args: Any, **kwargs: Any) -> None:
        """Start with a configuration, or start anew with another; visitors keep theirs.

        The environment's id and its key may be given as before, ahead of the configuration, which
        then has them. Asks no database. Raises InitializationError where something is missing.
        """
        self._start(args, kwargs)

    @handled
    def _start(self, args: Sequence[Any], given: Mapping[str, Any]) -> None:
        config = _configured(args, given)
        self._event_handler = config.event_handler
        if not config.env_id:
            raise InitializationError("env_id: must be an environment's id")
        if config.decision_api_url and not config.api_key:
            raise InitializationError("api_key: a server asks for it")
        decisions: Decisions = import_string(f"{__package__}.{_where(config)}")(config)
        self._started = config, decisions
        if config.debug is not False:
            config.event_handler.on_log(logging.DEBUG, f"Started {config!r}")

    def is_flagship_started(self) -> bool:
        """Tell whether it was started."""
        return self._started is not None

    @handled
    def create_visitor(
        self,
        visitor_id: str | None = None,
        authenticated: bool = False,
        context: dict[str, Any] | None = None,
    ) -> FlagshipVisitor:
        """Make a visitor, who has no flags until `synchronize_modifications`.

        Without a `visitor_id` they get one that nobody else has. Of the `context` is left out, and
        logged, what `update_context` would refuse. Raises InitializationError before the start.
        """
        typed("visitor_id", visitor_id, str, type(None))
        typed("authenticated", authenticated, bool)
        typed("context", context, dict, type(None))
        if self._started is None:
            raise InitializationError("Flagship has not been started")
        config, decisions = self._started
        return FlagshipVisitor(decisions, config, visitor_id, authenticated, context or {})

    def close(self) -> None:
        """Make no more visitors until it is started anew."""
        self._started = None


def _where(config: Config) -> str:
    # Models can be imported only where their app is installed: who asks a server need not have it.
    if not config.decision_api_url:
        return "here.Here"
    is_file = config.mode is Config.Mode.BUCKETING
    return "polling.Polling" if is_file else "remote.Remote"


def _configured(args: Sequence[Any], named: Mapping[str, Any]) -> Config:
    """Return the configuration of both forms of a start."""
    names = ("config",) if len(args) == 1 and not named else ("env_id", "api_key", "config")
    if len(args) > len(names):
        raise TypeError("start() takes a configuration, or an id, a key and a configuration")
    given = {**dict(zip(names, args, strict=False)), **named}
    if given.keys() not in ({"config"}, {"env_id", "api_key", "config"}):
        raise TypeError("start() takes a configuration, or an id, a key and a configuration")
    config: Config = typed("config", given["config"], Config)
    if len(given) > 1:
        config.env_id = typed("env_id", given["env_id"], str)
        config.api_key = typed("api_key", given["api_key"], str, type(None))
    return config
