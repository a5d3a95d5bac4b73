"""Sphinx settings: MyST pages, furo's theme, docstrings of the public modules."""

import django
from django.conf import settings

from affiliations import __version__ as release

# The smallest project that the modules can be imported in; the docs need nothing of the tests.
settings.configure(
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "affiliations",
        "affiliations.links",
        "affiliations.rewards",
    ],
)
django.setup()

project = "django-affiliations"
author = "the affiliations authors"
copyright = f"2026, {author}"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
default_role = "code"
autodoc_member_order = "bysource"
# What reports are made with is not needed to describe them.
autodoc_mock_imports = ["duckdb", "ibis", "mmh3", "numpy", "openfeature", "pyarrow", "sqlglot"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"{project} {release}"
