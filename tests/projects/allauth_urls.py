from django.urls import include, path

from tests.projects import urls

urlpatterns = [
    path("accounts/", include("allauth.urls")),
    path("_allauth/", include("allauth.headless.urls")),
    *urls.urlpatterns,
]
