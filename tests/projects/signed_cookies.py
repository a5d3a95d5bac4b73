"""The base settings with sessions that live in the browser instead of the database."""

from tests.projects.base import *

SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
