from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlite.api.quantity import (
    BINARY_SI,
    DECIMAL_EXPONENT,
    DECIMAL_SI,
    FORMAT_ERROR,
    NUMERIC_ERROR,
    SUFFIX_ERROR,
    Amount,
    QuantityError,
    canonical,
    is_quantity,
    parse,
)

NANO = 10**9

# k8s.io/apimachinery/pkg/api/resource/quantity_test.go, TestQuantityParse: text, value in billionths, format
PARSED = [
    ("0", 0, DECIMAL_SI),
    ("0n", 0, DECIMAL_SI),
    ("0Ki", 0, BINARY_SI),
    ("1", NANO, DECIMAL_SI),
    ("1Ki", 1024 * NANO, BINARY_SI),
    ("8Ki", 8 * 1024 * NANO, BINARY_SI),
    ("7Mi", 7 * 1024**2 * NANO, BINARY_SI),
    ("6Gi", 6 * 1024**3 * NANO, BINARY_SI),
    ("5Ti", 5 * 1024**4 * NANO, BINARY_SI),
    ("4Pi", 4 * 1024**5 * NANO, BINARY_SI),
    ("3Ei", 3 * 1024**6 * NANO, BINARY_SI),
    ("5n", 5, DECIMAL_SI),
    ("4u", 4 * 10**3, DECIMAL_SI),
    ("3m", 3 * 10**6, DECIMAL_SI),
    ("8k", 8 * 10**3 * NANO, DECIMAL_SI),
    ("7M", 7 * 10**6 * NANO, DECIMAL_SI),
    ("6G", 6 * 10**9 * NANO, DECIMAL_SI),
    ("5T", 5 * 10**12 * NANO, DECIMAL_SI),
    ("2P", 2 * 10**15 * NANO, DECIMAL_SI),
    ("1E", 10**18 * NANO, DECIMAL_SI),
    ("1E-3", 10**6, DECIMAL_EXPONENT),
    ("1e3", 10**3 * NANO, DECIMAL_EXPONENT),
    ("1E18", 10**18 * NANO, DECIMAL_EXPONENT),
    ("100.035k", 100035 * NANO, DECIMAL_SI),
    ("0.0005k", NANO // 2, DECIMAL_SI),
    ("0.05000", 5 * 10**7, DECIMAL_SI),
    ("1.3E+6", 1300000 * NANO, DECIMAL_EXPONENT),
    ("6.987654321G", 6987654321 * NANO, DECIMAL_SI),
    ("1.01E", 101 * 10**16 * NANO, DECIMAL_SI),
    # rounding and saturation
    ("3.001n", 4, DECIMAL_SI),
    ("1.1E-9", 2, DECIMAL_EXPONENT),
    ("0.0000000005", 1, DECIMAL_SI),
    ("0.00000012345", 124, DECIMAL_SI),
    ("9Ei", (2**63 - 1) * NANO, BINARY_SI),
    ("9223372036854775807Ki", (2**63 - 1) * NANO, BINARY_SI),
    ("12E", 12 * 10**18 * NANO, DECIMAL_SI),
    # fractions of binary units
    ("100.035Ki", 10243584 * NANO // 100, BINARY_SI),
    ("0.5Mi", 512 * 1024 * NANO, BINARY_SI),
    ("0.025Ti", 274877906944 * NANO // 10, BINARY_SI),
    # by trolls
    ("0.000000000001Ki", 2, DECIMAL_SI),
    (".001", 10**6, DECIMAL_SI),
    ("1.", NANO, DECIMAL_SI),
    ("1.G", 10**9 * NANO, DECIMAL_SI),
]


@pytest.mark.parametrize(("text", "nanos", "format"), PARSED)
def test_parse(text: str, nanos: int, format: str) -> None:
    assert (parse(text).nanos, parse(text).format) == (nanos, format)
    assert parse(f"-{text}").nanos == -nanos
    assert parse(f"+{text}").nanos == nanos


# as Kubernetes 1.36 prints them: resource.ParseQuantity(text).String()
@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("0Ki", "0"),
        ("0.5", "500m"),
        ("0.100", "100m"),
        ("1500m", "1500m"),
        ("1.5", "1500m"),
        ("1000m", "1"),
        ("1024Mi", "1Gi"),
        ("1000Mi", "1000Mi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("1023", "1023"),
        ("1000000", "1M"),
        ("100000u", "100m"),
        ("1e14", "100e12"),
        ("1E3", "1E3"),
        ("1.40e9", "1400e6"),
        ("0.5e0", "500e-3"),
        ("100.035Ki", "102435840m"),
        ("-0.5Gi", "-512Mi"),
        ("3.001n", "4n"),
        ("9Ei", "9223372036854775807"),
        # taken for canonical, though it is not
        ("1.500", "1.500"),
        ("+5", "+5"),
        ("009", "009"),
    ],
)
def test_printed_form(text: str, printed: str) -> None:
    assert canonical(text) == printed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", FORMAT_ERROR),
        ("   ", FORMAT_ERROR),
        ("abc", FORMAT_ERROR),
        ("1.2.3", FORMAT_ERROR),
        ("1Kib", FORMAT_ERROR),
        ("1 Gi", FORMAT_ERROR),
        ("1x", FORMAT_ERROR),
        ("--1", SUFFIX_ERROR),
        ("1KK", SUFFIX_ERROR),
        ("1K", SUFFIX_ERROR),
        ("1e", SUFFIX_ERROR),
        ("1i", SUFFIX_ERROR),
        ("1mi", SUFFIX_ERROR),
        ("1e-", SUFFIX_ERROR),
        ("Pi", NUMERIC_ERROR),
    ],
)
def test_what_is_no_quantity(text: str, message: str) -> None:
    with pytest.raises(QuantityError) as caught:
        parse(text)
    assert str(caught.value) == message
    assert not is_quantity(text)


def test_an_enormous_exponent_is_refused_at_once() -> None:
    for text in ("1e999999999", "1e-999999999", "1e99999999999999999999"):
        with pytest.raises(QuantityError):
            parse(text)


@pytest.mark.parametrize(
    ("text", "value", "milli"),
    [("1", 1, 1000), ("1n", 1, 1), ("1.5", 2, 1500), ("100m", 1, 100), ("1Ki", 1024, 1024000), ("2500u", 1, 3)],
)
def test_value_and_milli_value_round_up(text: str, value: int, milli: int) -> None:
    assert (parse(text).value(), parse(text).milli_value()) == (value, milli)


# quantity_test.go, TestQuantityCmp
@pytest.mark.parametrize(("less", "more"), [("50m", "100m"), ("100Gi", "10000T"), ("-1", "0"), ("1Mi", "1.1Mi")])
def test_order(less: str, more: str) -> None:
    assert parse(less) < parse(more)
    assert parse(more) >= parse(less)
    assert parse(less) != parse(more)


def test_equal_amounts_are_equal_whatever_their_form() -> None:
    assert parse("1Gi") == parse("1024Mi") == parse("1073741824")
    assert len({parse("1000m"), parse("1"), parse("1e0")}) == 1
    assert parse("1") != "1"


def test_resource_lists_keep_thousandths() -> None:
    # SetDefaults_ResourceList rounds up to milli
    assert str(parse("100n").rounded_to_milli()) == "1m"
    assert str(parse("1.0005").rounded_to_milli()) == "1001m"
    assert str(parse("1.500").rounded_to_milli()) == "1.500"


amounts = st.builds(
    lambda sign, whole, fraction, suffix: f"{sign}{whole}{fraction}{suffix}",
    st.sampled_from(["", "-", "+"]),
    st.integers(0, 10**15).map(str),
    st.one_of(st.just(""), st.integers(0, 10**6).map(lambda number: f".{number}")),
    st.sampled_from(["", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "e-3", "E0"]),
)


@given(amounts)
def test_the_printed_form_is_the_same_amount(text: str) -> None:
    amount = parse(text)
    again = parse(str(amount))
    assert again == amount
    assert str(again) == str(amount)


@given(st.integers(-(10**27), 10**27), st.sampled_from([DECIMAL_SI, BINARY_SI, DECIMAL_EXPONENT]))
def test_every_amount_is_printed_exactly(nanos: int, format: str) -> None:
    amount = Amount(nanos, format)
    if abs(nanos) <= (2**63 - 1) * NANO:  # beyond that binary amounts are capped when they are read
        assert parse(str(amount)) == amount
    assert abs(amount.value()) * NANO >= abs(nanos) > (abs(amount.value()) - 1) * NANO


@given(amounts, amounts)
def test_order_is_that_of_the_numbers(one: str, other: str) -> None:
    assert (parse(one) < parse(other)) == (parse(one).nanos < parse(other).nanos)


@given(st.text(max_size=40))
def test_any_text_is_a_quantity_or_a_quantity_error(text: str) -> None:
    if is_quantity(text):
        assert parse(canonical(text)) == parse(text)
