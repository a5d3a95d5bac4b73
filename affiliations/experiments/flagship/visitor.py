"""A visitor: what is known of them, the flags that they have, and what they do."""

from __future__ import annotations

import copy
import logging
import traceback
from collections.abc import Iterable, Mapping
from threading import RLock
from typing import Any
from uuid import uuid4

from . import caches
from .arguments import MAX_WHOLE, is_type, typed
from .config import Config
from .decisions import Decisions, Failed, Flag, Who
from .errors import TypingError
from .handler import FlagshipEventHandler, handled
from .hits import Hit
from .presets import PresetContext

__all__ = ["FlagshipVisitor"]

#: What a default may be; None is as good as none.
DEFAULTS = (str, bool, int, float, dict, list, type(None))
#: A key and its value.
PAIR = 2
Updated = tuple[str, bool, str, Any]


class FlagshipVisitor:
    """A visitor, made by `Flagship.create_visitor`; threads may share one.

    What may fail returns whether it has worked, and why not. Nothing is raised but for arguments
    that cannot be: TypingError, which names them.
    """

    def __init__(
        self,
        decisions: Decisions,
        config: Config,
        visitor_id: str | None,
        authenticated: bool,
        context: Mapping[str, Any],
    ) -> None:
        self._decisions = decisions
        self._config = config
        self._lock = RLock()
        self._visitor_id = visitor_id or _new_id()
        is_carried = authenticated and config.mode is Config.Mode.API
        self._anonymous_id = _new_id() if is_carried else None
        self._context: dict[str, Any] = {}
        self._flags: dict[str, Flag] = {}
        self._panic = False
        #: Of all that were asked for, the number of the last one, and of that which was taken.
        self._asked = self._taken = 0
        self._put([*PresetContext.load().items(), *context.items()])

    @property
    def event_handler(self) -> FlagshipEventHandler:
        """Who is told of what happens."""
        return self._config.event_handler

    @property
    def visitor_id(self) -> str:
        """What the visitor is called."""
        return self._visitor_id

    @property
    def anonymous_id(self) -> str | None:
        """What the visitor was called before they logged in, None where they have not."""
        return self._anonymous_id

    def get_context(self) -> dict[str, Any]:
        """Return a copy of the context."""
        with self._lock:
            return dict(self._context)

    @handled
    def update_context(
        self, context: dict[str, Any] | tuple[str, Any], synchronize: bool = False
    ) -> tuple[tuple[Any, ...], tuple[bool, str] | None]:
        """Set values of the context, of one key and its value or of a dictionary.

        A key is text or a PresetContext; a value is text, a number, true or false. Returns what
        became of each, as (key, whether it was set, why not, None), or just that of a tuple; and
        what `synchronize_modifications` has returned, None without `synchronize`.
        """
        typed("synchronize", synchronize, bool)
        is_pair = isinstance(typed("context", context, dict, tuple), tuple)
        if is_pair and len(context) != PAIR:
            raise TypingError("context: a tuple must be of a key and its value")
        if self._panic:
            self._refused("update_context", "the context cannot be updated")
            return (), None
        found = self._put([context] if isinstance(context, tuple) else context.items())
        updated = found[0] if is_pair else tuple(found)
        return updated, self.synchronize_modifications() if synchronize else None

    def _put(self, context: Iterable[tuple[Any, Any]]) -> list[Updated]:
        found: list[Updated] = []
        for key, value in context:
            name = key.value if isinstance(key, PresetContext) else key
            if problem := _problem(name, value):
                self._log(logging.ERROR, f"[update_context] {problem}")
            else:
                with self._lock:
                    self._context[name] = value
            found.append((name, not problem, problem, None))
        return found

    @handled
    def synchronize_modifications(self) -> tuple[bool, str]:
        """Decide anew which flags the visitor has; return whether it has worked, and why not.

        Where it has not, they have those that they had.
        """
        with self._lock:
            self._asked += 1
            number, who, context = self._asked, self._who(), dict(self._context)
        cached = self._looked_up(who.visitor_id)
        try:
            found = self._decisions.decide(who, context, cached)
        except Failed as failure:
            return self._failed("synchronize_modifications", str(failure))
        with self._lock:
            # Another thread may have asked later, and been answered before.
            if number > self._taken:
                self._taken, self._panic = number, found.panic
                if not found.panic:
                    self._flags = found.flags
        if found.panic:
            return self._refused("synchronize_modifications", "nothing is decided")
        self._log(logging.DEBUG, f"[synchronize_modifications] {len(found.flags)} flags")
        self._saved(who.visitor_id, found.flags)
        return True, ""

    @handled
    def get_modification(self, key: str, default_value: Any, activate: bool = False) -> Any:
        """Return a flag's value, or the default where the visitor has no such flag.

        `activate` says, too, that they have seen it.
        """
        return self.get_modification_with_results(key, default_value, activate)[0]

    @handled
    def get_modification_with_results(
        self, key: str, default_value: Any, activate: bool = False
    ) -> tuple[Any, bool, str, tuple[bool, str] | None]:
        """Return a flag's value or the default, whether there is one, why not, and what
        `activate_modification` has returned, None without `activate`.
        """
        typed("key", key, str)
        typed("default_value", default_value, *DEFAULTS)
        typed("activate", activate, bool)
        flag, problem = self._flag("get_modification", key)
        if flag is None:
            return default_value, False, problem, None
        # What the application does to a list of its own is no matter of other visitors.
        value = default_value if flag.value is None else copy.deepcopy(flag.value)
        return value, True, "", self._activated(flag) if activate else None

    @handled
    def get_modification_info(self, key: str) -> dict[str, Any] | None:
        """Return where a flag is from, None where the visitor has no such flag.

        As `{"campaignId", "variationGroupId", "variationId", "isReference"}`.
        """
        flag, _ = self._flag("get_modification_info", typed("key", key, str))
        if flag is None:
            return None
        return {
            "campaignId": flag.campaign_id,
            "variationGroupId": flag.group_id,
            "variationId": flag.variation_id,
            "isReference": flag.is_reference,
        }

    @handled
    def activate_modification(self, key: str) -> tuple[bool, str]:
        """Say that the visitor has seen a flag; return whether it was taken, and why not."""
        flag, problem = self._flag("activate_modification", typed("key", key, str))
        return (False, problem) if flag is None else self._activated(flag)

    @handled
    def send_hit(self, hit: Hit) -> tuple[bool, str]:
        """Say what the visitor does; return whether it was taken, and why not."""
        typed("hit", hit, Hit)
        if self._panic:
            return self._refused("send_hit", "no hit is sent")
        if problem := hit.problem():
            return self._failed("send_hit", problem)
        try:
            return True, self._decisions.tell(self._who(), hit.get_data())
        except Failed as failure:
            return self._failed("send_hit", str(failure))

    @handled
    def authenticate(
        self, visitor_id: str, context: dict[str, Any] | None = None, synchronize: bool = False
    ) -> None:
        """Go on as somebody who has logged in, and keep what they see.

        A `context` takes the place of the one before. Not in `Mode.BUCKETING`.
        """
        self._check_change(context, synchronize)
        if not typed("visitor_id", visitor_id, str, type(None)):
            return self._log(logging.WARNING, "[authenticate] is ignored without a visitor_id")
        if self._is_bucketing("authenticate"):
            return None
        with self._lock:
            if self._anonymous_id is None:
                self._anonymous_id = self._visitor_id
            self._visitor_id = visitor_id
            self._replace(context)
        if synchronize:
            self.synchronize_modifications()
        return None

    @handled
    def unauthenticate(
        self, context: dict[str, Any] | None = None, synchronize: bool = False
    ) -> None:
        """Go on as whoever it was before they logged in.

        A `context` takes the place of the one before. Not in `Mode.BUCKETING`.
        """
        self._check_change(context, synchronize)
        if self._is_bucketing("unauthenticate"):
            return None
        with self._lock:
            if self._anonymous_id is None:
                return self._log(
                    logging.WARNING, "[unauthenticate] is ignored, for nobody is logged in"
                )
            self._visitor_id, self._anonymous_id = self._anonymous_id, None
            self._replace(context)
        if synchronize:
            self.synchronize_modifications()
        return None

    def get_selected_variations(self) -> list[str]:
        """Return the ids of the variations that the visitor's flags are from, each once."""
        with self._lock:
            return [*dict.fromkeys(each.variation_id for each in self._flags.values())]

    def _check_change(self, context: Any, synchronize: Any) -> None:
        typed("context", context, dict, type(None))
        typed("synchronize", synchronize, bool)

    def _is_bucketing(self, what: str) -> bool:
        if self._config.mode is Config.Mode.BUCKETING:
            self._log(logging.WARNING, f"[{what}] is ignored in BUCKETING mode")
            return True
        return False

    def _replace(self, context: dict[str, Any] | None) -> None:
        # While panicking, too: it is another person's.
        if context is not None:
            self._context.clear()
            self._put(context.items())

    def _who(self) -> Who:
        with self._lock:
            return Who(self._visitor_id, self._anonymous_id)

    def _flag(self, what: str, key: str) -> tuple[Flag | None, str]:
        """Return a flag; or None, and why."""
        with self._lock:
            flag, panic = self._flags.get(key), self._panic
        if panic:
            return None, self._refused(what, f"{key[:100]!r} is not looked for")[1]
        if flag is None:
            return None, self._failed(what, f"key: there is no flag {key[:100]!r}")[1]
        return flag, ""

    def _activated(self, flag: Flag) -> tuple[bool, str]:
        try:
            return True, self._decisions.activate(self._who(), flag)
        except Failed as failure:
            return self._failed("activate_modification", str(failure))

    def _looked_up(self, visitor_id: str) -> list[str]:
        manager = self._config.visitor_cache_manager
        if manager is None:
            return []
        try:
            with self._decisions.guarded():
                found = manager.lookup(visitor_id)
        except Exception as error:  # noqa: BLE001 # the application's own; visitors see something
            self.event_handler.on_exception_raised(error, traceback.format_exc())
            return []
        kept = caches.variations(visitor_id, found)
        if kept is None and found is not None:
            self._log(logging.WARNING, "[lookup] what is cached of a visitor has another form")
        return kept or []

    def _saved(self, visitor_id: str, flags: Mapping[str, Flag]) -> None:
        manager = self._config.visitor_cache_manager
        if manager is None:
            return
        ids = [*dict.fromkeys(each.variation_id for each in flags.values())]
        try:
            with self._decisions.guarded():
                manager.save(visitor_id, caches.data(visitor_id, ids))
        except Exception as error:  # noqa: BLE001 # as above
            self.event_handler.on_exception_raised(error, traceback.format_exc())

    def _refused(self, what: str, said: str) -> tuple[bool, str]:
        return self._failed(what, f"{said} while panic mode is enabled")

    def _failed(self, what: str, said: str) -> tuple[bool, str]:
        self._log(logging.ERROR, f"[{what}] {said}")
        return False, said

    def _log(self, level: int, message: str) -> None:
        if level > logging.DEBUG or self._config.debug is not False:
            self.event_handler.on_log(level, message)


def _new_id() -> str:
    return str(uuid4())


def _problem(key: Any, value: Any) -> str:
    """Return why a key and a value cannot be in a context, "" where they can."""
    if not isinstance(key, str):
        return f"context: the key {str(key)[:100]!r} must be str, not {type(key).__name__}"
    if not is_type(value, str, bool, int, float):
        kinds = "str, bool, int or float"
        return f"context: the value of {key[:100]!r} must be {kinds}, not {type(value).__name__}"
    if not isinstance(value, str) and not -MAX_WHOLE <= value <= MAX_WHOLE:
        if isinstance(value, float) and value - value == 0:
            return ""
        return f"context: the value of {key[:100]!r} must be a number that a computer can hold"
    return ""
