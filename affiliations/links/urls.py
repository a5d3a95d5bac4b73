"""The router's addresses; a site includes them where it likes, `/router/` say."""

from __future__ import annotations

from django.urls import path

from . import views

app_name = "affiliations_links"

urlpatterns = [
    path("<str:path>", views.follow, name="follow"),
    path("<str:path>/", views.follow),
    path("<str:path>/<str:token>", views.follow, name="follow-deep"),
]
