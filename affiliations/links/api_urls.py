"""The API's addresses; a site includes them where it likes, `/api/links/` say."""

from __future__ import annotations

from .api import api

app_name = "affiliations_links_api"

urlpatterns = api.patterns()
