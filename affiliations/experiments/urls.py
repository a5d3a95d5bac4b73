"""Flagship's addresses; a site includes them where it likes, `/flagship/` say.

With and without a slash at the end, for clients write some so and some so, and follow no redirect
with what they post.
"""

from __future__ import annotations

from django.urls import re_path

from . import taking, views

app_name = "affiliations_experiments"

urlpatterns = [
    re_path(r"^v2/activate/?\Z", taking.activate, name="activate"),
    re_path(r"^v2/(?P<env>[^/]+)/campaigns/?\Z", views.campaigns, name="campaigns"),
    re_path(
        r"^v2/(?P<env>[^/]+)/campaigns/(?P<campaign>[^/]+)/?\Z", views.campaign, name="campaign"
    ),
    re_path(r"^v2/(?P<env>[^/]+)/flags/?\Z", views.flags, name="flags"),
    re_path(r"^v2/(?P<env>[^/]+)/events/?\Z", taking.events, name="events"),
    re_path(r"^openapi\.json\Z", views.openapi, name="openapi"),
    re_path(r"^(?P<env>[^/]+)/bucketing\.json\Z", views.bucketing_file, name="bucketing"),
    # Where clients have one base for all, it is what they collect at.
    re_path(r"^(?:collect/?)?\Z", taking.universal, name="collect"),
]
