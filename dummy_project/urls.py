"""Mount the shop with its router and API, the partner's site, the network and the admin."""

from django.contrib import admin
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

admin.site.site_header = "Harbour Kiln: the shop's admin"
admin.site.site_title = "Harbour Kiln"
admin.site.index_title = "The demo's tables"

urlpatterns = [
    path("", include("dummy_project.shop.urls")),
    path("router/", include("affiliations.links.urls")),
    path("api/links/", include("affiliations.links.api_urls")),
    path("api/experiments/", include("affiliations.experiments.api_urls")),
    path("friends/", include("affiliations.referrals.urls")),
    path("attribution/", include("affiliations.tracking.urls")),
    path("flagship/", include("affiliations.experiments.urls")),
    path("partner-site/", include("dummy_project.partner_site.urls")),
    path("network/", include("dummy_project.network.urls")),
    path("billing/", include("dummy_project.billing.urls")),
    path("admin/", admin.site.urls),
    path("favicon.ico", RedirectView.as_view(url=static("shop.svg"))),
]
