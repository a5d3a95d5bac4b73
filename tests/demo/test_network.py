"""The network of the demo, over real HTTP: what it answers to the honest and to the hostile."""

import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from dummy_project.settings import AFFILIATE_CALLBACK_TOKENS

from .conftest import ROOT

pytestmark = pytest.mark.once

TOKEN = next(iter(AFFILIATE_CALLBACK_TOKENS.values()))
NOBODY = "10" + 28 * "0"
SERVE = """
import os, sys
import django
os.environ["DJANGO_SETTINGS_MODULE"] = "dummy_project.settings"
django.setup()
from dummy_project import check
with check.temporary_database(), check.demo() as shop:
    print(shop.url, flush=True)
    sys.stdin.read()
"""
numbers = count(1)


@pytest.fixture(scope="module")
def network(environment) -> Iterator[str]:
    """Where the network is, in a demo on a temporary database of this lane."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    yield f"{url}/network/"
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in errors) == (0, False), errors


@pytest.fixture
def click(network) -> Callable[..., str]:
    """Follow a link of the network's; return where it leads."""

    def follow(**query: str) -> str:
        answer = requests.get(
            f"{network}aff_c", {"offer_id": "318", **query}, allow_redirects=False, timeout=10
        )
        assert answer.status_code == 302
        assert "no-store" in answer.headers["Cache-Control"]
        return answer.headers["Location"]

    return follow


@pytest.fixture
def transaction(click) -> Callable[[], str]:
    """Click; return the network's id of it."""
    return lambda: parse_qs(urlsplit(click()).query)["transaction_id"][0]


@pytest.fixture
def postback(network) -> Callable[..., str]:
    """Report a sale, with a token and a unique id unless they are given; return the answer."""

    def report(**query: str) -> str:
        own = {"security_token": TOKEN, "conversion_unique_id": f"sale-{next(numbers)}"}
        answer = requests.get(f"{network}aff_lsr", {**own, **query}, timeout=10)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        return answer.text

    return report


def test_a_click_leads_to_the_shop_with_an_id_of_its_own(click):
    strange = "ü & ?=#/{transaction_id}+%41 \N{TEAPOT}"

    first, second = click(aff_id="1042", aff_sub=strange), click(aff_id="1042", aff_sub=strange)

    assert urlsplit(first).path == "/router/xfghjde45"
    query = parse_qs(urlsplit(first).query, strict_parsing=True)
    assert re.fullmatch("10[0-9a-f]{28}", query.pop("transaction_id")[0])
    assert query == {"offer_id": ["318"], "aff_id": ["1042"], "aff_sub": [strange]}
    assert first.isascii()
    assert first != second


@pytest.mark.parametrize("offer", ["", "0", "-1", "³", "1e3", "318\0", "3" * 5000, "318,319"])
def test_an_offer_that_is_none_leads_nowhere(network, offer):
    answer = requests.get(f"{network}aff_c", {"offer_id": offer}, timeout=10)

    assert (answer.status_code, answer.text) == (404, "There is no such offer.")


def test_a_sale_is_accepted_and_one_click_has_one(transaction, postback):
    click, other = transaction(), transaction()
    sale = {"transaction_id": click, "amount": "68.00", "conversion_unique_id": "once"}

    assert postback(**sale) == "success=true;"
    duplicate = f"success=false; err_msg=Duplicate conversion for Trans. ID #{click};"
    assert postback(**sale) == duplicate
    assert postback(**{**sale, "conversion_unique_id": "twice"}) == duplicate
    assert "Duplicate conversion" in postback(**{**sale, "transaction_id": other})
    assert postback(transaction_id=other) == "success=true;"


def test_an_adjustment_takes_the_sale_back_and_may_be_repeated(transaction, postback, network):
    click = transaction()
    sale = {"transaction_id": click, "amount": "10", "conversion_unique_id": "adjusted"}
    back = {**sale, "status": "rejected"}
    nothing = f"success=false; err_msg=No conversion to adjust for Trans. ID #{click};"

    assert postback(**back) == nothing
    assert postback(**sale) == "success=true;"
    earned = total(network, "Earned")
    assert postback(**{**back, "conversion_unique_id": "another"}) == nothing
    assert total(network, "Earned") == earned
    assert postback(**back) == postback(**back) == "success=true;"
    assert total(network, "Earned") == pytest.approx(earned - 0.80)
    # What was taken back stays so.
    assert "Duplicate" in postback(**sale)


def total(network: str, name: str) -> float:
    page = requests.get(network, {"entries": ""}, timeout=10).text
    found = re.search(rf"<dt>{name}</dt><dd>([0-9.]+)", page)
    assert found
    return float(found[1])


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"transaction_id": ""}, "Invalid Trans. ID #"),
        ({"transaction_id": NOBODY}, f"Invalid Trans. ID #{NOBODY}"),
        ({"transaction_id": "success=true;"}, "Invalid Trans. ID #"),
        ({"transaction_id": "10\0" + 27 * "a"}, "Invalid Trans. ID #"),
        ({"transaction_id": "1" * 9999}, "Invalid Trans. ID #"),
        ({"security_token": ""}, "Invalid security token"),
        ({"security_token": TOKEN + " "}, "Invalid security token"),
        ({"security_token": "\N{TEAPOT}\0"}, "Invalid security token"),
        ({"amount": "-1"}, "Invalid amount"),
        ({"amount": "NaN"}, "Invalid amount"),
        ({"amount": "Infinity"}, "Invalid amount"),
        ({"amount": "1e400"}, "Invalid amount"),
        ({"amount": "9" * 5000}, "Invalid amount"),
        ({"amount": "12,50"}, "Invalid amount"),
        ({"amount": "12.345"}, "Invalid amount"),
        ({"amount": "١٢"}, "Invalid amount"),
        ({"status": "APPROVED"}, "Invalid status"),
        ({"status": "success=true"}, "Invalid status"),
    ],
)
def test_what_is_wrong_is_refused_and_changes_nothing(
    transaction, postback, network, told, problem
):
    sale = {"transaction_id": transaction(), "amount": "5"}
    approved = total(network, "Approved")

    answer = postback(**{**sale, **told})

    assert answer == f"success=false; err_msg={problem};"
    assert "success=true" not in answer
    assert total(network, "Approved") == approved
    assert postback(**sale) == "success=true;"


def test_of_the_same_sale_reported_at_once_one_counts(transaction, postback):
    sale = {"transaction_id": transaction(), "amount": "1", "conversion_unique_id": "at once"}

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: postback(**sale), range(8)))

    assert answers.count("success=true;") == 1
    assert sum("Duplicate" in each for each in answers) == 7


def test_the_page_shows_what_came_in_but_no_secret_and_no_markup(click, postback, network):
    evil = "<script>alert(1)</script>"
    click(aff_id=evil, aff_sub='"><b onclick=x>')
    postback(transaction_id=NOBODY, adv_sub=evil, **{evil: evil})

    for query in ("", "?entries"):
        page = requests.get(network + query, timeout=10).text
        assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 4
        assert evil not in page
        assert "<b onclick" not in page
        assert NOBODY in page
        assert "security_token=***" in page
        assert TOKEN not in page


HOSTILE = [
    b"transaction_id=%00&security_token=%00&amount=%00&status=%00&adv_sub=%00",
    b"offer_id=318&aff_id=%00&aff_sub=a%0d%0aSet-Cookie:%20x=y&source=%00",
    b"offer_id=318&aff_sub=%ed%a0%80%ff%fe&aff_id=\xff\xfe\xed\xa0\x80",
    b"offer_id=318&aff_sub=" + b"%F0%9F%AB%96" * 4000,
    b"transaction_id=" + NOBODY.encode() + b"&adv_sub=" + b"%F0%9F%AB%96" * 4000,
    b"transaction_id=%F0%9F%AB%96" + b"&a=" * 900,
    b"a=1&" * 3000,
    b"&;=&%&%zz&%u0041=%u0041&[[[[[]=1&__proto__[a]=1",
    b"offer_id=318&offer_id=999&aff_sub=1&aff_sub=2",
    b"entries=%00&entries",
    b"\x00\x01\x7f",
]


@pytest.mark.parametrize("path", ["", "aff_c", "aff_lsr"])
@pytest.mark.parametrize("query", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_that_is_sent_breaks_it(network, path, query):
    line = f"GET {urlsplit(network).path}{path}?".encode() + query

    status, head = exchange(network, line)

    assert 200 <= status < 500
    assert b"\r\nset-cookie" not in head.lower()
    assert requests.get(network, timeout=10).status_code == 200


@pytest.mark.parametrize("path", ["", "aff_c", "aff_lsr"])
@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 405), ("OPTIONS", 405), ("POST", 403), ("DELETE", 403)]
)
def test_it_is_asked_by_get_only(network, path, method, status):
    assert requests.request(method, network + path, timeout=10).status_code == status


def exchange(network: str, line: bytes) -> tuple[int, bytes]:
    """Send a request as it is, whatever is in it; return the status and the head of the answer."""
    where = urlsplit(network)
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        host = where.netloc.encode()
        connection.sendall(line + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return int(answer.split(None, 2)[1]), answer.partition(b"\r\n\r\n")[0]
