"""The forms that names and numbers must have: each check returns what is wrong, or nothing.

The regular expressions are part of the messages only; the checks are written out, for compiling the
expressions takes longer than validating a pod.

Source: k8s.io/apimachinery/pkg/util/validation/validation.go and ip.go, and pkg/api/validate/content, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz")
_DIGITS = frozenset("0123456789")
_LETTERS = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_LOWER_ALNUM = _LOWER | _DIGITS
_ALNUM = _LETTERS | _DIGITS
_LABEL = _LOWER_ALNUM | {"-"}
_QUALIFIED = _ALNUM | frozenset("-_.")
_ENV_FIRST = _LETTERS | frozenset("-._")
_HTTP_HEADER = _ALNUM | {"-"}

_LABEL_FORMAT = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_FORMAT = rf"{_LABEL_FORMAT}(\.{_LABEL_FORMAT})*"
_UNDERSCORE_FORMAT = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_QUALIFIED_FORMAT = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_QUALIFIED_RULE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)

DNS_LABEL_MAX = 63
DNS_SUBDOMAIN_MAX = 253
LABEL_MAX = 63
MAX_ID = 2**31 - 1


def max_length(length: int) -> str:
    return f"must be no more than {length} characters"


def max_bytes(length: int) -> str:
    return f"must be no more than {length} bytes"


def in_range(low: int, high: int) -> str:
    return f"must be between {low} and {high}, inclusive"


def expected(rule: str, expression: str, *examples: str) -> str:
    """The message of a form that is described by a regular expression."""
    given = " or ".join([f"'{example}', " for example in examples])
    return f"{rule} (e.g. {given}regex used for validation is '{expression}')"


def _is_label(value: str) -> bool:
    return bool(value) and _LABEL.issuperset(value) and value[0] != "-" and value[-1] != "-"


def _is_subdomain(value: str) -> bool:
    return all(_is_label(part) for part in value.split("."))


def dns_label(value: str) -> list[str]:
    """RFC 1123 label: names of containers, volumes, namespaces, hosts."""
    wrong = [max_length(DNS_LABEL_MAX)] if len(value.encode()) > DNS_LABEL_MAX else []
    if not _is_label(value):
        if _is_subdomain(value):
            wrong.append("must not contain dots")
        else:
            rule = (
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
                "and must start and end with an alphanumeric character"
            )
            wrong.append(expected(rule, _LABEL_FORMAT, "my-name", "123-abc"))
    return wrong


def dns_subdomain(value: str) -> list[str]:
    """RFC 1123 subdomain: names of pods, config maps, secrets and most other objects."""
    wrong = [max_length(DNS_SUBDOMAIN_MAX)] if len(value.encode()) > DNS_SUBDOMAIN_MAX else []
    if not _is_subdomain(value):
        rule = (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
            "and must start and end with an alphanumeric character"
        )
        wrong.append(expected(rule, _SUBDOMAIN_FORMAT, "example.com"))
    return wrong


def dns_subdomain_with_underscore(value: str) -> list[str]:
    """A subdomain whose labels may begin with an underscore and contain others: DNS search paths."""
    wrong = [max_length(DNS_SUBDOMAIN_MAX)] if len(value.encode()) > DNS_SUBDOMAIN_MAX else []
    labels = [part.removeprefix("_") for part in value.split(".")]
    if not all(part and (_LABEL | {"_"}).issuperset(part) and {part[0], part[-1]} <= _LOWER_ALNUM for part in labels):
        rule = (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', "
            "and must start and end with an alphanumeric character"
        )
        wrong.append(expected(rule, rf"{_UNDERSCORE_FORMAT}(\.{_UNDERSCORE_FORMAT})*", "example.com"))
    return wrong


def generated(check: Callable[[str], list[str]], prefix: str) -> list[str]:
    """What is wrong with a prefix to which a generated part will be added: it may end in a dash."""
    if len(prefix) > 1 and prefix.endswith("-"):
        prefix = prefix[:-2] + "a"
    return check(prefix)


def qualified_name(value: str) -> list[str]:
    """A name with an optional DNS subdomain as prefix: keys of labels and annotations, resources, conditions."""
    prefix, slash, name = value.rpartition("/")
    wrong = []
    if "/" in prefix:
        rule = f"a valid label key {_QUALIFIED_RULE}"
        message = expected(rule, _QUALIFIED_FORMAT, "MyName", "my.name", "123-abc")
        return [f"{message} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    if slash:
        if not prefix:
            wrong.append("prefix part must be non-empty")
        else:
            wrong += [f"prefix part {each}" for each in _prefix(prefix)]
    if not name:
        wrong.append("name part must be non-empty")
    elif len(name.encode()) > LABEL_MAX:
        wrong.append(f"name part {max_bytes(LABEL_MAX)}")
    if not _is_qualified(name):
        rule = f"name part {_QUALIFIED_RULE}"
        wrong.append(expected(rule, _QUALIFIED_FORMAT, "MyName", "my.name", "123-abc"))
    return wrong


def _prefix(value: str) -> list[str]:
    """As `dns_subdomain`, whose older copy counts characters where this one counts bytes."""
    return [each.replace(" characters", " bytes") if each == max_length(253) else each for each in dns_subdomain(value)]


def _is_qualified(name: str) -> bool:
    return bool(name) and _QUALIFIED.issuperset(name) and {name[0], name[-1]} <= _ALNUM


def label_value(value: str) -> list[str]:
    wrong = [max_bytes(LABEL_MAX)] if len(value.encode()) > LABEL_MAX else []
    if value and not _is_qualified(value):
        rule = f"a valid label must be an empty string or consist of {_QUALIFIED_RULE.removeprefix('must consist of ')}"
        wrong.append(expected(rule, f"({_QUALIFIED_FORMAT})?", "MyValue", "my_value", "12345"))
    return wrong


def domain_prefixed_key(value: str) -> list[str]:
    """A key that must have a domain: user annotations of pod certificates."""
    wrong = qualified_name(value)
    if not wrong and value.count("/") != 1:
        wrong = ['must be a domain-prefixed key (such as "acme.io/foo")']
    return wrong


def env_name(value: str) -> list[str]:
    """Printable ASCII without '=': environment variables, keys of env files."""
    wrong = ["environment variable name must be non-empty"] if not value else []
    if not all(" " <= letter <= "~" and letter != "=" for letter in value):
        wrong.append("a valid environment variable name must consist only of printable ASCII characters other than '='")
    return wrong


def config_key(value: str) -> list[str]:
    """A key of a ConfigMap or Secret."""
    wrong = [max_length(DNS_SUBDOMAIN_MAX)] if len(value.encode()) > DNS_SUBDOMAIN_MAX else []
    if not value or not _QUALIFIED.issuperset(value):
        rule = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        wrong.append(expected(rule, "[-._a-zA-Z0-9]+", "key.name", "KEY_NAME", "key-name"))
    if value in (".", ".."):
        wrong.append(f"must not be '{value}'")
    elif value.startswith(".."):
        wrong.append("must not start with '..'")
    return wrong


def http_header(value: str) -> list[str]:
    if value and _HTTP_HEADER.issuperset(value):
        return []
    rule = "a valid HTTP header must consist of alphanumeric characters or '-'"
    return [expected(rule, "[-A-Za-z0-9]+", "X-Header-Name")]


def port_number(port: int) -> list[str]:
    return [] if 1 <= port <= 65535 else [in_range(1, 65535)]


def port_name(name: str) -> list[str]:
    """The name of a port, as IANA has them: at most 15 letters, digits and single hyphens, one letter at least."""
    wrong = [max_length(15)] if len(name.encode()) > 15 else []
    if not name or not _LABEL.issuperset(name):
        wrong.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if _LOWER.isdisjoint(name):
        wrong.append("must contain at least one letter (a-z)")
    if "--" in name:
        wrong.append("must not contain consecutive hyphens")
    if name and "-" in (name[0], name[-1]):
        wrong.append("must not begin or end with a hyphen")
    return wrong


def port(value: int | str) -> list[str]:
    """A port by number or by name."""
    return port_name(value) if isinstance(value, str) else port_number(value)


def user_or_group(number: int) -> list[str]:
    return [] if 0 <= number <= MAX_ID else [in_range(0, MAX_ID)]


def decimal_integer(value: str) -> list[str]:
    if not value:
        return ["must be non-empty"]
    digits = value.removeprefix("-")
    plain = digits.isascii() and digits.isdigit() and (digits[0] != "0" or value == "0")
    return [] if plain else ["must be a valid decimal integer in canonical form"]


def ip_address(value: str) -> list[str]:
    """IPv4 without leading zeros, or IPv6 that is not a mapped IPv4 address."""
    import socket

    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            packed = socket.inet_pton(family, value)
        except (OSError, ValueError):
            continue
        if len(packed) == 16 and packed[:12] == bytes(10) + b"\xff\xff":
            return ["must not be an IPv4-mapped IPv6 address"]
        return []
    parts = value.split(".")
    if len(parts) == 4 and all(part.isascii() and part.isdigit() and int(part) < 256 for part in parts):
        return ["must not have leading 0s"]
    return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]


def relative_path(value: str) -> list[str]:
    """A path that stays below where it is applied."""
    return (["must be a relative path"] if value.startswith("/") else []) + no_backsteps(value)


def local_path(value: str) -> list[str]:
    """A relative path whose first element does not begin with two dots: files that a volume makes."""
    wrong = relative_path(value)
    if value.startswith("..") and not value.startswith("../"):
        wrong.append("must not start with '..'")
    return wrong


def no_backsteps(value: str) -> list[str]:
    return ["must not contain '..'"] if ".." in value.split("/") else []
