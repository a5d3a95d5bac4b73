"""What the tests share that kill processes."""

from collections.abc import Iterator

import pytest

from tests.core.promises import chaos


@pytest.fixture(scope="module")
def company(
    django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[chaos.Crew]:
    """Processes that have loaded Django, and fork others; to start them takes a second."""
    with chaos.crew(tmp_path_factory.mktemp("crew")) as company:
        yield company


@pytest.fixture
def crew(company: chaos.Crew, transactional_db: None) -> Iterator[chaos.Crew]:
    """Let them work on this test's database; whatever they forked ends with it."""
    with chaos.at_work(company) as crew:
        yield crew
