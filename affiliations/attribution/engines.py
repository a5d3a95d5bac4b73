"""Run the expressions of a report: in this process, in the site's own database, or on Spark.

Each engine holds the relations that an expression is about, by their names, and answers what is
asked of them; which one it is makes no difference to the figures.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Protocol, Self

import duckdb
import ibis
import pyarrow as pa
import sqlglot
from django.db import DatabaseError, connections

from .conf import settings
from .exceptions import too_much
from .sources import Relation

__all__ = ["Database", "DuckDB", "Engine", "Row", "Spark"]

Row = dict[str, Any]
#: What each of the engines calls the types that relations have.
_ARROW = {"int64": pa.int64(), "string": pa.string()}
_DUCKDB = {"int64": "BIGINT", "string": "VARCHAR"}
#: The files of days, below what they are of.
GLOB = "day=*/*.parquet"
#: What Ibis calls the SQL of a database of Django's.
DIALECTS = {"postgresql": "postgres", "sqlite": "sqlite"}


class Engine(Protocol):
    """Where expressions are run."""

    def keep(self, name: str, rows: Any) -> Any:
        """Return what an expression yields, so that it need not be computed twice."""

    def rows(self, wanted: Any) -> list[Row]:
        """Run an expression, and return its rows."""


@lru_cache(maxsize=256)
def _compiled(wanted: Any, dialect: str) -> str:
    sql = str(ibis.to_sql(wanted.to_expr(), dialect=dialect))
    # Of `%` Ibis makes MOD for SQLite, which is Django's there, and computes with floats.
    return sqlglot.parse_one(sql, read=dialect).sql(dialect) if dialect == "sqlite" else sql


def compiled(wanted: Any, dialect: str) -> str:
    """Return the SQL of an expression; to find it takes longer than to run it on little."""
    return _compiled(wanted.op(), dialect)


class DuckDB:
    """DuckDB in this process, with as much memory as AFFILIATE_ATTRIBUTION_MEMORY says.

    What needs more goes to a temporary directory. Names of relations are ours.
    """

    def __init__(self) -> None:
        # The directory is there before the database that is in it, and longer.
        self._directory = TemporaryDirectory(prefix="affiliations-")
        self.here = Path(self._directory.name)
        self.raw = duckdb.connect(
            str(self.here / "report.duckdb"),
            config={
                "memory_limit": settings.ATTRIBUTION_MEMORY,
                "temp_directory": str(self.here / "spilled"),
                # No order is asked for where none is stated, and to keep it takes memory.
                "preserve_insertion_order": "false",
                # What a report needs is here already.
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.raw.close()
        self._directory.cleanup()

    def load(self, name: str, relation: Relation, columns: Mapping[str, str]) -> Any:
        """Read some columns of a relation out of the site's database."""
        types = ", ".join(f"{each} {_DUCKDB[kind]}" for each, kind in columns.items())
        self.raw.execute(f"CREATE OR REPLACE TABLE {name} ({types})")
        wanted = relation.only(columns)
        if wanted.can_be_copied():
            self._copy(name, wanted, columns)
            return ibis.table(dict(columns), name=name)
        schema = pa.schema([(each, _ARROW[kind]) for each, kind in columns.items()])
        # One after the other: DuckDB would ask for them in threads of its own, where Django has
        # other connections.
        for rows in wanted.batches():
            self.raw.from_arrow(pa.Table.from_batches([_batch(rows, schema)])).insert_into(name)
        return ibis.table(dict(columns), name=name)

    def again(self, name: str, relation: Relation) -> Relation:
        """Return a relation for another one of the site's database to ask for."""
        return relation

    def _copy(self, name: str, wanted: Relation, columns: Mapping[str, str]) -> None:
        """Read what PostgreSQL writes as CSV: as tuples of Python it takes three times as long."""
        path = self.here / f"{name}.csv"
        with path.open("wb") as file:
            wanted.copy_to(file)
        types = ", ".join(f"'{each}': '{_DUCKDB[kind]}'" for each, kind in columns.items())
        self.raw.execute(
            f"INSERT INTO {name} SELECT * FROM read_csv(?, columns = {{{types}}}, "  # noqa: S608 # nosec B608
            "auto_detect = false, header = false, delim = ',', quote = '\"', escape = '\"', "
            "nullstr = '', allow_quoted_nulls = false, parallel = false)",
            [str(path)],
        )
        path.unlink()

    def read(self, name: str, path: Path, columns: Mapping[str, str]) -> Any:
        """Return what was exported into a file, or into files of days; see exports.py."""
        # What a directory may be called has a meaning in the pattern.
        here = re.sub(r"([\[*?])", r"[\1]", str(path)).replace("'", "''")
        files = f"{here}/{GLOB}" if path.is_dir() else here
        named = ", ".join(columns)
        self.raw.execute(
            f"CREATE OR REPLACE VIEW {name} AS SELECT {named} "  # noqa: S608 # nosec B608
            f"FROM read_parquet('{files}', hive_partitioning = true)"
        )
        return ibis.table(dict(columns), name=name)

    def keep(self, name: str, rows: Any) -> Any:
        """Compute an expression once."""
        self.raw.execute(f"CREATE OR REPLACE TABLE {name} AS {compiled(rows, 'duckdb')}")
        return ibis.table(rows.schema(), name=name)

    def write(self, rows: Any, path: Path) -> int:
        """Write what an expression yields into a file of Parquet; return how many rows."""
        file = str(path).replace("'", "''")
        done = self.raw.execute(f"COPY ({compiled(rows, 'duckdb')}) TO '{file}' (FORMAT parquet)")
        [count] = done.fetchone() or (0,)
        return int(count)

    def rows(self, wanted: Any) -> list[Row]:
        """Run an expression."""
        found: list[Row] = self.raw.sql(compiled(wanted, "duckdb")).to_arrow_table().to_pylist()
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

    def again(self, name: str, relation: Relation) -> Relation:
        """Return a relation that was loaded for another one to ask for, by its name."""
        quoted = connections[self.using].ops.quote_name(name)
        return Relation(f"SELECT * FROM {quoted}", (), self.using)  # noqa: S608 # nosec B608

    def keep(self, name: str, rows: Any) -> Any:
        """Have an expression stand before each query that is made: nothing is written."""
        self._loaded[name] = Relation(self._compiled(rows), (), self.using)
        return ibis.table(rows.schema(), name=name)

    def _compiled(self, wanted: Any) -> str:
        return compiled(wanted, self.dialect).replace("%", "%%")

    def rows(self, wanted: Any) -> list[Row]:
        """Run an expression."""
        quote = connections[self.using].ops.quote_name
        # PostgreSQL would take each into where it is used, and join what it knows nothing of by
        # loops.
        kept = "MATERIALIZED " if self.dialect == "postgres" else ""
        parts: list[str] = []
        params: list[Any] = []
        for name, relation in self._loaded.items():
            parts.append(f"{quote(name)} AS {kept}({relation.sql})")
            params += relation.params
        # What Ibis has put before a query itself is of the same kind.
        sql, has_more = re.subn(r"^WITH\s", "", self._compiled(wanted), count=1)
        sql = f"WITH {', '.join(parts)}{',' if has_more else ''} {sql}"
        with connections[self.using].cursor() as cursor:
            try:
                cursor.execute(sql, params)
            except DatabaseError as error:
                # SQLite says no more than that.
                if str(error) == "integer overflow":
                    raise too_much() from error
                raise
            names = [each[0] for each in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


class Spark:
    """Spark, by the session that there is or a local one: for more than one machine can do."""

    def __init__(self) -> None:
        from pyspark.sql import SparkSession  # noqa: PLC0415 # of an extra of its own

        self.session = SparkSession.builder.getOrCreate()
        self.connection = ibis.pyspark.connect(self.session)

    def read(self, name: str, path: Path, columns: Mapping[str, str]) -> Any:
        """Return what was exported into a file, or into files of days."""
        self.session.read.parquet(str(path)).createOrReplaceTempView(name)
        return ibis.table(dict(columns), name=name)

    def keep(self, name: str, rows: Any) -> Any:
        """Compute an expression once, when it is first used."""
        # By the connection, without which Ibis does not know this dialect well.
        self.session.sql(self.connection.compile(rows)).cache().createOrReplaceTempView(name)
        return ibis.table(rows.schema(), name=name)

    def rows(self, wanted: Any) -> list[Row]:
        """Run an expression."""
        return [row.asDict() for row in self.session.sql(self.connection.compile(wanted)).collect()]
