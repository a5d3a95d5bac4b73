"""The REST API of results: thin callers of services, mounted by api_urls.py. It needs django-ninja.

A key that is bound to a partner is told what came of those whom this partner has sent, and nothing
else.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from django.db.models import Q

from ..models import Partner
from ..models.partners import UID_LENGTH
from ..money import DECIMAL_PLACES, Money, major
from ..requestbody import InvalidFields
from ..rest import Bearer, Query, RestAPI
from ..restfields import Currency, Moment, OptionalAmount, text
from . import access, figures, results
from .exceptions import UnknownCampaign
from .goals import goals_of
from .models import Campaign
from .refusals import ExperimentsRefusals
from .schemas import Campaign as Described
from .schemas import Listing, Problem
from .schemas import Results as Told

__all__ = ["api"]

MAX_LIMIT = 100
DESCRIPTION = """
What came of the campaigns. Programs send an API key, `Authorization: Bearer aff_…`, with the scope
`experiments:read`. Rates and probabilities are from 0 to 1, amounts in major units. Every error is
a problem of RFC 9457 with a `code` that never changes.
"""

api = RestAPI(
    ExperimentsRefusals(),
    title="Affiliate experiments",
    version="1",
    description=DESCRIPTION.strip(),
    urls_namespace="affiliations_experiments_api",
)


def refusals(*statuses: int) -> dict[int, Any]:
    """Return what every operation may answer with, and these."""
    return dict.fromkeys(sorted({400, 401, 403, 422, *statuses}), Problem)


@api.get(
    "/campaigns",
    auth=Bearer(access.LIST),
    response={200: Listing, **refusals()},
    operation_id="list-campaigns",
)
def list_campaigns(
    request: Any,
    limit: Annotated[int, Query(20, ge=1, le=MAX_LIMIT)],
    before: Annotated[int | None, Query(None, ge=1, lt=2**63)],
) -> Listing:
    """List all campaigns, and what visitors may be meant to do. Scope: experiments:read.

    For the next page ask for what is `before` the last one's `next`. A partner's key may not.
    """
    rows = Campaign.objects.select_related("property").order_by("-pk")
    if before is not None:
        rows = rows.filter(pk__lt=before)
    found = list(rows[: limit + 1])
    return Listing(
        campaigns=[_described(each) for each in found[:limit]],
        next=found[limit - 1].pk if len(found) > limit else None,
    )


def _described(campaign: Campaign) -> Described:
    return Described(
        id=campaign.uid,
        slug=campaign.slug,
        name=campaign.name,
        type=campaign.type,
        state=campaign.state,
        property=campaign.property.public_key,
        goals=[str(each) for each in goals_of(campaign)],
    )


@api.get(
    "/campaigns/{campaign}/results",
    auth=Bearer(access.READ),
    response={200: Told, **refusals(404)},
    operation_id="read-results",
)
def read_results(
    request: Any,
    campaign: str,
    goal: Annotated[str, Query(..., description="Such as `trigger:Order placed`.")],
    since: Annotated[Moment, Query(None, description="From when on they have first seen it.")],
    until: Annotated[Moment, Query(None, description="Until when, and until when they did it.")],
    days: Annotated[int | None, Query(None, description="How many they have to do it.")],
    partner: Annotated[
        Annotated[str, *text(least=1, most=UID_LENGTH, number="integer")] | None,
        Query(None, description="Of whom one partner has sent: the id in the partner's links."),
    ],
    currency: Annotated[Currency | None, Query(None, description="Of what they spend.")],
    cap: Annotated[
        OptionalAmount, Query(None, description="Up to which it counts for each; in `currency`.")
    ],
    level: Annotated[float, Query(results.LEVEL, description="With which intervals hold.")],
) -> dict[str, Any]:
    """Tell what came of a campaign, that is called by its id or its slug. Scope: experiments:read.

    With a key of a partner's, of those whom this partner has sent: a campaign that none of them has
    seen is answered as one that is not there.
    """
    own = request.auth.partner_id
    code = (currency or "").upper() or None
    found = results.results(
        _campaign(campaign),
        goal,
        since=since,
        until=until,
        days=days,
        partner=_partner(partner, own),
        currency=code,
        cap=_minor(cap, code),
        level=level,
    )
    if own is not None and not any(each.visitors + each.mixed for each in found.groups):
        raise UnknownCampaign(NONE)
    return _told(found)


#: What is said of a campaign that is not there, and of one that is none of a partner's.
NONE = "campaign: there is none with this id or slug"


def _campaign(text: str) -> Campaign:
    """Return the campaign with an id, or else with a slug; raises UnknownCampaign."""
    if not (text.isascii() and text.isprintable()):
        raise UnknownCampaign(NONE)
    found = list(Campaign.objects.filter(Q(uid=text) | Q(slug=text))[:3])
    # No slug is kept from being another campaign's id.
    found = [each for each in found if each.uid == text] or found
    if len(found) > 1:
        raise UnknownCampaign("campaign: several properties have this slug; name one by its id")
    if not found:
        raise UnknownCampaign(NONE)
    return found[0]


def _partner(uid: str | None, own: int | None) -> Partner | None:
    """Return the partner who is asked for, or the caller's own; raises InvalidFields."""
    if uid is None:
        return None if own is None else Partner.objects.get(pk=own)
    found = Partner.objects.filter(uid=uid).first()
    if found is None or own not in (None, found.pk):
        raise InvalidFields({"partner": ["There is no such partner."]})
    return found


def _minor(cap: Decimal | int | str | None, currency: str | None) -> int | None:
    if cap is None:
        return None
    if currency is None or currency not in DECIMAL_PLACES:
        raise InvalidFields({"currency": ["Is needed for what is counted at most."]})
    return Money.of(cap, currency).minor


def _told(found: results.Results) -> dict[str, Any]:
    currency = found.currency
    return {
        "campaign": found.campaign.uid,
        "goal": str(found.goal),
        "since": found.since,
        "until": found.until,
        "days": found.days,
        "partner": None if found.partner is None else found.partner.uid,
        "currency": currency or None,
        "cap": None if found.cap is None else major(found.cap, currency),
        "level": found.level,
        "groups": [_group(each, currency) for each in found.groups],
    }


def _group(group: results.GroupResults, currency: str) -> dict[str, Any]:
    ratio = group.sample_ratio
    expected = group.expected or (None,) * len(group.variations)
    return {
        "id": group.id,
        "name": group.name,
        "visitors": group.visitors,
        "mixed": group.mixed,
        "sample_ratio_p": None if ratio is None else ratio.p,
        "mismatch": ratio is not None and ratio.is_mismatch,
        "verdict": group.verdict,
        "revenue_verdict": group.revenue_verdict,
        "other_currencies": dict(group.other_currencies),
        "variations": [
            {
                "id": each.id,
                "name": each.name,
                "reference": each.is_reference,
                "retired": each.is_retired,
                "visitors": each.visitors,
                "expected": due,
                "conversion": _rate(each.rates),
                "revenue": None if each.revenue is None else _revenue(each.revenue, currency),
            }
            for each, due in zip(group.variations, expected, strict=True)
        ],
    }


def _rate(told: figures.RateFigures) -> dict[str, Any]:
    rate = told.rate
    return {
        "conversions": told.conversions,
        "rate": rate and _interval(rate.median, rate.low, rate.high),
        **_compared(told, 1),
    }


def _revenue(told: figures.RevenueFigures, currency: str) -> dict[str, Any]:
    unit, mean = 10 ** DECIMAL_PLACES[currency], told.mean
    return {
        "total": major(told.total, currency),
        "per_visitor": mean and _interval(mean.mean / unit, mean.low / unit, mean.high / unit),
        **_compared(told, unit),
    }


def _compared(told: figures.RateFigures | figures.RevenueFigures, unit: int) -> dict[str, Any]:
    uplift, look = told.uplift, told.look
    return {
        "uplift": uplift and _interval(uplift.median, uplift.low, uplift.high),
        "beats": told.beats,
        "best": told.best,
        "look": look
        and {
            "difference": look.difference / unit,
            "low": look.low / unit,
            "high": look.high / unit,
            "p": look.p,
        },
    }


def _interval(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}
