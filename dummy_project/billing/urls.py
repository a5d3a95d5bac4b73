"""Mount the billing system's address."""

from django.urls import path

from . import views

app_name = "billing"
urlpatterns = [path("<str:user_hash>/credits/", views.credit, name="credit")]
