"""The API's addresses; a site includes them where it likes, `/api/referrals/` say."""

from __future__ import annotations

from .api import NAMESPACE, api

app_name = NAMESPACE

urlpatterns = api.patterns(slashes=True)
