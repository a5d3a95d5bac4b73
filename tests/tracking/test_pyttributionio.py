"""The real client of Attribution.io, as its users have it, against this server."""

import pytest
from pyttributionio.pyttributionio import PyttributionIo

from affiliations.tracking.client import Client
from affiliations.tracking.models import Hit, Property
from tests.tracking.factories import hit, make_event_type, people

pytestmark = pytest.mark.django_db(transaction=True)

IDS = ["a+b@example.com", "Zoë", "42", 42, "x" * 300, "a b", "a/b", "50%", "🦊"]
GOOGLE = "https://shop.example/?utm_source=google&utm_medium=cpc"


@pytest.fixture
def shop():
    made, secret = Property.objects.issue(name="Shop")
    make_event_type(made, "purchase", public_key="BUY")
    made.secret = secret
    return made


@pytest.fixture
def theirs(shop, live_server, monkeypatch):
    """The real client, unmodified, pointed here as its class lets one."""
    base = f"{live_server.url}/attribution"
    monkeypatch.setattr(PyttributionIo, "PRIVATE_API_URL", f"{base}/api/v1")
    monkeypatch.setattr(PyttributionIo, "PUBLIC_API_URL", f"{base}/")
    monkeypatch.setattr(PyttributionIo, "REQUEST_RETRY_AMOUNT", 1)
    monkeypatch.setattr(PyttributionIo, "REQUEST_RETRY_DELAY", 0)
    return PyttributionIo(shop.public_key, shop.secret)


@pytest.fixture
def ours(shop, live_server):
    """This suite's client, which has the same methods."""
    return Client(shop.public_key, shop.secret, base_url=f"{live_server.url}/attribution/")


@pytest.fixture(params=["theirs", "ours"])
def client(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("client_id", IDS)
def test_from_a_cookie_to_a_customer(client, shop, client_id):
    hit(shop, "cookie:c00kie", url=GOOGLE, title="Shoes")
    said = client.trigger_identity("c00kie", client_id=client_id, user_agent="Firefox")
    assert said == 201
    said = client.trigger_event(
        "c00kie", "BUY", client_id=client_id, user_agent="Firefox", last_url=GOOGLE
    )
    assert said == (201, 201)

    found = client.fetch_customer_info_base(client_id=client_id)
    assert (found["client_id"], found["conversions"]) == (str(client_id), 1)
    assert found["first_touch"]["channel"] == found["last_touch"]["channel"] == "paid_search"
    [page] = client.fetch_customer_info_pageviews(client_id=client_id)["pageviews"]
    assert (page["url"], page["title"]) == (GOOGLE, "Shoes")
    touches = client.fetch_customer_info_touchpoints(client_id=client_id)["touchpoints"]
    assert {each["source"] for each in touches} == {"google"}
    [event] = client.fetch_customer_info_events(client_id=client_id)["events"]
    assert (event["key"], event["url"]) == ("purchase", GOOGLE)
    assert event["transaction_id"].startswith(f"{client_id}@")
    identities = client.fetch_customer_info_identities(client_id=client_id)["identities"]
    told = {(each["kind"], each["value"]) for each in identities}
    assert told == {("cookie", "c00kie"), ("client", str(client_id))}
    full = client.fetch_customer_info_full(client_id=client_id)
    assert full["identities"] == identities
    assert full["events"] == [event]
    assert full["pageviews"] == [page]
    assert full["touchpoints"] == touches


def test_somebody_without_an_id_is_one_customer(client, shop):
    assert client.trigger_event("c00kie", "BUY") == (201, 201)
    assert client.trigger_event("c00kie", "BUY", last_url="https://shop.example/") == (201, 201)
    [who] = people(shop)
    assert who.count("client:") >= 2
    assert who.count("cookie:") == 1
    found = client.fetch_customer_info_events(who.split()[0].removeprefix("client:"))
    assert len(found["events"]) == 2


def test_nobody(client):
    assert client.fetch_customer_info_base("nobody") is None
    assert client.fetch_customer_info_full("nobody") is None


def test_an_event_that_there_is_not(client):
    said = client.trigger_event("c00kie", "NONE", client_id="42")
    assert said == (404, 201)
    assert not Hit.objects.exists()


def test_the_same_body_again(theirs, shop):
    event = theirs._build_event_request_data("c00kie", "BUY", client_id="42")
    sent = [theirs._make_public_api_request(f"{theirs.PUBLIC_API_URL}events", event)]
    sent.append(theirs._make_public_api_request(f"{theirs.PUBLIC_API_URL}events", event))
    assert sent == [201, 200]
    assert Hit.objects.count() == 1


def test_a_wrong_secret(shop, theirs):
    assert PyttributionIo(shop.public_key, "wrong").fetch_customer_info_base("42") is None


def test_a_wrong_key(theirs):
    assert PyttributionIo("NONE", "wrong").trigger_identity("c00kie", client_id="42") == 401
