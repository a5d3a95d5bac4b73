"""Mount the partner's pages."""

from django.urls import path, register_converter

from . import views
from .models import ReceivedCallback


class EventConverter:
    """One of the events that the partner wants to be told of."""

    regex = "|".join(ReceivedCallback.Event.values)

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(EventConverter, "event")

app_name = "partner-site"
urlpatterns = [
    path("", views.blog, name="blog"),
    path("log/", views.log, name="log"),
    path("callback/<event:event>/<str:visitor_id>/", views.callback, name="callback"),
]
