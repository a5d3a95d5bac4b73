"""What the tests share that kill processes."""

from tests.core.promises.conftest import company, crew

__all__ = ["company", "crew"]
