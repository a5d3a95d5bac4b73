"""Metadata of the distribution; the build system and the tools' settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def version() -> str:
    # Read, not imported: the build has no Django to import the package with.
    source = (HERE / "affiliations" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__(?:: \w+)? = "([^"]+)"$', source, re.MULTILINE)
    if found is None:
        raise RuntimeError("affiliations/__init__.py: __version__ is missing")
    return found.group(1)


# The first release of each series that holds the security fixes this package relies on; what came
# before it in a series is excluded one by one, since `!=6.0.*` would take the whole series.
DJANGO = ",".join(
    ["Django>=5.2.18"]
    + [f"!=6.0.{patch}" for patch in range(9)]
    + [f"!=6.1.{patch}" for patch in range(2)]
)

# The first that has what an operation answers with a status by its name.
API = ["django-ninja>=1.6"]
# DuckDB runs in the process; for SQLite and PostgreSQL Ibis writes SQL, which Django runs. It does
# so by SQLGlot, and knows best which version of it.
ATTRIBUTION = ["ibis-framework[duckdb]>=12.0", "sqlglot"]
# It takes no newer pandas yet. Its own wheel is built where it is installed.
SPARK = ["pyspark>=4.0", "pandas<3"]
# By its C code visitors are put into buckets; the first that has the name of what is called.
EXPERIMENTS = ["mmh3>=5.0"]
BOTS = ["crawler-user-agents>=1.40"]
# A list of domains, made anew every few days.
DISPOSABLE = ["disposable-email-domains>=0.0.200"]
DATABASE_URL = ["dj-database-url>=2.2"]
# With hiredis, which reads many messages in a third of the time.
REDIS = ["redis[hiredis]>=6.0"]
QR = ["segno>=1.6"]

setup(
    name="django-affiliations",
    version=version(),
    description="Affiliate partners, visitors, conversions and callbacks that cannot get lost.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="the affiliations authors",
    license_expression="BSD-3-Clause",
    license_files=["LICENSE"],
    keywords=["django", "affiliate", "partner", "referral", "conversion", "postback", "webhook"],
    packages=find_packages(include=["affiliations", "affiliations.*"]),
    include_package_data=True,
    python_requires=">=3.11",
    install_requires=[
        DJANGO,
        "requests>=2.32.4",
        # Django 6.0 has the Tasks API built in, and only 5.2 needs this backport of it. A marker
        # can ask for Python's version, not for Django's, and 5.2 runs on every Python that 6.x
        # does; an extra would make 5.2 fail at start for whoever did not read about it. Beside
        # Django 6 it lies unused: nothing imports it there. Before 0.11 it failed on Python 3.11.
        "django-tasks>=0.11",
    ],
    extras_require={
        "api": API,
        "attribution": ATTRIBUTION,
        "bots": BOTS,
        "disposable": DISPOSABLE,
        "experiments": EXPERIMENTS,
        "openfeature": [*EXPERIMENTS, "openfeature-sdk>=0.10"],
        "redis": REDIS,
        "qr": QR,
        "spark": [*ATTRIBUTION, *SPARK],
        "postgres": ["psycopg[binary]>=3.2"],
        "mariadb": ["mysqlclient>=2.2.4"],
        "demo": [*API, *ATTRIBUTION, *DATABASE_URL, *EXPERIMENTS, *QR],
        "benchmarks": [
            *API,
            *DATABASE_URL,
            *EXPERIMENTS,
            *REDIS,
            "gunicorn>=25.1",
            "pinax-referrals>=4.5",
        ],
        "test": [
            *API,
            *ATTRIBUTION,
            *BOTS,
            *DATABASE_URL,
            *DISPOSABLE,
            *EXPERIMENTS,
            *QR,
            *REDIS,
            "ada-url>=1.15",
            "celery>=5.5",
            # The first that says it is for Django 6.1, too.
            "django-allauth>=65.19",
            # Without its extra `compat`, which takes Django 5.2 only: django-tasks is here anyway.
            "django-tasks-db>=0.13",
            "hypothesis>=6.100",
            "mock>=5.1",
            "openfeature-sdk>=0.10",
            "playwright>=1.48",
            "pyttributionio==0.5",
            "pytest>=8.3",
            "pytest-asyncio>=0.24",
            "pytest-django>=4.9",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.8",
            "schemathesis>=4.32",
            # Its distributions are what the figures of experiments are held against.
            "scipy>=1.13",
            "standardwebhooks>=1.0",
        ],
        "docs": ["furo>=2024.8.6", "myst-parser>=4.0", "sphinx>=8.1"],
        "lint": [
            "bandit>=1.8",
            "django-stubs>=5.2",
            "import-linter>=2.5",
            "mypy>=1.16",
            "ruff>=0.14",
            "types-requests>=2.32.4",
        ],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Web Environment",
        "Framework :: Django",
        "Framework :: Django :: 5.2",
        "Framework :: Django :: 6.0",
        "Framework :: Django :: 6.1",
        "Intended Audience :: Developers",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Internet :: WWW/HTTP",
        "Topic :: Office/Business",
        "Typing :: Typed",
    ],
)
