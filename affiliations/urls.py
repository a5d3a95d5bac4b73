"""The core's pages for machines; a site includes them where it likes."""

from __future__ import annotations

from django.urls import path

from .views import metrics

app_name = "affiliations"

urlpatterns = [path("metrics", metrics, name="metrics")]
