from importlib.util import find_spec

from django.apps import apps
from django.urls import include, path

from . import models, views

urlpatterns = [
    path("page/", views.page),
    path("apage/", views.apage),
    path("empty", views.empty),
    path("bare/<str:path>", views.bare),
    path("router/", include("affiliations.links.urls")),
    path("attribution/", include("affiliations.tracking.urls")),
    path("flagship/", include("affiliations.experiments.urls")),
    path("bare-json/", views.bare_json),
    path("insert/<int:property_id>/<int:identity_id>/", views.insert),
    path("insert-by-sql/<int:property_id>/<int:identity_id>/", views.insert_by_sql),
    path("floor/<int:partner_id>/", views.floor),
    path("order/", views.order, {"model": models.Order}),
    path("plain/", views.order, {"model": models.PlainOrder}),
    path("own-order/", views.order, {"model": models.Order, "user": True}),
    path("own-plain/", views.order, {"model": models.PlainOrder, "user": True}),
]

if find_spec("ninja"):
    urlpatterns.append(path("api/referrals/", include("affiliations.referrals.api_urls")))

if apps.is_installed("pinax.referrals"):
    urlpatterns.append(path("pinax/", include("pinax.referrals.urls")))
