"""The same expressions on Spark, in local mode."""

import shutil
import sys

import pytest

from affiliations import attribution
from affiliations.attribution.questions import MODELS
from tests.attribution.test_exports import begins, orders, shop, week  # noqa: F401 # fixtures

pyspark = pytest.importorskip("pyspark")

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def session():
    from pyspark.sql import SparkSession  # noqa: PLC0415 # there may be none

    found = (
        SparkSession.builder.master("local[2]")
        .config("spark.sql.shuffle.partitions", 2)
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.pyspark.python", sys.executable)
        .getOrCreate()
    )
    yield found
    found.stop()


def test_the_same_figures(orders, session, tmp_path):  # noqa: F811
    begins(tmp_path)
    asked = week(lead="Order placed", source=tmp_path)
    here = attribution.attribute(MODELS, **asked).to_pylist()
    there = attribution.attribute(MODELS, engine="spark", **asked).to_pylist()
    assert len(here) == 3 * len(MODELS)
    for one, other in zip(here, there, strict=True):
        for name in ("conversions", "effect"):
            assert one.pop(name) == pytest.approx(other.pop(name), abs=1e-9)
        assert one == other
    asked = week(source=tmp_path)
    found = attribution.top_paths(engine="spark", **asked)
    assert found == attribution.top_paths(**asked)
    found = attribution.durations(engine="spark", **asked)
    assert found == attribution.durations(**asked)
