"""Settings of the demo, and an example of how a site takes the suite in.

What a site adds of its own is under "Affiliations"; the rest is what `django-admin startproject`
would write.
"""

from datetime import timedelta
from pathlib import Path

import dj_database_url
import django

from affiliations.triggers import Trigger

BASE_DIR = Path(__file__).resolve().parent

# --- Affiliations -------------------------------------------------------------------------------

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
    # Serves the scripts of the page that shows the API of the links.
    "ninja",
    "dummy_project.shop",
    "dummy_project.partner_site",
    "dummy_project.network",
    "dummy_project.billing",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    # Below the sessions and the users, both of which it asks.
    "affiliations.middleware.AffiliateMiddleware",
    # Below the one that hands out the cookie by which a browser sees the same again.
    "affiliations.experiments.middleware.ExperimentsMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

# The partner's site and the network of the demo are on this machine, where no real ones can be.
AFFILIATE_CALLBACK_ALLOW = ["127.0.0.1"]

# What a partner can be credited for. Subscriptions refer to these names.
AFFILIATE_TRIGGERS = [
    # A plain tuple: a name, a signal, a receiver, the signal's sender.
    (
        "User registered",
        "django.db.models.signals.post_save",
        "affiliations.triggers.object_created",
        "django.contrib.auth.models.User",
    ),
    # The same four, and where on an order to find what the partner is told about it.
    Trigger(
        "Order placed",
        "django.db.models.signals.post_save",
        "affiliations.triggers.object_created",
        "shop.Order",
        user="user",
        amount="total",
        currency="currency",
        reference="number",
    ),
]

# Links: the hosts of the network's own links, and what it knows the shop by. The latter goes out in
# the place of {security_token}; the demo adds the port that it is served on, if it is another.
AFFILIATE_LINKS_REFERERS = ["127.0.0.1"]
AFFILIATE_CALLBACK_TOKENS = {"127.0.0.1:8000": "demo-only-token-of-fairlead"}
AFFILIATE_LINKS_CURRENCY = "EUR"
# Where customers find what they have bought: whoever follows a link to it again is led there.
AFFILIATE_LINKS_PURCHASED = "dummy_project.shop.services.purchased_url"
# Who has to know of refunds, because a payout is to be held back.
AFFILIATE_REFUND_ALERTS = ["thomas@harbour-kiln.example"]

# Tracking: the public key of the shop's property, and what its other programs call its customers.
AFFILIATE_TRACKING_PROPERTY = "harbour-kiln"
AFFILIATE_TRACKING_CLIENT_IDS = "dummy_project.shop.services.client_ids"

# Rewards: what partners earn is held for a month, as long as customers may send things back. Staff
# look at what a customer with a throw-away address has ordered before anybody is paid for it.
AFFILIATE_HOLD = timedelta(days=30)
AFFILIATE_FLAGS = ["affiliations.rewards.flags.disposable_mail"]
AFFILIATE_PAYOUT_MINIMUM = {"EUR": 5}

# Referrals: the billing system credits who brings a friend, and is told here. The demo adds
# the port that it is served on.
AFFILIATE_REFERRALS_BILLING_URL = "http://127.0.0.1:8000/billing/{user_hash}/credits/"
AFFILIATE_REFERRALS_CURRENCY = "EUR"

# --- The rest -----------------------------------------------------------------------------------

# This key is public. A real site keeps its own one secret: it also signs what partners are told.
SECRET_KEY = "demo-only-key-never-use-it-for-a-real-site"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

ROOT_URLCONF = "dummy_project.urls"
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

# The environment's DATABASE_URL, or else a file beside this one.
DATABASES = {"default": dj_database_url.config(default=f"sqlite:///{BASE_DIR / 'demo.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # Requests and the delivery of callbacks write at the same time: let them wait their turn.
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL",
    }

LOGIN_URL = "shop:log-in"
LOGIN_REDIRECT_URL = "shop:home"
LOGOUT_REDIRECT_URL = "shop:home"
# Another project on this machine, at another port, keeps its own session.
SESSION_COOKIE_NAME = "affiliations_demo_session"

# Mails are printed where the demo was started.
DEFAULT_FROM_EMAIL = "till@harbour-kiln.example"
MAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": MAIL_BACKEND}}
else:
    EMAIL_BACKEND = MAIL_BACKEND

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]

# A line for each request would bury what the demo has to say. What fails is still shown.
LOGGING = {
    "version": 1,
    "incremental": True,
    "loggers": {"django": {"level": "ERROR"}, "django.server": {"level": "ERROR"}},
}

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
