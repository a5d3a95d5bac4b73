"""The base settings with a user model of the site's own, and local time as sites once had it."""

from tests.projects.base import *

INSTALLED_APPS = [*INSTALLED_APPS, "tests.custom_user"]
AUTH_USER_MODEL = "custom_user.Account"
USE_TZ = False

# Runs while the tests of the base settings do, on the same server.
_default = DATABASES["default"]
_default.setdefault("TEST", {})
_default["TEST"].setdefault("NAME", f"test_{_default['NAME']}")
_default["TEST"]["NAME"] += "_custom_user"
