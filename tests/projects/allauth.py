"""The base settings with accounts of django-allauth's; used by tests/referrals/test_allauth.py."""

import os

from tests.projects.base import *

INSTALLED_APPS = [
    *INSTALLED_APPS,
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.dummy",
    "allauth.headless",
]
MIDDLEWARE = [*MIDDLEWARE, "allauth.account.middleware.AccountMiddleware"]
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
ROOT_URLCONF = "tests.projects.allauth_urls"
LOGIN_REDIRECT_URL = "/"
SESSION_ENGINE = os.environ.get("ALLAUTH_SESSIONS", "django.contrib.sessions.backends.db")

ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
# Everybody in the tests comes from one address.
ACCOUNT_RATE_LIMITS = False

# Runs while the tests of the base settings do, on the same server.
_default = DATABASES["default"]
_default.setdefault("TEST", {})
_default["TEST"].setdefault("NAME", f"test_{_default['NAME']}")
_default["TEST"]["NAME"] += "_allauth"
