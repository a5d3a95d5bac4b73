"""Money is exact, of one currency, and its parts sum to the whole."""

from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import find, given
from hypothesis import strategies as st

from affiliations.exceptions import InvalidMoney, InvalidShares
from affiliations.money import DECIMAL_PLACES, Money, apportion

MINORS = st.integers(min_value=-(2**63) + 1, max_value=2**63 - 1)
CURRENCIES = st.sampled_from(sorted(DECIMAL_PLACES))
WEIGHTS = st.lists(
    st.one_of(
        st.integers(min_value=0, max_value=10**9),
        st.fractions(min_value=0, max_value=1000),
        st.decimals(min_value=0, max_value=1, places=6),
    ),
    min_size=1,
    max_size=30,
).filter(any)


def test_the_table_of_currencies():
    assert len(DECIMAL_PLACES) == 165
    assert {places: list(DECIMAL_PLACES.values()).count(places) for places in (0, 2, 3, 4)} == {
        0: 17,
        2: 139,
        3: 7,
        4: 2,
    }
    assert all(len(code) == 3 and code.isascii() and code.isupper() for code in DECIMAL_PLACES)
    assert not {"XXX", "XTS", "XAU", "XDR", "XBA", "XSU", "XUA"} & set(DECIMAL_PLACES)


@pytest.mark.parametrize(
    ("amount", "currency", "minor", "text"),
    [
        (Decimal("12.50"), "EUR", 1250, "12.50 EUR"),
        ("12.5", "eur", 1250, "12.50 EUR"),
        ("+12.5000", "EUR", 1250, "12.50 EUR"),
        (Decimal("-0.01"), "EUR", -1, "-0.01 EUR"),
        (Decimal("-0.00"), "EUR", 0, "0.00 EUR"),
        (Decimal("1E+3"), "EUR", 100000, "1000.00 EUR"),
        (Decimal("0E+999999"), "EUR", 0, "0.00 EUR"),
        (12, "EUR", 1200, "12.00 EUR"),
        (Decimal("1200.00"), "JPY", 1200, "1200 JPY"),
        ("1.234", "KWD", 1234, "1.234 KWD"),
        ("0.0001", "CLF", 1, "0.0001 CLF"),
        ("92233720368547758.07", "EUR", 2**63 - 1, "92233720368547758.07 EUR"),
        ("-92233720368547758.07", "EUR", -(2**63) + 1, "-92233720368547758.07 EUR"),
    ],
)
def test_major_units(amount, currency, minor, text):
    money = Money.of(amount, currency)
    assert (money.minor, str(money)) == (minor, text)


@pytest.mark.parametrize(
    ("amount", "currency", "problem"),
    [
        (12.5, "EUR", "amount: must be .* not float"),
        (True, "EUR", "amount: must be .* not bool"),
        (None, "EUR", "amount: must be .* not NoneType"),
        (Decimal("NaN"), "EUR", "amount: NaN"),
        (Decimal("sNaN"), "EUR", "amount: sNaN"),
        (Decimal("-Infinity"), "EUR", "amount: -Infinity"),
        ("12.345", "EUR", "amount: EUR has 2 decimal places"),
        ("0.5", "JPY", "amount: JPY has 0 decimal places"),
        (Decimal("1E-999999"), "EUR", "amount: EUR has 2 decimal places"),
        ("1" * 40, "EUR", "amount: is too large"),
        (Decimal("1E+999999"), "EUR", "amount: is too large"),
        pytest.param(10**5000, "EUR", "amount: is too large", id="5001 digits"),
        ("92233720368547758.08", "EUR", "minor: must be between"),
        ("", "EUR", "amount: '' is not a number"),
        ("1e3", "EUR", "amount: '1e3' is not"),
        ("1_000", "EUR", "amount: '1_000' is not"),
        ("１２", "EUR", "amount: .* is not"),
        (" 12", "EUR", "amount: ' 12' is not"),
        ("12\n", "EUR", "amount: .* is not"),
        ("1,50", "EUR", "amount: '1,50' is not"),
        ("1", "EURO", "currency: 'EURO' is not"),
        ("1", "XXX", "currency: 'XXX' is not"),
        ("1", "", "currency: '' is not"),
        ("1", None, "currency: None is not"),
        ("1", ["EUR"], "currency: .* is not"),
    ],
)
def test_what_is_no_money(amount, currency, problem):
    with pytest.raises(InvalidMoney, match=f"^{problem}"):
        Money.of(amount, currency)


@pytest.mark.parametrize(
    ("minor", "currency", "field"),
    [
        (1.0, "EUR", "minor"),
        (False, "EUR", "minor"),
        ("1", "EUR", "minor"),
        (2**63, "EUR", "minor"),
        (-(2**63), "EUR", "minor"),
        pytest.param(10**5000, "EUR", "minor", id="5001 digits"),
        (1, "eur", "currency"),
        (1, None, "currency"),
    ],
)
def test_the_constructor_names_the_field(minor, currency, field):
    with pytest.raises(InvalidMoney, match=f"^{field}: "):
        Money(minor, currency)


def test_arithmetic_stays_within_a_currency():
    euro, yen = Money(150, "EUR"), Money(150, "JPY")
    assert euro + Money(50, "EUR") == Money(200, "EUR")
    assert euro - Money(200, "EUR") == -Money(50, "EUR")
    assert Money(1, "EUR") < euro <= Money(150, "EUR")
    assert max(euro, Money(7, "EUR")) == euro
    assert euro != yen
    assert len({euro, yen, Money(150, "EUR")}) == 2
    for operation in ("__add__", "__sub__", "__lt__", "__le__", "__gt__", "__ge__"):
        with pytest.raises(InvalidMoney, match=r"^currency: EUR and JPY"):
            getattr(euro, operation)(yen)
    with pytest.raises(InvalidMoney, match=r"^minor: "):
        Money(2**63 - 1, "EUR") + Money(1, "EUR")


@pytest.mark.parametrize("other", [0, 1.5, "1", None])
def test_arithmetic_takes_money_only(other):
    money = Money(150, "EUR")
    for operate in (lambda: money + other, lambda: money - other, lambda: money < other):
        with pytest.raises(TypeError):
            operate()


def test_zero_is_money_too():
    assert Money(0, "EUR")


@given(MINORS, CURRENCIES)
def test_major_units_and_back(minor, currency):
    money = Money(minor, currency)
    with localcontext() as context:
        context.prec = 3  # a caller's own precision must not reach the amount
        amount = money.amount
        assert Money.of(amount, currency) == money
    assert -amount.as_tuple().exponent == DECIMAL_PLACES[currency]
    assert str(money) == f"{amount:f} {currency}"


def is_fair(divide, total, weights):
    """Whether the parts sum to the whole, and each is within one unit of its quota."""
    parts = divide(total, weights)
    whole = sum(map(Fraction, weights))
    quotas = [total * Fraction(weight) / whole for weight in weights]
    return sum(parts) == total and all(
        abs(part - quota) < 1 for part, quota in zip(parts, quotas, strict=True)
    )


def round_each(total, weights):
    """Divide as it is done without thinking."""
    whole = sum(map(Fraction, weights))
    return [round(total * Fraction(weight) / whole) for weight in weights]


@given(MINORS, WEIGHTS)
def test_parts_sum_to_the_whole(total, weights):
    assert is_fair(apportion, total, weights)
    assert apportion(-total, weights) == [-part for part in apportion(total, weights)]


def test_rounding_each_part_is_caught():
    cases = st.tuples(MINORS, WEIGHTS)
    total, weights = find(cases, lambda case: not is_fair(round_each, *case))
    assert is_fair(apportion, total, weights)


@pytest.mark.parametrize(
    ("total", "weights", "parts"),
    [
        (100, [1, 1, 1], [34, 33, 33]),
        (-100, [1, 1, 1], [-34, -33, -33]),
        (1, [1, 1], [1, 0]),
        (2, [0, 1, 1, 1], [0, 1, 1, 0]),
        (0, [1, 2], [0, 0]),
        (7, [Decimal("0.5"), Fraction(1, 2)], [4, 3]),
        (10, [3], [10]),
        (100, [Decimal("0.2"), Decimal("0.2"), Decimal("0.6")], [20, 20, 60]),
    ],
)
def test_the_largest_remainder_then_the_first(total, weights, parts):
    assert apportion(total, weights) == parts


@pytest.mark.parametrize(
    "weights",
    [
        [],
        [0, 0],
        [1, -1],
        [2, -1],
        [Decimal("NaN")],
        [Decimal("sNaN")],
        [1, Decimal("Infinity")],
        [0.5, 0.5],
        [True],
        [None],
        ["1"],
    ],
)
def test_weights_that_divide_nothing(weights):
    with pytest.raises(InvalidShares, match=r"^weights: "):
        apportion(100, weights)


@pytest.mark.parametrize("total", [1.5, Decimal(1), True, None])
def test_a_whole_is_of_minor_units(total):
    with pytest.raises(InvalidShares, match=r"^total: "):
        apportion(total, [1])
