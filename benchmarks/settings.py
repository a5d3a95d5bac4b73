"""Settings of the benchmarks: the stack that `startproject` writes, and DATABASE_URL's database."""

import os
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import dj_database_url
import django

from affiliations.triggers import Trigger


def database() -> dict[str, Any]:
    """Return the database of DATABASE_URL, as a site in production would configure it.

    The benchmarks make one of their own on the same server; a SQLite file is theirs anyway.
    """
    config: dict[str, Any] = dict(dj_database_url.parse(os.environ["DATABASE_URL"]))
    config["CONN_MAX_AGE"] = None
    config["TEST"] = {"NAME": "affiliations_benchmarks"}
    options = config.setdefault("OPTIONS", {})
    if config["ENGINE"].endswith("sqlite3"):
        # A file: by default it would be in memory, where no other process sees it.
        config["TEST"]["NAME"] = str(Path(config["NAME"]).with_name("affiliations_benchmarks.db"))
        options["init_command"] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL"
        options["transaction_mode"] = "IMMEDIATE"
        options["timeout"] = 20
    elif config["ENGINE"].endswith("mysql"):
        options["charset"] = "utf8mb4"
        config["TEST"] |= {"CHARSET": "utf8mb4", "COLLATION": "utf8mb4_unicode_ci"}
    return config


SECRET_KEY = "a key for benchmarks only, which sign nothing that anybody keeps"
ALLOWED_HOSTS = ["testserver"]
DATABASES = {"default": database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
ROOT_URLCONF = "benchmarks.shop.urls"

# Of the processes that serve: in this one it is changed while something is measured.
AFFILIATE_TRACKING_SINK = os.environ.get("BENCHMARKS_SINK", "database")
AFFILIATE_TRACKING_STREAM = os.environ.get("BENCHMARKS_STREAM", "benchmarks")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "affiliations",
    "affiliations.links",
    "affiliations.rewards",
    "affiliations.referrals",
    "affiliations.tracking",
    "affiliations.attribution",
    "affiliations.experiments",
    "benchmarks.shop",
]

#: `startproject`'s own middleware; "…" is where ours, or what it is compared with, comes in.
STACK = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "…",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

# Delivery is woken, but nothing is sent: a partner's server has no place in a measurement.
TASKS_OF = "django.tasks" if django.VERSION >= (6,) else "django_tasks"
TASKS = {"default": {"BACKEND": f"{TASKS_OF}.backends.dummy.DummyBackend"}}
# Not there, or django-tasks is too old for it: there is no worker to compare with then.
with suppress(ImportError, ValueError):
    import_module("django_tasks_db.compat")
    INSTALLED_APPS.append("django_tasks_db")
    TASKS["worker"] = {"BACKEND": "django_tasks_db.DatabaseBackend"}
# Whose redirect a click is compared with, where it is installed.
with suppress(ImportError):
    import_module("pinax.referrals")
    INSTALLED_APPS += ["django.contrib.sites", "pinax.referrals"]
AFFILIATE_CALLBACK_ALLOW = ["127.0.0.0/8"]

AFFILIATE_TRIGGERS = [
    Trigger(
        "Order placed",
        "django.db.models.signals.post_save",
        "affiliations.triggers.object_created",
        "benchmarks_shop.Order",
        amount="total",
        currency="EUR",
    ),
]
AFFILIATE_RAISE_TRIGGER_ERRORS = True
