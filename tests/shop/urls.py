from django.urls import path

from tests.shop import views

urlpatterns = [
    path("", views.home),
    path("echo/", views.echo),
    path("aecho/", views.aecho),
    path("signup/", views.signup),
    path("asignup/", views.asignup),
    path("login/", views.log_in),
    path("logout/", views.log_out),
    path("order/", views.order),
    path("aorder/", views.aorder),
    path("stranger/", views.stranger),
    path("whoami/", views.whoami),
    path("awhoami/", views.awhoami),
]
