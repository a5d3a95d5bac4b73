"""What the experiments' tests share."""

import pytest

from affiliations import remembered
from affiliations.experiments import exposures, live, segments


@pytest.fixture(autouse=True)
def nothing_is_remembered():
    """Have each test begin as a process does: the rows of the one before are gone."""
    live.forget()
    exposures.forget()
    segments.forget()


@pytest.fixture
def queries(django_assert_num_queries, monkeypatch):
    """Count queries; and have a slow machine know still what it has just asked."""
    monkeypatch.setattr(remembered, "LIFETIME", 3600.0)
    return django_assert_num_queries
