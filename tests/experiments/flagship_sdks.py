"""The real Flagship SDKs, unmodified, as clients of a server that a test has.

    with Sdk("3.0.1", live_server.url, env_id="env", api_key="key", mode="bucketing") as sdk:
        visitor = sdk.new_visitor("visitor-1", context={"plan": "gold"})
        visitor.synchronize()
        assert visitor.value("color", "none", activate=True) == "red"
        visitor.send_hit("Transaction", "T1", "purchase", with_total_revenue=59.97)
        sdk.flush()
        assert sdk.decide(["visitor-1", "🦊"]) == {"visitor-1": {"color": "red"}, "🦊": {…}}

The same words do for both versions; what each is called there says `flagship_child.py`, which runs
in a process and a directory of its own, since an SDK is a singleton that writes where it is.

AFFILIATIONS_FLAGSHIP names a directory that holds the packages, unpacked, as `2.1.5/` and `3.0.1/`;
where it is not set, tests are skipped. AFFILIATIONS_FLAGSHIP_PYTHON names a Python that has what
they need (requests, six, importlib_metadata); by default that is `bin/python` of that directory.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer

import pytest

VERSIONS = ("2.1.5", "3.0.1")
MODES = ("api", "bucketing")
CHILD = Path(__file__).with_name("flagship_child.py")
HOUR = 3600


class SdkFailed(Exception):
    """What was asked of an SDK raised there, or was not answered."""


def home():
    """Return the directory of the SDKs, or skip the test that asks for it."""
    if named := os.environ.get("AFFILIATIONS_FLAGSHIP"):
        return Path(named).absolute()
    reason = "AFFILIATIONS_FLAGSHIP names no directory with the SDKs, as 2.1.5/ and 3.0.1/"
    if os.environ.get("AFFILIATIONS_REQUIRE_FLAGSHIP"):
        # The lane that exists for them must not pass by skipping.
        pytest.fail(reason)
    pytest.skip(reason)


def interpreter():
    """Return the Python that they run on."""
    if named := os.environ.get("AFFILIATIONS_FLAGSHIP_PYTHON"):
        return named
    beside = home() / "bin" / "python"
    return str(beside) if beside.exists() else sys.executable


class Sdk:
    """One SDK that has been started, in a process of its own which ends with the block.

    `polling_interval` is in seconds, and long unless given, so that a test knows of each request;
    `poll()` wants it short. Where `visitors` is given, the application has a visitor cache, which
    begins with these; `hits` is what its cache of hits begins with (3.x).

    `quiet` has all that is no decision go nowhere: hits and activations, and in bucketing mode the
    contexts of 2.1.5, which in API mode are posted to where campaigns are asked for.

    An application has other defaults; with these nothing is sent twice because a test is slow. They
    are 2 for `timeout`, in seconds (2.1.5); 200 for `hit_timeout` and 10000 for `time_interval`, in
    milliseconds, and 20 for `max_pool_size` (3.x). Whoever finds that pool full empties it, and two
    who do so at once may lose a decision by it; with the defaults here its thread alone does.
    """

    def __init__(
        self,
        version,
        url,
        *,
        env_id="env",
        api_key="key",
        mode="api",
        polling_interval=HOUR,
        visitors=None,
        hits=None,
        quiet=False,
        wait=True,
        timeout=30,
        time_interval=200,
        max_pool_size=5000,
        hit_timeout=10_000,
        strategy="CONTINUOUS_CACHING",
        directory=None,
    ):
        if mode not in MODES:
            raise ValueError(f"{mode} is none of {', '.join(MODES)}")
        self.version = version
        self.package = home() / version
        if not (self.package / "flagship").is_dir():
            raise FileNotFoundError(f"no flagship in {self.package}")
        self.settings = {
            "version": version,
            "url": url,
            "env_id": env_id,
            "api_key": api_key,
            "mode": mode,
            "polling_interval": polling_interval,
            "visitors": {} if visitors is None and hits is not None else visitors,
            "hits": hits or {},
            "quiet": quiet,
            "wait": wait,
            "timeout": timeout,
            "time_interval": time_interval,
            "max_pool_size": max_pool_size,
            "hit_timeout": hit_timeout,
            "strategy": strategy,
        }
        self._temporary = None
        self._process = None
        self.directory = directory and Path(directory)

    def __enter__(self):
        if self.directory is None:
            self._temporary = TemporaryDirectory(prefix="flagship-")
            self.directory = Path(self._temporary.name)
        try:
            with self._said.open("ab") as said:
                self._process = subprocess.Popen(
                    [interpreter(), "-I", str(CHILD), str(self.package)],
                    cwd=self.directory,
                    # A proxy would be asked for this machine, too.
                    env={**os.environ, "NO_PROXY": "*", "no_proxy": "*"},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=said,
                )
            started = self.ask("start", **self.settings)
            if started != self.version:
                raise SdkFailed(f"{self.package} holds {started}")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *raised):
        self.close()

    def close(self):
        """End the process, as an application that is stopped without saying so to the SDK."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        if self._temporary is not None:
            self._temporary.cleanup()

    @property
    def _said(self):
        return self.directory / "said.txt"

    def said(self):
        """Return what the SDK printed, and wrote to stderr."""
        return self._said.read_text(errors="replace")

    def ask(self, name, *arguments, visitor=None, within=60, **options):
        """Have a command carried out, by so many seconds, and return what it answered."""
        command = json.dumps([name, visitor, arguments, options]) + "\n"
        # Whether it does not read, does not answer or stops amid an answer, it is over then.
        alarm = Timer(within, self._process.kill)
        alarm.start()
        try:
            self._process.stdin.write(command.encode())
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            alarm.cancel()
        if not line.endswith(b"\n"):
            code = self._process.wait(within)
            raise SdkFailed(
                f"{name} was not answered within {within} seconds, by {self.version}, "
                f"which ended with {code}:\n{self.said()[-4000:]}"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise SdkFailed(f"{name}, in {self.version}:\n{answer['error']}")
        return answer["answer"]

    def new_visitor(self, visitor_id=None, *, authenticated=False, context=None, consent=None):
        """Create a visitor; 2.1.5 makes an id up where there is none, and knows no consent."""
        number = self.ask("new_visitor", visitor_id, authenticated, context or {}, consent)
        return Visitor(self, number)

    def decide(self, visitor_ids, context=None, *, at_once=4, within=240):
        """Return {visitor id: {key: value}}, of a new visitor each.

        So many are asked for at once, that the server is not idle while the SDK calculates. Raises
        if the SDK logged an error.
        """
        return self.ask("decide", [*visitor_ids], context or {}, at_once, within=within)

    def status(self):
        """Return the name of its status; 2.1.5 is READY once it is started."""
        return self.ask("status")

    def wait_until_ready(self):
        """Wait until it decides, or panics, where it was started with `wait=False`."""
        self.ask("wait_until_ready")

    def poll(self):
        """Wait until it has asked for the file once more, and has taken in what was answered."""
        if self.settings["polling_interval"] >= HOUR:
            raise ValueError("it was started without a short polling_interval")
        self.ask("poll")

    def flush(self):
        """Wait until it has tried to send each hit that waits; return how many wait still."""
        if self.settings["quiet"]:
            raise ValueError("it was started with quiet=True")
        return self.ask("flush")

    def stop(self):
        """Stop the SDK, as an application that ends: 3.x sends what waits, 2.1.5 polls no more."""
        self.ask("stop")

    def errors(self):
        """Return what it logged as an error, or worse, of late."""
        return self.ask("errors")

    def cached_visitors(self):
        """Return what the application's visitor cache holds, by visitor id."""
        return self.ask("cached_visitors")

    def cached_hits(self):
        """Return what the application's cache of hits holds (3.x)."""
        return self.ask("cached_hits")


class Visitor:
    """A visitor that an SDK has made."""

    def __init__(self, sdk, number):
        self.sdk = sdk
        self.number = number

    def ask(self, name, *arguments):
        return self.sdk.ask(name, *arguments, visitor=self.number)

    def ids(self):
        """Return the visitor id and the anonymous id."""
        return tuple(self.ask("ids"))

    def context(self):
        """Return the context, with what the SDK puts there of its own."""
        return self.ask("context")

    def update_context(self, context, synchronize=False):
        """Put a dictionary, or a key and its value, into the context."""
        return self.ask("update_context", context, synchronize)

    def synchronize(self):
        """Decide anew: synchronize_modifications() or fetch_flags()."""
        return self.ask("synchronize")

    def value(self, key, default, activate=False):
        """Return the value of a flag, or the default."""
        return self.ask("value", key, default, activate)

    def flags(self):
        """Return all flags that the visitor has."""
        return self.ask("flags")

    def info(self, key):
        """Return where a flag is from: get_modification_info() or metadata(); None if nowhere."""
        return self.ask("info", key)

    def activate(self, key):
        """Tell that the visitor has seen a flag: activate_modification() or visitor_exposed()."""
        return self.ask("activate", key)

    def authenticate(self, visitor_id, context=None, synchronize=False):
        """Go on as somebody who is known; 2.1.5 may replace the context."""
        self.ask("authenticate", visitor_id, context, synchronize)

    def unauthenticate(self, context=None, synchronize=False):
        """Go on as who it was before; 2.1.5 may replace the context."""
        self.ask("unauthenticate", context, synchronize)

    def set_consent(self, consent):
        """Say whether data may be used (3.x)."""
        self.ask("set_consent", consent)

    def send_hit(self, kind, *arguments, **setters):
        """Send a Page, Screen, Event, Item or Transaction.

        The arguments are the class's, the category of an Event by its name. The setters have the
        SDK's names: `with_price=9.99`, and a list of several, as `with_resolution=[1024, 768]`.
        """
        return self.ask("send_hit", kind, arguments, setters)

    def panics(self):
        """Tell whether all is switched off for the visitor."""
        return self.ask("panics")
