from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("api/links/", include("affiliations.links.api_urls")),
    path("api/referrals/", include("affiliations.referrals.api_urls")),
    path("api/experiments/", include("affiliations.experiments.api_urls")),
    path("attribution/", include("affiliations.tracking.urls")),
    path("router/", include("affiliations.links.urls")),
    path("friends/", include("affiliations.referrals.urls")),
    path("flagship/", include("affiliations.experiments.urls")),
    path("admin/", admin.site.urls),
    path("", include("tests.shop.urls")),
]
