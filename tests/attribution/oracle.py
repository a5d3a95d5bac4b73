"""What the models say, worked out with fractions from their definitions: slow, and by itself.

No code of the app is used, and no numbers but whole ones and fractions.
"""

from collections import Counter, defaultdict
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import permutations
from math import floor
from typing import NamedTuple

LANDING = 60_000_000
RULES = (
    "last",
    "last_non_direct",
    "first",
    "linear",
    "position_based",
    "time_decay",
    "w_shaped",
)
START = ()


class Touch(NamedTuple):
    """A touchpoint; `label` is what it is told apart by."""

    person: str
    touch: int
    at: int
    is_hit: bool
    channel: str | None
    label: str | None


class Sale(NamedTuple):
    """A conversion, or one that makes a lead."""

    conversion: int
    person: str
    at: int
    minor: int | None = None
    currency: str | None = None
    trigger: str = "sale"


class Asked(NamedTuple):
    """What is asked: moments and spans in microseconds."""

    since: int
    until: int
    lookback: int
    #: Tells whether a landing's label may be taken for that of its visit.
    told: bool = False
    order: int = 1
    first: Fraction = Fraction(2, 5)
    last: Fraction = Fraction(2, 5)
    half_life: int = 7 * 86_400_000_000


class Path(NamedTuple):
    """What led to a conversion, and how many of it came before the lead; None without a lead."""

    sale: Sale
    touches: list
    before_lead: int | None


class Earned(NamedTuple):
    """What a touchpoint has of a conversion."""

    credit: Fraction
    minor: int | None


def largest_remainder(total, weights):
    """Divide a whole number by weights, so that the parts sum to it."""
    whole = sum(weights)
    quotas = [abs(total) * Fraction(weight) / whole for weight in weights]
    parts = [floor(quota) for quota in quotas]
    order = sorted(range(len(parts)), key=lambda i: (parts[i] - quotas[i], i))
    for i in order[: abs(total) - sum(parts)]:
        parts[i] += 1
    return [part if total >= 0 else -part for part in parts]


def touched(touches, asked):
    """Return by person, in their order, what there is in time; of a visit and its landing one."""
    people = defaultdict(list)
    for each in sorted(touches, key=lambda touch: (touch.at, touch.touch)):
        if asked.since - asked.lookback <= each.at < asked.until:
            people[each.person].append(each)
    found = {}
    for person, theirs in people.items():
        kept = []
        for number, each in enumerate(theirs):
            before = theirs[number - 1] if number else None
            if before and each.is_hit and not before.is_hit and each.at - before.at <= LANDING:
                if asked.told and kept[-1].label is None:
                    kept[-1] = kept[-1]._replace(label=each.label)
            else:
                kept.append(each)
        found[person] = kept
    return found


def paths(touches, sales, asked):
    """Return the paths of the conversions that something led to."""
    people = touched(touches, asked)
    leads = [each for each in sales if each.trigger == "lead"]
    found = []
    for sale in sales:
        if sale.trigger != "sale" or not asked.since <= sale.at < asked.until:
            continue
        begin = sale.at - asked.lookback
        path = [each for each in people.get(sale.person, []) if begin < each.at <= sale.at]
        became = [
            each.at for each in leads if each.person == sale.person and begin < each.at < sale.at
        ]
        before = sum(each.at <= max(became) for each in path) if became else None
        if path:
            found.append(Path(sale, path, before))
    return found


def journeys(touches, sales, asked):
    """Return (labels, converted) of each path, and of each person what is left of the window."""
    won = paths(touches, sales, asked)
    on_paths = {each.touch for path in won for each in path.touches}
    found = [([each.label for each in path.touches], True) for path in won]
    for theirs in touched(touches, asked).values():
        left = [x.label for x in theirs if x.touch not in on_paths and x.at >= asked.since]
        if left:
            found.append((left, False))
    return found


def rule(model, path, asked):
    """Return the weight of each touchpoint of a path."""
    number = len(path.touches)
    ends = {0: Fraction(0)}
    if model == "last":
        ends = {number - 1: Fraction(1)}
    elif model == "first":
        ends = {0: Fraction(1)}
    elif model == "last_non_direct":
        named = [i for i, each in enumerate(path.touches) if each.channel != "direct"]
        ends = {(named or [number - 1])[-1]: Fraction(1)}
    elif model == "linear":
        ends = dict.fromkeys(range(number), Fraction(1))
    elif model == "time_decay":
        latest = path.touches[-1].at
        ends = {i: halved(latest - x.at, asked.half_life) for i, x in enumerate(path.touches)}
    elif model == "w_shaped" and path.before_lead:
        three = Counter([0, path.before_lead - 1, number - 1])
        others = set(range(number)) - set(three)
        ends = {i: Fraction(3, 10) * times for i, times in three.items()}
        ends |= {i: Fraction(1, 10) / len(others) for i in others}
    elif number == 1:
        ends = {0: Fraction(1)}
    else:
        ends = dict.fromkeys(
            range(1, number - 1), (1 - asked.first - asked.last) / max(number - 2, 1)
        )
        ends |= {0: asked.first, number - 1: asked.last}
    return [ends.get(i, Fraction(0)) for i in range(number)]


def halved(span, half_life):
    """Return a half to the power of how often a half-life is in a span, to sixty digits."""
    with localcontext(prec=60):
        return Fraction(Decimal(2) ** -(Decimal(span) / Decimal(half_life)))


def transitions(found, order):
    """Return the probabilities of a chain: from state to state, and to converting."""
    counts = defaultdict(Counter)
    for labels, converted in found:
        state = START
        for number in range(1, len(labels) + 1):
            reached = tuple(labels[max(number - order, 0) : number])
            counts[state][reached] += 1
            state = reached
        counts[state]["won" if converted else "lost"] += 1
    return {
        state: {to: Fraction(times, sum(row.values())) for to, times in row.items()}
        for state, row in counts.items()
    }


def rate(chain, kept):
    """Return the probability to convert, where each step to a label that is not kept is lost."""
    if START not in chain:
        return Fraction(0)
    states = list(chain)
    matrix = []
    for state in states:
        row = {to: p for to, p in chain[state].items() if to in chain and to[-1] in kept}
        line = [Fraction(int(each == state)) - row.get(each, 0) for each in states]
        matrix.append([*line, chain[state].get("won", Fraction(0))])
    return solved(matrix)[states.index(START)]


def solved(matrix):
    """Solve a system of equations by elimination."""
    size = len(matrix)
    for k in range(size):
        pivot = next(i for i in range(k, size) if matrix[i][k])
        matrix[k], matrix[pivot] = matrix[pivot], matrix[k]
        matrix[k] = [x / matrix[k][k] for x in matrix[k]]
        for i in range(size):
            if i != k and (factor := matrix[i][k]):
                matrix[i] = [x - factor * y for x, y in zip(matrix[i], matrix[k], strict=True)]
    return [row[size] for row in matrix]


def labels_of(found):
    """Return the labels of journeys."""
    return {label for labels, _ in found for label in labels}


def removal_effects(found, order=1):
    """Return by label which part of all conversions is lost without it."""
    chain, labels = transitions(found, order), labels_of(found)
    whole = rate(chain, labels)
    if not whole:
        return dict.fromkeys(labels, Fraction(0))
    return {label: 1 - rate(chain, labels - {label}) / whole for label in labels}


def shapley_values(found):
    """Return by label what it adds to those before it, on average over all orders, as a part."""
    chain, labels = transitions(found, 1), sorted(labels_of(found), key=repr)
    whole = rate(chain, set(labels))
    if not whole:
        return dict.fromkeys(labels, Fraction(0))
    worth, sums, number = {frozenset(): Fraction(0)}, dict.fromkeys(labels, Fraction(0)), 0
    for order in permutations(labels):
        number += 1
        before = frozenset()
        for label in order:
            after = before | {label}
            if after not in worth:
                worth[after] = rate(chain, after)
            sums[label] += worth[after] - worth[before]
            before = after
    return {label: total / number / whole for label, total in sums.items()}


def effects(model, touches, sales, asked):
    """Return the effects by label of a model that looks at all journeys, None of any other."""
    if model == "markov":
        return removal_effects(journeys(touches, sales, asked), asked.order)
    if model == "shapley":
        return shapley_values(journeys(touches, sales, asked))
    return None


def divided(minor, shares):
    """Divide an amount by shares, of which each is taken as a whole number of billionths."""
    if minor is None:
        return [None] * len(shares)
    parts = [floor(credit * 10**9 + Fraction(501, 1000)) for credit in shares]
    return largest_remainder(minor, parts)


def earned(model, touches, sales, asked):
    """Return what each touchpoint on a path has earned, by (conversion, touch)."""
    of_labels = effects(model, touches, sales, asked)
    found = {}
    for path in paths(touches, sales, asked):
        if of_labels is None:
            weights = rule(model, path, asked)
        else:
            weights = [of_labels[each.label] for each in path.touches]
        shares = [weight / sum(weights) for weight in weights]
        minors = divided(path.sale.minor, shares)
        for each, credit, minor in zip(path.touches, shares, minors, strict=True):
            found[path.sale.conversion, each.touch] = Earned(credit, minor)
    return found


def totals(model, touches, sales, asked):
    """Return by (label, currency): credits, amount, paths, touchpoints and the label's effect."""
    of_labels = effects(model, touches, sales, asked) or {}
    theirs = earned(model, touches, sales, asked)
    found = defaultdict(list)
    for path in paths(touches, sales, asked):
        for each in path.touches:
            key = path.sale.conversion, each.touch
            found[each.label, path.sale.currency].append((path.sale.conversion, theirs[key]))
    return {
        (label, currency): {
            "conversions": sum(got.credit for _, got in rows),
            "amount_minor": sum(got.minor for _, got in rows if got.minor is not None)
            if any(got.minor is not None for _, got in rows)
            else None,
            "paths": len({conversion for conversion, _ in rows}),
            "touchpoints": len(rows),
            "effect": of_labels.get(label),
        }
        for (label, currency), rows in found.items()
    }
