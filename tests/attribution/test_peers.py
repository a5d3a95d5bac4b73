"""Two programs that others have written give the same figures, where they mean the same.

They are marketing_attribution_models 2.1.1 and ChannelAttribution 2.2.5. What they need is much, so
AFFILIATIONS_PEERS may name a Python that has them; where there is none this is skipped.

Not compared are `last_non_direct` and `w_shaped`, which they have not; `shapley`, which the first
takes of another game, of how often sets of channels convert; and what ChannelAttribution credits by
its chain, which goes to channels that somebody never met.
"""

import json
import os
import random
import subprocess
import sys
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import pytest

from affiliations import attribution
from affiliations.attribution.chains import Chain, Step
from affiliations.models import Conversion, Visitor
from affiliations.tracking.models import Customer, Hit, Identity
from tests.attribution.factories import DAY, START, by_label
from tests.core.factories import make_partner
from tests.tracking.factories import make_property

pytestmark = pytest.mark.django_db

SCRIPT = Path(__file__).with_name("peers.py")
CHANNELS = ("affiliate", "display", "email", "organic_search", "paid_search", "referral", "sms")
RULES = ("last", "first", "linear", "position_based", "time_decay")
JOURNEYS = 4000
MARCH = {"since": START, "until": START + 31 * DAY, "by": "channel"}
#: By what a million who walk at random may be off.
WALKED = 0.01


def interpreter():
    """Return the Python that has both of them, or None."""
    if named := os.environ.get("AFFILIATIONS_PEERS"):
        return named
    there = all(find_spec(name) for name in ("mam", "ChannelAttribution"))
    return sys.executable if there else None


def made_up():
    """Return journeys, each with hours before the last touchpoint, and whether they converted."""
    draw = random.Random(20261129)
    found = []
    for _ in range(JOURNEYS):
        count = draw.choice([1, 1, 2, 2, 3, 4, 5, 8])
        # Some people meet a few channels only, and so the same one several times.
        met = draw.sample(CHANNELS, draw.choice([2, 4, 7]))
        labels = [draw.choice(met) for _ in range(count)]
        minutes = sorted(draw.sample(range(1, 20 * 24 * 60), count - 1), reverse=True)
        likely = 0.1 + 0.3 * ("email" in labels) + 0.2 * (labels[-1] == "paid_search")
        found.append((labels, [each / 60 for each in [*minutes, 0]], draw.random() < likely))
    return found


@pytest.fixture(scope="module")
def peers():
    """What they answer."""
    python = interpreter()
    if python is None:
        pytest.skip("AFFILIATIONS_PEERS names no Python with the two of them")
    done = subprocess.run(
        [python, str(SCRIPT)],
        input=json.dumps(made_up()),
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def journeys(peers):
    """The same journeys as rows: a customer each, who is known by a cookie."""
    shop, partner = make_property(), make_partner()
    told = made_up()
    customers = Customer.objects.bulk_create(Customer(property=shop) for _ in told)
    identities = Identity.objects.bulk_create(
        Identity(property=shop, customer=customer, kind="cookie", value=f"made-up-{number}")
        for number, customer in enumerate(customers)
    )
    last_on = START + 25 * DAY
    Hit.objects.bulk_create(
        (
            Hit(
                property=shop,
                identity=identity,
                type="pageview",
                channel=label,
                happened_on=last_on - timedelta(minutes=round(hour * 60)),
            )
            for identity, (labels, hours, _) in zip(identities, told, strict=True)
            for label, hour in zip(labels, hours, strict=True)
        ),
        batch_size=1000,
    )
    # They say who converted. Made now, they are no touchpoints of March.
    won = [identity.value for identity, each in zip(identities, told, strict=True) if each[2]]
    visitors = Visitor.objects.bulk_create(
        Visitor(partner=partner, ident=each, entry_point="http://testserver/") for each in won
    )
    Conversion.objects.bulk_create(
        Conversion(
            visitor=visitor,
            trigger="Order placed",
            reference=visitor.ident,
            key=visitor.ident,
            created_on=last_on + DAY,
        )
        for visitor in visitors
    )
    return told


def test_both_give_the_same_credits_and_effects(journeys, peers):
    mam, walked = peers["marketing_attribution_models"], peers["ChannelAttribution"]
    found = attribution.attribute([*RULES, "markov"], **MARCH)
    for model in (*RULES, "markov"):
        assert by_label(found, model=model) == pytest.approx(mam[model], abs=1e-9), model
    for model in ("last", "first", "linear"):
        assert by_label(found, model=model) == pytest.approx(walked[model], abs=1e-9), model
    effects = by_label(found, "effect", "markov")
    assert effects == pytest.approx(mam["effects"], abs=1e-9)
    assert effects == pytest.approx(walked["effects_1"], abs=WALKED)
    of_two = by_label(attribution.attribute("markov", order=2, **MARCH), "effect")
    assert of_two == pytest.approx(walked["effects_2"], abs=WALKED)


def test_the_chain_has_the_same_steps(peers):
    """What ChannelAttribution counts is exact, unlike what is walked by it."""
    chain = Chain(
        Step(tuple(labels[:place][-1:]), label, 1, int(is_end and won), int(is_end and not won))
        for labels, _, won in made_up()
        for place, label in enumerate(labels)
        for is_end in [place == len(labels) - 1]
    )
    steps = {("(start)", label): share for label, share in zip(CHANNELS, chain.start, strict=True)}
    for origin, onward, win in zip(CHANNELS, chain.steps, chain.win, strict=True):
        steps |= {(origin, label): share for label, share in zip(CHANNELS, onward, strict=True)}
        steps[origin, "(conversion)"] = win
        steps[origin, "(null)"] = 1 - onward.sum() - win
    shown = {(origin, end): share for origin, end, share in peers["ChannelAttribution"]["steps"]}
    assert {key: share for key, share in steps.items() if share > 1e-12} == pytest.approx(
        shown, abs=1e-9
    )
