"""The API's addresses; a site includes them where it likes, `/api/experiments/` say."""

from __future__ import annotations

from .api import api

app_name = "affiliations_experiments_api"

urlpatterns = api.patterns()
