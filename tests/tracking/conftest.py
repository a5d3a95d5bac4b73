"""What the tracking's tests share."""

from tests.tracking.streams import redis_sink

__all__ = ["redis_sink"]
