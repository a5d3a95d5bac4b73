"""Know who sent each visitor, what came of it, and tell everybody who must know."""

__version__ = "0.1.0.dev0"
