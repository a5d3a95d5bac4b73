"""Settings of the test suite: the core, a tiny shop, and whatever database DATABASE_URL names."""

import atexit
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

import dj_database_url


def database() -> dict[str, Any]:
    """Return the database of DATABASE_URL, or a SQLite file that dies with this process."""
    url = os.environ.get("DATABASE_URL")
    if not url:
        # No directory is made for it: type checkers import this too, and never get to clean up.
        name = f"affiliations-{secrets.token_hex(8)}.sqlite3"
        atexit.register(remove, name)
        url = f"sqlite:///{tempfile.gettempdir()}/{name}"
    config: dict[str, Any] = dict(dj_database_url.parse(url))
    options = config.setdefault("OPTIONS", {})
    if config["ENGINE"].endswith("sqlite3"):
        file = Path(config["NAME"])
        # A file, because threads and child processes must see it: by default it would be in memory.
        config["TEST"] = {"NAME": str(file.with_name(f"test_{file.name}"))}
        # As in production: readers go on beside a writer, and a writer waits for its turn at BEGIN
        # rather than fail in the middle of its transaction.
        options["init_command"] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL"
        options["transaction_mode"] = "IMMEDIATE"
        options["timeout"] = 20
    elif config["ENGINE"].endswith("mysql"):
        options["charset"] = "utf8mb4"
        config["TEST"] = {"CHARSET": "utf8mb4", "COLLATION": "utf8mb4_unicode_ci"}
    return config


def remove(name: str) -> None:
    """Remove the databases of that name, and what SQLite may have left beside them."""
    for file in Path(tempfile.gettempdir()).glob(f"*{name}*"):
        file.unlink(missing_ok=True)


SECRET_KEY = "a key for tests only, and long enough that no system check complains of its length"
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
DATABASES = {"default": database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
ROOT_URLCONF = "tests.projects.urls"
STATIC_URL = "/static/"
# Django 6.1 wants it said; the tests' own mailer takes its place.
MAILERS = {"default": {"BACKEND": "django.core.mail.backends.console.EmailBackend"}}
# The real ones are slow on purpose, and no test is about passwords.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "affiliations",
    "affiliations.links",
    "affiliations.rewards",
    "affiliations.referrals",
    "affiliations.tracking",
    "affiliations.attribution",
    "affiliations.experiments",
    "tests.shop",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "affiliations.middleware.AffiliateMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# Partners of the tests are servers on this machine, which no partner of a site's can be.
AFFILIATE_CALLBACK_ALLOW = ["127.0.0.0/8"]
AFFILIATE_TRIGGERS = (
    (
        "User registered",
        "django.db.models.signals.post_save",
        "affiliations.triggers.object_created",
        "AUTH_USER_MODEL",
    ),
    (
        "Order placed",
        "django.db.models.signals.post_save",
        "affiliations.triggers.object_created",
        "shop.Order",
    ),
)
AFFILIATE_RAISE_TRIGGER_ERRORS = True
