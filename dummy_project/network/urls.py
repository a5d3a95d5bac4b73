"""Mount the network's page and its two addresses, under the names that they have there."""

from django.urls import path

from . import views

app_name = "network"
urlpatterns = [
    path("", views.home, name="home"),
    path("aff_c", views.click, name="click"),
    path("aff_lsr", views.postback, name="postback"),
]
