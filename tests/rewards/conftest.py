import pytest


@pytest.fixture
def shared(settings):
    """Credit a conversion to all visitors who come into question, in equal parts."""

    def everybody(eligible):
        return [(each, 1 / len(eligible)) for each in eligible]

    settings.AFFILIATE_ATTRIBUTION = everybody
