"""Attribution.io's addresses; a site includes them where it likes, `/attribution/` say."""

from __future__ import annotations

from django.urls import path, re_path

from . import views

app_name = "affiliations_tracking"

urlpatterns = [
    path("identities", views.identities, name="identities"),
    path("events", views.events, name="events"),
    path("openapi.json", views.openapi, name="openapi"),
    # Whatever somebody is called by, slashes and line breaks too: clients do not escape it.
    re_path(
        r"^api/v1/(?P<public_key>[^/]+)/customers/(?P<client_id>[\s\S]+)\Z",
        views.customer,
        name="customer",
    ),
]
