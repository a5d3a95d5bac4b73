"""What the experiments' tests share."""

import pytest

from affiliations import remembered
from affiliations.experiments import exposures, live, segments
from affiliations.tracking import properties


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
    # What was asked before is known for a second only, which may end at any time.
    live.forget()
    properties.forget()
    return django_assert_num_queries
