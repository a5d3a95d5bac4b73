"""The ten steps of Affiliate Hopper's document, over real HTTP, with a network that is called."""

import pytest
import requests

from affiliations.links import routing
from affiliations.links.models import Link, Transaction
from affiliations.models import Callback, Conversion
from affiliations.testing import callback_server, deliver
from tests.core.factories import make_partner, make_user
from tests.links.factories import BROWSER, NETWORK_ID, make_key

pytestmark = pytest.mark.django_db(transaction=True)

CLICK = f"transaction_id={NETWORK_ID}&offer_id=12&aff_id=1002&utm_source=anna"


class Server:
    """The site's own backend, that tells the router what has happened."""

    def __init__(self, url):
        self.url = f"{url}/api/links/"
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {make_key()}"

    def post(self, operation, status=200, /, form=False, **sent):
        body = {"data": sent} if form else {"json": sent}
        answer = self.session.post(self.url + operation, **body, timeout=10)
        assert answer.status_code == status, answer.text
        return answer.json()

    def get(self, path):
        return self.session.get(self.url + path, timeout=10).json()


@pytest.fixture
def network():
    """A network that accepts what it is told, in the words of TUNE's."""
    with callback_server() as server:
        server.body = b"success=true;"
        yield server


@pytest.fixture
def shop(live_server):
    routing.forget_all()
    return live_server.url


@pytest.fixture
def browser():
    session = requests.Session()
    session.headers["User-Agent"] = BROWSER
    return session


def follow(browser, url):
    return browser.get(url, allow_redirects=False, timeout=10)


@pytest.mark.parametrize("form", [False, True], ids=["json", "form"])
def test_from_the_click_to_the_payout(shop, browser, network, form):
    server = Server(shop)
    page = f"{shop}/echo/?lesson=1"
    made = server.post(
        "generate",
        201,
        form=form,
        item_id="course-7",
        MarketingLandingPage=page,
        CallbackURL=f"{network.url}/aff_lsr",
        FloorPrice="10.00",
        currency="EUR",
    )
    path = made["UniquePath"]
    [listed] = server.get("list")["links"]
    assert (listed["UniquePath"], listed["mlp"], listed["floor_price"]) == (path, page, "10.00")
    assert server.get(path) == {"mlp": page, "item_id": "course-7", "floor_price": "10.00"}

    # 1 and 2: the network's own redirect has led the browser to the router. 5: It is led on.
    answer = follow(browser, f"{shop}/router/{path}?{CLICK}")
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"{page}&utm_source=anna"
    landed = follow(browser, answer.headers["Location"])
    assert landed.text == "lesson=1&utm_source=anna"

    # 3 and 4: the browser has an ident, and of it there is an unfulfilled transaction.
    cookie = browser.cookies["affiliate_ident"]
    clicked = Transaction.objects.get()
    assert (clicked.path, clicked.item_id, clicked.network_id) == (path, "course-7", NETWORK_ID)
    assert (clicked.user, clicked.is_fulfilled) == (None, False)
    assert cookie.startswith(f"{clicked.ident}:")
    assert follow(browser, f"{shop}/router/{path}?{CLICK}").status_code == 302
    assert Transaction.objects.count() == 1

    # 6 and 7: the user is known to a system that shares no login with this one.
    user = make_user()
    who = {"item_id": "course-7", "user_id": user.pk}
    assert server.post("validate-item-id", form=form, **who) == {"valid": False}
    told = {"anonymous_ident": cookie, "user_id": user.pk}
    assert server.post("acquire", form=form, **told) == {"acquired": 1, "fulfilled": 0}
    assert server.post("acquire", form=form, **told) == {"acquired": 0, "fulfilled": 0}
    assert server.post("validate-item-id", form=form, **who) == {"valid": True}

    # 8: a payment that does not suffice is refused, and one that does is completed, once.
    short = server.post("complete", 422, form=form, **who, AmountPaid="10.00")
    assert short["code"] == "below-floor-price"
    paid = {**who, "AmountPaid": "49.90", "order_id": "A-17"}
    done = server.post("complete", form=form, **paid)
    assert done == {"completed": True, "transaction": clicked.pk}
    assert server.post("complete", form=form, **paid) == done

    # 9: the network is told, with what the click's address held, and accepts.
    [call] = network.received
    assert call.target.startswith("/aff_lsr?")
    assert call.query == {
        "transaction_id": NETWORK_ID,
        "offer_id": "12",
        "aff_id": "1002",
        "amount": "49.90",
        "adv_sub": "A-17",
        "conversion_unique_id": f"{path}-{clicked.pk}",
    }
    relayed = Callback.objects.get()
    assert (relayed.state, relayed.expects) == (Callback.State.DELIVERED, "success=true")
    assert deliver() == (0, 0)

    # 10: nothing of this user and this item is open any more.
    clicked.refresh_from_db()
    assert (clicked.state, clicked.is_fulfilled, clicked.relay) == ("completed", True, relayed)
    assert server.post("validate-item-id", form=form, **who) == {"valid": False}
    assert server.post("fulfill", form=form, **who) == {"fulfilled": 0}


def test_who_logs_in_here_is_known_without_the_api(shop, browser, network, settings):
    server, partner, user = Server(shop), make_partner(), make_user("ada")
    sent = {"item_id": "course-7", "MarketingLandingPage": f"{shop}/echo/"}
    path = server.post("generate", 201, **sent)["UniquePath"]
    Link.objects.update(partner=partner)
    routing.forget_all()
    follow(browser, f"{shop}/router/{path}?{CLICK}")
    browser.post(f"{shop}/login/", data={"username": "ada"}, timeout=10)
    who = {"item_id": "course-7", "user_id": user.pk}
    assert server.post("validate-item-id", **who) == {"valid": True}
    server.post("complete", **who, AmountPaid=5)
    assert Conversion.objects.get().user == user
    # Whoever has bought the item is led to it, past the landing page.
    settings.AFFILIATE_LINKS_PURCHASED = lambda user, item_id: f"/items/{item_id}"
    answer = follow(browser, f"{shop}/router/{path}?{CLICK}")
    assert answer.headers["Location"] == "/items/course-7"


def test_a_refund_takes_back_what_the_network_was_told(shop, browser, network):
    server, user = Server(shop), make_user()
    sent = {"item_id": "course-7", "MarketingLandingPage": f"{shop}/echo/"}
    made = server.post("generate", 201, **sent, CallbackURL=f"{network.url}/aff_lsr")
    follow(browser, f"{made['url']}?{CLICK}")
    server.post("acquire", anonymous_ident=browser.cookies["affiliate_ident"], user_id=user.pk)
    who = {"item_id": "course-7", "user_id": user.pk}
    server.post("complete", **who, AmountPaid=5)
    server.post("refund", **who)
    [told, taken_back] = network.received
    assert "status" not in told.query
    assert taken_back.query["status"] == "rejected"
    assert taken_back.query["transaction_id"] == NETWORK_ID


def test_a_deleted_path_leads_nowhere(shop, browser):
    server = Server(shop)
    sent = {"item_id": "course-7", "MarketingLandingPage": f"{shop}/echo/"}
    path = server.post("generate", 201, **sent)["UniquePath"]
    assert follow(browser, f"{shop}/router/{path}").status_code == 302
    gone = server.session.delete(f"{server.url}delete", params={"UniquePath": path}, timeout=10)
    assert gone.status_code == 204
    assert follow(browser, f"{shop}/router/{path}").status_code == 404
    assert server.get(path)["code"] == "unknown-link"
