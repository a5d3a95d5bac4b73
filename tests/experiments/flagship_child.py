"""Do with a real Flagship SDK what one is told: a program, for an interpreter that has its needs.

    python -I flagship_child.py DIRECTORY

The directory is one where the package `flagship` is. Each line of the input is a command in JSON,
[name, number of a visitor or null, arguments, options], and is answered by one line of JSON,
{"answer": …} or {"error": the traceback}. `tests.experiments.flagship_sdks` is who speaks so.

The SDKs are as they were published but for where they send what they send, which has no setting.
What no public name of theirs tells, as all flags of a visitor, is read where they keep it.
"""

import json
import os
import socket
import sys
import traceback
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from threading import Condition, Thread
from time import monotonic

#: For how many seconds to wait for what a thread of an SDK does.
PATIENCE = 20
NEVER = 10_800_000  # milliseconds, the most that 3.x takes
HITS = ("Page", "Screen", "Event", "Item", "Transaction")


class Seen:
    """How often something was seen; another thread can wait until it was more often."""

    def __init__(self):
        self.count = 0
        self.changed = Condition()

    def again(self):
        with self.changed:
            self.count += 1
            self.changed.notify_all()

    def wait_for(self, count, what, thread):
        """Wait until it was seen so often, as long as the thread lives that makes it be seen."""
        ends = monotonic() + PATIENCE
        with self.changed:
            while self.count < count:
                if not thread.is_alive():
                    raise RuntimeError(f"the SDK's thread is dead, there will be no {what}")
                if monotonic() > ends:
                    raise TimeoutError(f"no {what} in {PATIENCE} seconds")
                self.changed.wait(0.05)


def nowhere():
    """Answer every request with 204, at a URL that is returned."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)

    def answer():
        while True:
            connection, _ = listening.accept()
            with connection, connection.makefile("rb") as told:
                length = 0
                while (line := told.readline()) not in (b"\r\n", b""):
                    name, _, value = line.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                told.read(length)
                connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    Thread(target=answer, daemon=True).start()
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


class Sdk:
    """What is the same for both."""

    def __init__(self, told):
        self.told = told
        self.in_bucketing = told["mode"] == "bucketing"
        self.url = told["url"].rstrip("/")
        self.hits_url = nowhere() if told["quiet"] else self.url
        self.visitors = []
        self.polls = Seen()
        self.logged = deque(maxlen=200)
        self.cache = self.new_cache() if told["visitors"] is not None else None

    def add(self, visitor):
        self.visitors.append(visitor)
        return len(self.visitors) - 1

    def hit(self, kind, arguments, setters):
        """Return a hit by the name of its class, its arguments, and what its setters are given."""
        if kind not in HITS:
            raise ValueError(f"{kind} is none of {', '.join(HITS)}")
        if kind == "Event":
            category, *others = arguments
            arguments = [self.hits.EventCategory[category], *others]
        made = getattr(self.hits, kind)(*arguments)
        for name, value in setters.items():
            getattr(made, name)(*value if isinstance(value, list) else [value])
        return made

    def errors(self):
        """Return what it logged as an error, or worse, of late."""
        return [*self.logged]

    def cached_visitors(self):
        return self.cache.visitors

    def decide(self, visitor_ids, context, at_once):
        """Return the flags of each."""
        self.logged.clear()
        found = dict(zip(visitor_ids, self.decided(visitor_ids, context, at_once), strict=True))
        if self.logged:
            raise RuntimeError("\n".join(["the SDK logged errors:", *self.logged]))
        return found


class Sdk2(Sdk):
    """2.1.5, which synchronizes modifications."""

    def __init__(self, told):
        self.hits = import_module("flagship.helpers.hits")
        self.flagship = import_module("flagship.app").Flagship.instance()
        super().__init__(told)

    def start(self):
        api = import_module("flagship.helpers.api").ApiManager
        # Activations and contexts go where campaigns are asked for, if they are.
        decisions = self.hits_url if self.in_bucketing else self.url
        api._ApiManager__ariane = f"{self.hits_url}/"
        api._ApiManager__end_point_v2 = f"{decisions}/v2/"
        api._ApiManager__end_point_bucketing = f"{self.url}/{{id}}/bucketing.json"

        config = import_module("flagship.config").Config
        given = {
            "mode": config.Mode[self.told["mode"].upper()],
            "timeout": self.told["timeout"],
            "event_handler": self.new_handler(),
            "polling_interval": self.told["polling_interval"],
        }
        if self.cache is not None:
            given["visitor_cache_manager"] = self.cache
        self.flagship.start(self.told["env_id"], self.told["api_key"], config(**given))
        if self.polling_thread() is not None:
            # It asks at once again, and then not before the interval ends.
            self.polls.wait_for(2, "poll", self.polling_thread())
        return import_module("flagship").__version__

    def new_handler(self):
        sdk = self

        class Handler(import_module("flagship.handler").FlagshipEventHandler):
            def on_log(self, level, message):
                if message.startswith("[Request]") and "/bucketing.json - response" in message:
                    sdk.polls.again()
                # That nothing has changed is an error to it.
                if level >= 40 and not message.startswith("[Request][304]"):
                    sdk.logged.append(message)

        return Handler()

    def new_cache(self):
        sdk = self

        class Cache(import_module("flagship.cache.cache_visitor").VisitorCacheManager):
            visitors = sdk.told["visitors"]

            def save(self, visitor_id, visitor_data):
                self.visitors[visitor_id] = visitor_data

            def lookup(self, visitor_id):
                return self.visitors.get(visitor_id)

        return Cache()

    def polling_thread(self):
        manager = self.flagship._bucketing_manager
        return manager._bucketing_thread if manager is not None else None

    def wait_until_ready(self):
        """It is, once it has started."""

    def poll(self):
        # One may have been asked for before now, the next was not, and that one's answer is used by
        # when there is another.
        self.polls.wait_for(self.polls.count + 3, "poll", self.polling_thread())

    def status(self):
        return "READY" if self.flagship.is_flagship_started() else "NOT_INITIALIZED"

    def flush(self):
        """Each hit is sent when it is made."""
        return 0

    def stop(self):
        self.flagship.close()

    def new_visitor(self, visitor_id, authenticated, context, consent):
        if consent is not None:
            raise TypeError("2.1.5 asks for no consent")
        return self.add(
            self.flagship.create_visitor(
                visitor_id=visitor_id, authenticated=authenticated, context=context
            )
        )

    def ids(self, visitor):
        return visitor._visitor_id, visitor._anonymous_id

    def context(self, visitor):
        return visitor.get_context()

    def update_context(self, visitor, context, synchronize):
        context = tuple(context) if isinstance(context, list) else context
        return visitor.update_context(context, synchronize=synchronize)

    def synchronize(self, visitor):
        return visitor.synchronize_modifications()

    def value(self, visitor, key, default, activate):
        return visitor.get_modification(key, default, activate=activate)

    def info(self, visitor, key):
        return visitor.get_modification_info(key)

    def activate(self, visitor, key):
        return visitor.activate_modification(key)

    def authenticate(self, visitor, visitor_id, context, synchronize):
        visitor.authenticate(visitor_id, context=context, synchronize=synchronize)

    def unauthenticate(self, visitor, context, synchronize):
        visitor.unauthenticate(context=context, synchronize=synchronize)

    def send_hit(self, visitor, kind, arguments, setters):
        return visitor.send_hit(self.hit(kind, arguments, setters))

    def flags(self, visitor):
        return {key: each.value for key, each in visitor._modifications.items()}

    def panics(self, visitor):
        return visitor._is_panic_mode()

    def decided(self, visitor_ids, context, at_once):
        def ask(visitor_id):
            visitor = self.flagship.create_visitor(visitor_id=visitor_id, context=context)
            visitor.synchronize_modifications()
            return self.flags(visitor)

        with ThreadPoolExecutor(at_once) as pool:
            return [*pool.map(ask, visitor_ids)]


class Sdk3(Sdk):
    """3.0.1, which fetches flags."""

    def __init__(self, told):
        self.package = import_module("flagship")
        self.flagship = self.package.Flagship
        self.hits = import_module("flagship.hits")
        self.rounds = Seen()
        self.waiting = 0
        self.status_changed = Condition()
        super().__init__(told)

    def start(self):
        # They were copied there when it was imported.
        http = import_module("flagship.http_helper")
        http.URL_DECISION_API = f"{self.url}/v2/"
        http.URL_ACTIVATE = f"{self.hits_url}/v2/activate"
        http.URL_TRACKING = f"{self.hits_url}/"
        http.URL_BUCKETING = f"{self.url}/{{}}/bucketing.json"

        config = import_module("flagship.config")
        tracking = import_module("flagship.tracking_manager")
        given = {
            "log_manager": self.new_log(),
            "status_listener": self.new_listener(),
            "tracking_manager_config": tracking.TrackingManagerConfig(
                cache_strategy=tracking.CacheStrategy[self.told["strategy"]],
                time_interval=NEVER if self.told["quiet"] else self.told["time_interval"],
                max_pool_size=self.told["max_pool_size"],
                timeout=self.told["hit_timeout"],
            ),
        }
        if self.cache is not None:
            given["cache_manager"] = self.cache
        if self.in_bucketing:
            given["polling_interval"] = int(self.told["polling_interval"] * 1000)
        made = (config.Bucketing if self.in_bucketing else config.DecisionApi)(**given)
        self.flagship.start(self.told["env_id"], self.told["api_key"], made)
        if self.told["wait"]:
            self.wait_until_ready()
        return self.package.__version__

    def new_log(self):
        sdk = self

        class Log(import_module("flagship.log_manager").LogManager):
            def log(self, tag, level, message):
                if message == "Polling event." and tag == "Bucketing":
                    sdk.polls.again()
                elif message == "Polling event.":
                    # Now, by the thread that empties them, nothing is out of its queue.
                    sdk.waiting = sdk.count_waiting()
                    sdk.rounds.again()
                if level.value in (40, 50):
                    sdk.logged.append(f"{tag}: {message}")

            def exception(self, tag, exception, traceback):
                sdk.logged.append(f"{tag}: {exception}\n{traceback}")

        return Log()

    def new_listener(self):
        sdk = self

        class Listener(import_module("flagship.status_listener").StatusListener):
            def on_status_changed(self, new_status):
                with sdk.status_changed:
                    sdk.status_changed.notify_all()

        return Listener()

    def new_cache(self):
        sdk = self

        theirs = import_module("flagship.cache_manager")
        kinds = (
            theirs.CacheManager,
            theirs.VisitorCacheImplementation,
            theirs.HitCacheImplementation,
        )

        class Cache(*kinds):
            visitors = sdk.told["visitors"]
            hits = sdk.told["hits"]

            def open_database(self, env_id):
                pass

            def close_database(self):
                pass

            async def cache_visitor(self, visitor_id, data):
                # What it gives goes on changing.
                self.visitors[visitor_id] = json.loads(json.dumps(data))

            async def lookup_visitor(self, visitor_id):
                return self.visitors.get(visitor_id)

            async def flush_visitor(self, visitor_id):
                self.visitors.pop(visitor_id, None)

            def cache_hits(self, hits):
                self.hits.update(json.loads(json.dumps(hits)))

            async def lookup_hits(self):
                return dict(self.hits)

            def flush_hits(self, hits_ids):
                for each in hits_ids:
                    self.hits.pop(each, None)

            def flush_all_hits(self):
                self.hits.clear()

        return Cache(timeout=PATIENCE * 1000)

    @property
    def manager(self):
        return self.flagship._Flagship__get_instance().configuration_manager

    def wait_until_ready(self):
        """Wait until it decides, or panics."""
        with self.status_changed:
            if not self.status_changed.wait_for(
                lambda: self.status() in ("READY", "PANIC"), PATIENCE
            ):
                raise TimeoutError(f"{self.status()} for {PATIENCE} seconds")

    def poll(self):
        # One may be under way; the next has ended by when there is another.
        self.polls.wait_for(self.polls.count + 2, "poll", self.manager.decision_manager)

    def status(self):
        return self.flagship.status().name

    def flush(self):
        """Wait until all that waits was tried to be sent; return how much waits still."""
        if self.told["strategy"] == "_NO_BATCHING_CONTINUOUS_CACHING":
            return self.count_waiting()
        # One round may be under way; the next has ended by when there is another.
        rounds = self.rounds.count + 2
        self.rounds.wait_for(rounds, "round of the hits", self.manager.tracking_manager)
        return self.waiting

    def count_waiting(self):
        sender = self.manager.tracking_manager
        return sender.hitQueue.qsize() + sender.activateQueue.qsize()

    def stop(self):
        self.flagship.stop()

    def cached_hits(self):
        return self.cache.hits

    def new_visitor(self, visitor_id, authenticated, context, consent):
        given = {} if consent is None else {"consent": consent}
        made = self.flagship.new_visitor(
            visitor_id, authenticated=authenticated, context=context, **given
        )
        return self.add(made)

    def set_consent(self, visitor, consent):
        visitor.set_consent(consent)

    def ids(self, visitor):
        return visitor.visitor_id, visitor.anonymous_id

    def context(self, visitor):
        return visitor.context

    def update_context(self, visitor, context, synchronize):
        visitor.update_context(tuple(context) if isinstance(context, list) else context)
        if synchronize:
            visitor.fetch_flags()

    def synchronize(self, visitor):
        return visitor.fetch_flags()

    def value(self, visitor, key, default, activate):
        return visitor.get_flag(key, default).value(visitor_exposed=activate)

    def info(self, visitor, key):
        flag = visitor.get_flag(key, None)
        return flag.metadata().toJson() if flag.exists() else None

    def activate(self, visitor, key):
        visitor.get_flag(key, None).visitor_exposed()

    def authenticate(self, visitor, visitor_id, context, synchronize):
        if context is not None:
            raise TypeError("3.x has no context here: update_context() is for that")
        visitor.authenticate(visitor_id)
        if synchronize:
            visitor.fetch_flags()

    def unauthenticate(self, visitor, context, synchronize):
        if context is not None:
            raise TypeError("3.x has no context here: update_context() is for that")
        visitor.unauthenticate()
        if synchronize:
            visitor.fetch_flags()

    def send_hit(self, visitor, kind, arguments, setters):
        return visitor.send_hit(self.hit(kind, arguments, setters))

    def flags(self, visitor):
        return {key: each.value for key, each in visitor._modifications.items()}

    def panics(self, visitor):
        return self.status() == "PANIC"

    def decided(self, visitor_ids, context, at_once):
        # Its queue of hits is not safe with several threads that empty it. Fetching adds to it in
        # bucketing mode alone, where it asks nobody and there is nothing to wait for.
        made = [self.flagship.new_visitor(each, context=context) for each in visitor_ids]
        with ThreadPoolExecutor(1 if self.in_bucketing else at_once) as pool:
            [*pool.map(lambda each: each.fetch_flags(), made)]
        return [self.flags(each) for each in made]


def main():
    sys.path.insert(0, sys.argv[1])
    # The SDKs print, also by threads of theirs; what they print is not the answer.
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    sdk = None
    for line in sys.stdin:
        name, number, arguments, options = json.loads(line)
        try:
            if name == "start":
                kind = Sdk2 if options["version"].startswith("2.") else Sdk3
                sdk, arguments, options = kind(options), [], {}
            if number is not None:
                arguments = [sdk.visitors[number], *arguments]
            answer = {"answer": getattr(sdk, name)(*arguments, **options)}
        except Exception:  # noqa: BLE001 # whatever an SDK raises is told
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
