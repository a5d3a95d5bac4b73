"""What the tests share that have processes do a site's work."""

from tests.core.promises.conftest import company, crew

__all__ = ["company", "crew"]
