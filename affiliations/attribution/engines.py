"""Run the expressions of a report: in the process with DuckDB, or in the site's own database.

Each engine holds the two relations, of touchpoints and conversions, and answers what is asked of
them; which one it is makes no difference to the figures.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Protocol, Self

import duckdb
import ibis
import pyarrow as pa
import pyarrow.parquet as pq
from django.db import connections

from .conf import settings
from .sources import Relation

__all__ = ["Database", "DuckDB", "Engine", "Row"]

Row = dict[str, Any]
#: The files of days, below what they are of.
GLOB = "day=*/*.parquet"
_TYPES = {"int64": pa.int64(), "string": pa.string()}
#: What Ibis calls the SQL of a database of Django's.
DIALECTS = {"postgresql": "postgres", "sqlite": "sqlite"}


class Engine(Protocol):
    """Where expressions are run."""

    def keep(self, name: str, rows: Any) -> Any:
        """Return what an expression yields, so that it need not be computed twice."""

    def rows(self, wanted: Any) -> list[Row]:
        """Run an expression, and return its rows."""


class DuckDB:
    """DuckDB in this process, with as much memory as AFFILIATE_ATTRIBUTION_MEMORY says.

    What needs more goes to a temporary directory.
    """

    def __init__(self) -> None:
        # The directory is there before the database that is in it, and longer.
        self._directory = TemporaryDirectory(prefix="affiliations-")
        self.connection = ibis.duckdb.connect(
            str(Path(self._directory.name) / "report.duckdb"),
            memory_limit=settings.ATTRIBUTION_MEMORY,
            temp_directory=str(Path(self._directory.name) / "spilled"),
            # No order of rows is asked for where none is stated, and to keep it takes memory.
            preserve_insertion_order=False,
            # What a report reads is here already.
            autoinstall_known_extensions=False,
            autoload_known_extensions=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.connection.disconnect()
        self._directory.cleanup()

    @property
    def raw(self) -> duckdb.DuckDBPyConnection:
        """The connection as DuckDB has it."""
        raw: duckdb.DuckDBPyConnection = self.connection.con
        return raw

    def load(self, name: str, relation: Relation, columns: Mapping[str, str]) -> Any:
        """Read some columns of a relation out of the site's database."""
        schema = pa.schema([(each, _TYPES[kind]) for each, kind in columns.items()])
        wanted = relation.only(columns)
        self._drop(name)
        self.connection.create_table(name, schema=ibis.schema(dict(columns)))
        # One after the other: DuckDB would ask for them in threads of its own, where Django has
        # other connections.
        for rows in wanted.batches():
            self.raw.from_arrow(pa.Table.from_batches([_batch(rows, schema)])).insert_into(name)
        return self.connection.table(name)

    def read(self, root: Path, what: str) -> Any:
        """Return what was exported, from files that each tell of a day; see exports.py."""
        return self.connection.read_parquet(str(root / what / GLOB), hive_partitioning=True)

    def read_file(self, path: Path) -> Any:
        """Return what was exported into one file."""
        return self.connection.read_parquet(str(path))

    def keep(self, name: str, rows: Any) -> Any:
        """Compute an expression once."""
        self._drop(name)
        return self.connection.create_table(name, rows)

    def _drop(self, name: str) -> None:
        # Ibis does it by SQL that is none: it leaves out the name, which here is one of ours.
        self.raw.execute(f"DROP TABLE IF EXISTS {name}")

    def write(self, rows: Any, path: Path) -> int:
        """Write what an expression yields into a file of Parquet; return how many rows."""
        self.connection.to_parquet(rows, str(path))
        return int(pq.read_metadata(path).num_rows)

    def rows(self, wanted: Any) -> list[Row]:
        """Run an expression."""
        found: list[Row] = self.connection.to_pyarrow(wanted).to_pylist()
        return found


def _batch(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    arrays = [pa.array(each, field.type) for each, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


class Database:
    """The site's own PostgreSQL or SQLite, which computes everything itself."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.dialect = DIALECTS[connections[using].vendor]
        self._loaded: dict[str, Relation] = {}

    def load(self, name: str, relation: Relation, columns: Mapping[str, str]) -> Any:
        """Have a relation stand before each query that is made."""
        self._loaded[name] = relation.only(columns)
        return ibis.table(dict(columns), name=name)

    def keep(self, name: str, rows: Any) -> Any:
        """Have an expression stand before each query that is made: nothing is written."""
        self._loaded[name] = Relation(self._compiled(rows), (), self.using)
        return ibis.table(rows.schema(), name=name)

    def _compiled(self, wanted: Any) -> str:
        return str(ibis.to_sql(wanted, dialect=self.dialect)).replace("%", "%%")

    def rows(self, wanted: Any) -> list[Row]:
        """Run an expression."""
        quote = connections[self.using].ops.quote_name
        parts: list[str] = []
        params: list[Any] = []
        for name, relation in self._loaded.items():
            parts.append(f"{quote(name)} AS ({relation.sql})")
            params += relation.params
        # What Ibis has put before a query itself is of the same kind.
        sql, has_more = re.subn(r"^WITH\s", "", self._compiled(wanted), count=1)
        sql = f"WITH {', '.join(parts)}{',' if has_more else ''} {sql}"
        with connections[self.using].cursor() as cursor:
            cursor.execute(sql, params)
            names = [each[0] for each in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


class Spark:
    """Spark, by the session that there is or a local one: for more than one machine can do."""

    def __init__(self) -> None:
        from pyspark.sql import SparkSession  # noqa: PLC0415 # of an extra of its own

        self.connection = ibis.pyspark.connect(SparkSession.builder.getOrCreate())

    def read(self, root: Path, what: str) -> Any:
        """Return what was exported, from files that each tell of a day."""
        return self.connection.read_parquet(str(root / what))

    def read_file(self, path: Path) -> Any:
        """Return what was exported into one file."""
        return self.connection.read_parquet(str(path))

    def keep(self, name: str, rows: Any) -> Any:
        """Compute an expression once, when it is first used."""
        return rows.cache()

    def rows(self, wanted: Any) -> list[Row]:
        """Run an expression."""
        found: list[Row] = self.connection.to_pyarrow(wanted).to_pylist()
        return found
