"""The pages' addresses; a site includes them where it likes, `/friends/` say."""

from __future__ import annotations

from django.urls import path

from . import views

app_name = "affiliations_referrals"

urlpatterns = [
    path("", views.invite, name="invite"),
    path("by/<str:code>/", views.follow, name="follow"),
    path("stop/<str:token>/", views.stop, name="stop"),
]
