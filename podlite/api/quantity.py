"""Resource quantities: `100m`, `1.5`, `64Mi`, `1e3`, exactly as the API server reads and prints them.

A quantity is a number with a suffix: decimal (n u m k M G T P E, or an exponent e3), or binary (Ki Mi Gi Ti
Pi Ei). Nothing is ever lost to floating point: an amount is a whole number of billionths, and what is finer
is rounded away from zero when it is read, as the API server does.

Source: k8s.io/apimachinery/pkg/api/resource/quantity.go, suffix.go, amount.go, Kubernetes 1.36. Two
deliberate differences: an exponent beyond ±4096 is refused (the API server would try to compute it), and a
decimal amount of 1e21 or more keeps the suffix E (the API server prints it without any, which is another number).
"""

from __future__ import annotations

from functools import total_ordering

DECIMAL_SI = "DecimalSI"
BINARY_SI = "BinarySI"
DECIMAL_EXPONENT = "DecimalExponent"

FORMAT_ERROR = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
SUFFIX_ERROR = "unable to parse quantity's suffix"
NUMERIC_ERROR = "unable to parse numeric part of quantity"

_NANO = 10**9
_MAX_BINARY = (2**63 - 1) * _NANO
_MAX_EXPONENT = 4096
_DECIMAL_EXPONENTS = {"": 0, "n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY_EXPONENTS = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_SUFFIXES = {exponent: suffix for suffix, exponent in _DECIMAL_EXPONENTS.items()}
_BINARY_SUFFIXES = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_SUFFIX_LETTERS = frozenset("eEinumkKMGTP")


class QuantityError(ValueError):
    """The text is not a quantity. The message is the API server's."""


@total_ordering
class Amount:
    """An exact amount, and the format it is printed in. Immutable; compared by amount alone."""

    __slots__ = ("_text", "format", "nanos")

    def __init__(self, nanos: int, format: str = DECIMAL_SI, text: str = "") -> None:
        self.nanos = nanos
        self.format = format
        self._text = text

    def value(self) -> int:
        """The amount as a whole number, rounded away from zero."""
        return _divide_away(self.nanos, _NANO)

    def milli_value(self) -> int:
        """The amount in thousandths, rounded away from zero."""
        return _divide_away(self.nanos, 10**6)

    def rounded_to_milli(self) -> Amount:
        """The amount rounded away from zero to whole thousandths, as the API server does with resource lists."""
        if self.nanos % 10**6 == 0:
            return self
        return Amount(self.milli_value() * 10**6, self.format)

    def __str__(self) -> str:
        return self._text or _canonical(self.nanos, self.format)

    def __repr__(self) -> str:
        return f"Amount({self})"

    def __eq__(self, other: object) -> bool:
        return self.nanos == other.nanos if isinstance(other, Amount) else NotImplemented

    def __lt__(self, other: Amount) -> bool:
        return self.nanos < other.nanos

    def __hash__(self) -> int:
        return hash(self.nanos)


def parse(text: str) -> Amount:
    """Reads a quantity, around which white space is allowed. Raises QuantityError with the API server's message."""
    text = text.strip()
    if not text:
        raise QuantityError(FORMAT_ERROR)
    whole, fraction, suffix = _split(text)
    if suffix in _DECIMAL_EXPONENTS:
        format, exponent = DECIMAL_SI, _DECIMAL_EXPONENTS[suffix]
    elif suffix in _BINARY_EXPONENTS:
        format, exponent = BINARY_SI, _BINARY_EXPONENTS[suffix]
    else:
        format, exponent = DECIMAL_EXPONENT, _exponent(suffix)
    if len(whole) + len(fraction) > _MAX_EXPONENT or (not (whole + fraction) and _needs_digits(format, exponent)):
        raise QuantityError(NUMERIC_ERROR)
    whole = whole or "0"
    digits = int(whole + fraction)
    nanos = _nanos(digits, len(fraction), format, exponent)
    if format == BINARY_SI:
        nanos = min(nanos, _MAX_BINARY)
        if 0 < nanos < _NANO:
            format = DECIMAL_SI
    kept = text if _is_kept(whole, fraction, format, exponent) else ""
    return Amount(-nanos if text[0] == "-" else nanos, format, kept)


def is_quantity(text: str) -> bool:
    """Whether the text can be read as a quantity."""
    try:
        parse(text)
    except QuantityError:
        return False
    return True


def canonical(text: str) -> str:
    """The quantity as the API server prints it: 0.5 → 500m, 1024Mi → 1Gi. Raises QuantityError."""
    return str(parse(text))


def _split(text: str) -> tuple[str, str, str]:
    """The digits before the point without leading zeros, those after it, and the suffix. The digits may be missing."""
    end = len(text)
    start = position = 1 if text[0] in "+-" else 0
    while position < end and text[position] in "0123456789":
        position += 1
    whole = text[start:position].lstrip("0")
    if position > start:
        whole = whole or "0"
    fraction = ""
    if position < end and text[position] == ".":
        start = position = position + 1
        while position < end and text[position] in "0123456789":
            position += 1
        fraction = text[start:position]
    suffix_start = position
    while position < end and text[position] in _SUFFIX_LETTERS:
        position += 1
    if position < end and text[position] in "+-":
        position += 1
    while position < end and text[position] in "0123456789":
        position += 1
    if position < end:
        raise QuantityError(FORMAT_ERROR)
    return whole, fraction, text[suffix_start:]


def _exponent(suffix: str) -> int:
    sign = suffix[1:2]
    digits = suffix[2:] if sign in ("+", "-") else suffix[1:]
    if suffix[0] not in "eE" or not digits.isdecimal() or len(digits) > 9 or int(digits) > _MAX_EXPONENT:
        raise QuantityError(SUFFIX_ERROR)
    return -int(digits) if sign == "-" else int(digits)


def _needs_digits(format: str, exponent: int) -> bool:
    """Whether a suffix alone is an error; with other suffixes the API server takes it for zero."""
    return exponent < -9 if format != BINARY_SI else exponent > 40


def _nanos(digits: int, fraction_length: int, format: str, exponent: int) -> int:
    if format == BINARY_SI:
        return _divide_away((digits << exponent) * _NANO, _power(fraction_length))
    scale = exponent - fraction_length + 9
    return digits * _power(scale) if scale >= 0 else _divide_away(digits, _power(-scale))


def _power(exponent: int) -> int:
    power: int = 10**exponent
    return power


def _is_kept(whole: str, fraction: str, format: str, exponent: int) -> bool:
    """Whether the API server takes the text for canonical and prints it as it was given.

    It does not check that it is: 1.500 stays 1.500. The rules are those of ParseQuantity's fast path.
    """
    if format == BINARY_SI:
        room = 15 - len(whole) - int(exponent * 3 / 10) - 1
        return not fraction and room >= 0 and int(whole) & 7 != 0
    if len(whole) + len(fraction) > 18:
        return False
    digits, scale = whole + fraction, exponent - len(fraction)
    return scale >= -9 and scale % 3 == 0 and not digits.endswith("000") and digits[0] != "0"


def _canonical(nanos: int, format: str) -> str:
    if nanos == 0:
        return "0"
    if format == BINARY_SI and abs(nanos) >= 1024 * _NANO and nanos % _NANO == 0:
        mantissa, power = nanos // _NANO, 0
        while mantissa % 1024 == 0 and power < 6:
            mantissa, power = mantissa // 1024, power + 1
        return f"{mantissa}{_BINARY_SUFFIXES[power]}"
    mantissa, exponent = nanos, -9
    most = 10**9 if format == DECIMAL_EXPONENT else 18
    while mantissa % 1000 == 0 and exponent < most:
        mantissa, exponent = mantissa // 1000, exponent + 3
    if format == DECIMAL_EXPONENT:
        return f"{mantissa}e{exponent}" if exponent else str(mantissa)
    return f"{mantissa}{_DECIMAL_SUFFIXES[exponent]}"


def _divide_away(dividend: int, divisor: int) -> int:
    quotient = -(-abs(dividend) // divisor)
    return -quotient if dividend < 0 else quotient
