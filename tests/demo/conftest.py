import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from signal import SIGINT
from socket import create_server
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]


class Demo(NamedTuple):
    """A demo that is running."""

    url: str
    banner: str
    process: "subprocess.Popen[str]"


def free_port() -> int:
    with create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """What the demo finds set: as a newcomer has it, but for the database of this lane."""
    return {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONWARNINGS": "default"}


@pytest.fixture(scope="session")
def python(environment: dict[str, str]) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run Python at the root of the project, and wait for it."""

    def run(*arguments: str, **changed: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**environment, **changed},
            check=False,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )

    return run


@pytest.fixture(scope="session")
def open_demo(
    environment: dict[str, str],
) -> Callable[[Path], AbstractContextManager[Demo]]:
    """Open the demo on a free port, on a SQLite file, and close it as Ctrl-C does."""

    @contextmanager
    def opened(file: Path) -> Iterator[Demo]:
        process = subprocess.Popen(
            [sys.executable, "-m", "dummy_project", "--port", str(port := free_port())],
            cwd=ROOT,
            env={**environment, "DATABASE_URL": f"sqlite:///{file}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        assert process.stdout is not None
        try:
            banner = ""
            for line in process.stdout:
                banner += line
                if "Ctrl-C" in line:
                    break
            else:
                pytest.fail(f"the demo did not start:\n{banner}")
            yield Demo(f"http://127.0.0.1:{port}", banner, process)
        finally:
            if process.poll() is None:
                process.send_signal(SIGINT)
            output, _ = process.communicate(timeout=20)
        assert (process.returncode, "Traceback" in output) == (0, False), output

    return opened
