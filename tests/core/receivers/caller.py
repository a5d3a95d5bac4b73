"""Call ports of loopback, each in a process of its own, and print what a call took.

    python -m tests.core.receivers.caller egress 1.0 8001 8002

Says for each port, in JSON and one to a line: seconds, bytes of the body that were taken, bytes by
which the memory grew at its peak, and what came of it.
"""

import json
import os
import resource
import sys
import time

import django
import requests

#: As much of a call to us as any partner may get to read slowly.
BODY = b"x" * 1000


def by_egress(url, deadline):
    from affiliations import egress  # noqa: PLC0415 - Django is set up first

    answer = egress.send("POST", url, headers={}, body=BODY, timeout=deadline)
    return len(answer.body), f"{answer.status} {answer.error}"


def by_requests(url, deadline):
    answer = requests.post(url, data=BODY, timeout=deadline)
    return len(answer.content), str(answer.status_code)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(call, port, deadline):
    before, started = peak(), time.monotonic()
    try:
        size, result = call(f"http://127.0.0.1:{port}/x?v=1", deadline)
    except Exception as error:  # noqa: BLE001 - whatever it is, that is how the call ended
        size, result = 0, type(error).__name__
    took = time.monotonic() - started
    return {"port": port, "seconds": took, "body": size, "grew": peak() - before, "came": result}


def main(name, deadline, *ports):
    call = {"egress": by_egress, "requests": by_requests}[name]
    django.setup()
    # What is imported at the first call is no growth; nobody listens there.
    measured(call, 9, 1.0)
    children = []
    for port in ports:
        child = os.fork()
        if child == 0:
            result = json.dumps(measured(call, int(port), float(deadline)))
            os.write(1, f"{result}\n".encode())
            os._exit(0)
        children.append(child)
        if name == "egress":
            # One by one, so that none waits for the processor.
            os.waitpid(children.pop(), 0)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
