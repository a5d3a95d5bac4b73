"""The Python API of Flagship 2.1, for a Django site that decides by itself.

    from affiliations.experiments.flagship import Config, Flagship

    Flagship.instance().start(Config("the public key of a property"))
    visitor = Flagship.instance().create_visitor("visitor-1", context={"plan": "gold"})
    visitor.synchronize_modifications()
    color = visitor.get_modification("button-color", "red", activate=True)

Names, parameters and defaults are those of the vendor's package; what is done without a network is
the same that a server would do.
"""

from .app import Flagship
from .caches import DatabaseCacheManager, DjangoCacheManager, VisitorCacheManager
from .config import Config
from .errors import InitializationError, ParamError, TypingError
from .handler import FlagshipEventHandler
from .hits import Event, EventCategory, Hit, HitType, Item, Page, Screen, Transaction
from .presets import PresetContext
from .visitor import FlagshipVisitor

__all__ = [
    "Config",
    "DatabaseCacheManager",
    "DjangoCacheManager",
    "Event",
    "EventCategory",
    "Flagship",
    "FlagshipEventHandler",
    "FlagshipVisitor",
    "Hit",
    "HitType",
    "InitializationError",
    "Item",
    "Page",
    "ParamError",
    "PresetContext",
    "Screen",
    "Transaction",
    "TypingError",
    "VisitorCacheManager",
]
