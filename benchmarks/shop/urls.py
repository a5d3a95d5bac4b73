from django.urls import path

from . import models, views

urlpatterns = [
    path("page/", views.page),
    path("apage/", views.apage),
    path("floor/<int:partner_id>/", views.floor),
    path("order/", views.order, {"model": models.Order}),
    path("plain/", views.order, {"model": models.PlainOrder}),
    path("own-order/", views.order, {"model": models.Order, "user": True}),
    path("own-plain/", views.order, {"model": models.PlainOrder, "user": True}),
]
