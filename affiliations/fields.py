"""Columns that mean the same on every database."""

from __future__ import annotations

from typing import Any

from django.db import models

__all__ = ["ExactCharField"]


class ExactCharField(models.CharField):  # type: ignore[type-arg]
    """Text of which two are equal only where every character is.

    As it is on PostgreSQL and SQLite. MariaDB's and MySQL's usual collations overlook case and
    accents, and would take one article for another. Blanks at the end they overlook all the same:
    whoever fills such a column strips them.
    """

    def db_parameters(self, connection: Any) -> dict[str, Any]:
        """Return the column's type and collation."""
        parameters: dict[str, Any] = super().db_parameters(connection)
        if connection.vendor == "mysql":
            parameters["collation"] = "utf8mb4_bin"
        return parameters
