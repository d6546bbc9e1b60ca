from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podlite.api import yaml_events
from podlite.api.yaml_source import MAX_DEPTH, Node, from_plain, load, plain, resolve


def read(text: str | bytes) -> list[Any]:
    roots, problems = load(text, "f.yaml")
    assert problems == []
    return [plain(root) for root in roots]


def complaints(text: str | bytes) -> list[str]:
    return [str(problem) for problem in load(text, "f.yaml")[1]]


# sigs.k8s.io/yaml v1.6 (go.yaml.in/yaml/v2), as vendored by Kubernetes 1.36: YAMLToJSON("a: " + text)
RESOLVED: list[tuple[str, Any]] = [
    *[(word, True) for word in ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON")],
    *[(word, False) for word in ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")],
    *[(word, None) for word in ("", "~", "null", "Null", "NULL")],
    *[(word, word) for word in ("yEs", "tRue", "nULL", "oN", "nope", "yesterday", "inf", "nan", "Infinity", "None")],
    ("0", 0),
    ("00", 0),
    ("0644", 420),
    ("0o644", 420),
    ("0O17", 15),
    ("0777", 511),
    ("089", 89.0),
    ("0x1F", 31),
    ("0X1f", 31),
    ("-0x10", -16),
    ("+0x10", 16),
    ("0b11", 3),
    ("-0b1", -1),
    ("+0o7", 7),
    ("1_000", 1000),
    ("0_7", 7),
    ("+5", 5),
    ("-5", -5),
    ("9223372036854775807", 2**63 - 1),
    ("-9223372036854775808", -(2**63)),
    ("18446744073709551615", 2**64 - 1),
    ("18446744073709551616", 2.0**64),
    ("1e3", 1000.0),
    ("1E3", 1000.0),
    ("12e03", 12000.0),
    ("1.", 1.0),
    (".5", 0.5),
    (".5e1", 5.0),
    ("-.5", -0.5),
    ("1e-7", 1e-7),
    *[(text, text) for text in ("0xg", "0b12", "0o8", "0x", "_1", "1e", "1..", "1.2.3", ".", ".e1", "+", "-", "1e400")],
    # no base 60, and times stay strings
    *[(text, text) for text in ("1:30", "1:30:00", "2001-12-14", "2001-12-14t21:59:43.10-05:00", "2026-01-02 03:04")],
    *[(text, text) for text in ("<<a", "=", "500m", "64Mi", "/bin/sh", "a b")],
]


@pytest.mark.parametrize(("text", "value"), RESOLVED)
def test_plain_scalars(text: str, value: Any) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


def test_infinities() -> None:
    assert [resolve(text) for text in (".inf", "+.Inf", "-.INF")] == [math.inf, math.inf, -math.inf]
    nan = resolve(".nan")
    assert isinstance(nan, float)
    assert math.isnan(nan)


def test_quoted_and_block_scalars_are_strings() -> None:
    assert read("a: '1'\nb: \"yes\"\nc: |\n  null\nd: >-\n  1\n  2\n") == [
        {"a": "1", "b": "yes", "c": "null\n", "d": "1 2"}
    ]


# the same source; decode.go and sigs.k8s.io/yaml's convertToJSONableObject
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{1: a, 1.5: b, 0x10: c, yes: d, 'no': e, y: f}", {"1": "a", "1.5": "b", "16": "c", "true": "f", "no": "e"}),
        ("a: !!str 5", {"a": "5"}),
        ("a: !!int '5'", {"a": 5}),
        ("a: !!float 5", {"a": 5.0}),
        ("a: !!binary aGVsbG8=", {"a": "hello"}),
        ("a: !local 5", {"a": "5"}),
        ("a: ! 5", {"a": "5"}),
        ("a: &x {b: 1}\nc: {<<: *x, d: 2}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
        ("a: &x {b: 1}\nc: {<<: *x, b: 2}", {"a": {"b": 1}, "c": {"b": 2}}),
        ("a: &x {b: 1}\nc: {b: 2, <<: *x}", {"a": {"b": 1}, "c": {"b": 1}}),
        (
            "a: &x {b: 1}\nd: &y {b: 2, e: 3}\nc: {<<: [*x, *y]}",
            {"a": {"b": 1}, "d": {"b": 2, "e": 3}, "c": {"b": 1, "e": 3}},
        ),
        ("'<<': {a: 1}", {"<<": {"a": 1}}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("\ufeffa: b", {"a": "b"}),
        ("a: b\r\nc: d\r\n", {"a": "b", "c": "d"}),
    ],
)
def test_documents(text: str, value: Any) -> None:
    assert read(text) == [value]


def test_several_documents_of_which_the_empty_ones_are_left_out() -> None:
    assert read("---\n# nothing\n---\na: 1\n---\nnull\n---\n~\n--- {b: 2}\n...\n") == [{"a": 1}, {"b": 2}]
    assert read("") == []
    assert read("# only a comment\n") == []


def test_json() -> None:
    text = json.dumps({"a": [1, 1.5, True, None, "x\ty", "é"], "b": {}}, indent="\t")
    assert read(text) == [{"a": [1, 1.5, True, None, "x\ty", "é"], "b": {}}]
    # a pair of surrogates is JSON, but no YAML
    assert read('{"a": "\\ud83d\\ude00"}') == [{"a": "😀"}]


def test_lines_and_columns_count_from_one() -> None:
    (root,), _ = load("# comment\na:\n  - bé: c\n    d: {e: f}\n", "f.yaml")
    ((_, key, sequence),) = root.value
    (name, first_key, first), (_, _, second) = sequence.value[0].value
    assert (root.line, root.column) == (2, 1)
    assert (key.line, key.column) == (2, 1)
    assert (sequence.line, sequence.column) == (3, 3)
    assert name == "bé"
    assert (first_key.line, first_key.column) == (3, 5)
    assert (first.line, first.column) == (3, 9)
    inner = second.get("e")
    assert inner is not None
    assert (inner.line, inner.column) == (4, 12)


def test_lines_count_through_all_documents() -> None:
    roots, _ = load("a: 1\n---\n\nb: 2\n", "f.yaml")
    assert [root.line for root in roots] == [1, 4]


def test_repeated_keys_are_noted_and_the_last_value_counts() -> None:
    (root,), _ = load("a: 1\nb: 2\na: 3\na: 4\n", "f.yaml")
    assert plain(root) == {"a": 4, "b": 2}
    assert root.repeated is not None
    assert [(key, first.line, second.line) for key, first, second in root.repeated] == [("a", 1, 3), ("a", 3, 4)]


def test_merged_keys_repeat_nothing() -> None:
    (root,), _ = load("x: &x {a: 1}\nz: {<<: *x, a: 2}\n", "f.yaml")
    merged = root.get("z")
    assert merged is not None
    assert merged.repeated is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: b: c", "f.yaml:1:5: YAML cannot be read: mapping values are not allowed in this context"),
        (
            "a:\n\t- b",
            "f.yaml:2:1: YAML cannot be read: found character that cannot start any token, while scanning for the next "
            "token; YAML is indented with spaces, and there is a tab",
        ),
        (
            "a:\n  - b\n c: d\n",
            "f.yaml:3:2: YAML cannot be read: did not find expected key, while parsing a block mapping that "
            "begins in line 1",
        ),
        ("a: *b", "f.yaml:1:4: YAML cannot be read: unknown anchor 'b' referenced"),
        ("a: &a [*a]", "f.yaml:1:8: YAML cannot be read: anchor 'a' value contains itself"),
        ("a: !!int x", "f.yaml:1:4: YAML cannot be read: cannot decode !!str `x` as a !!int"),
        ("<<: 5", "f.yaml:1:5: YAML cannot be read: map merge requires map or sequence of maps as the value"),
        ("? [a]\n: b", "f.yaml:2:3: YAML cannot be read: a key must be a string"),
        ("~: b", "f.yaml:1:4: YAML cannot be read: a key must be a string"),
        ("é: \x07", "f.yaml:1:4: YAML cannot be read: control characters are not allowed"),
    ],
)
def test_errors_have_a_place(text: str, sentence: str) -> None:
    assert complaints(text) == [sentence]


def test_bytes_that_are_no_utf8() -> None:
    assert complaints(b"a: \xff") == ["f.yaml:1:4: YAML cannot be read: invalid leading UTF-8 octet"]


def test_reading_goes_on_with_the_next_document() -> None:
    roots, problems = load('a: 1\n---\nb: c: d\n---\ne: 2\n---\nf: "g\n---\nh: 3\n', "f.yaml")
    assert [plain(root) for root in roots] == [{"a": 1}, {"e": 2}, {"h": 3}]
    assert [(problem.line, problem.column) for problem in problems] == [(3, 5), (8, 1)]


def test_a_laughing_billion() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
    assert complaints("\n".join(lines)) == ["f.yaml:21:1: YAML cannot be read: document contains excessive aliasing"]


def test_ordinary_aliases_are_not_excessive() -> None:
    assert len(read("a: &a {b: [1, 2, 3]}\n" + "".join([f"k{n}: *a\n" for n in range(90)]))[0]) == 91


def test_a_tower_is_refused() -> None:
    assert read("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    deeper = f"f.yaml:1:{MAX_DEPTH + 1}: YAML cannot be read: the document nests deeper than {MAX_DEPTH} levels"
    assert complaints("[" * 900 + "]" * 900) == [deeper]
    # The libyaml of PyYAML 6.0.4 has a limit of its own, 1,000 levels, and meets it while it looks for a simple key.
    limit = "f.yaml:1:1001: YAML cannot be read: exceeded maximum nesting depth, while increasing flow level"
    assert complaints("[" * 100_000) in ([deeper], [limit])


def test_plain_values_make_a_tree() -> None:
    value = {"a": [1, {"b": None}], "c": True}
    assert plain(from_plain(value)) == value


# --- libyaml by its C interface, and PyYAML -------------------------------------------------


def outcome(events: Any, data: bytes) -> Any:
    try:
        return list(events(data))
    except yaml_events.YamlError as error:
        return (error.problem, error.line, error.column, error.context, error.context_line)


def test_libyaml_is_found_in_pyyaml() -> None:
    # the fallback is for other machines; on this one the short way must work, or a run takes 10 ms longer
    assert yaml_events._libyaml() is not None


@settings(max_examples=300)
@given(st.text(alphabet=st.sampled_from("ab:-?,[]{}#&*!|>'\"%@`~. \n\t\\x1é\x00\x85"), max_size=60))
def test_both_ways_to_libyaml_agree(text: str) -> None:
    direct = yaml_events._libyaml()
    assert direct is not None
    data = text.encode()
    if not data.startswith((b"\xff\xfe", b"\xfe\xff")):  # PyYAML guesses UTF-16 from these, manifests are UTF-8
        assert outcome(direct, data) == outcome(yaml_events._pyyaml, data)


def test_reading_a_manifest_imports_neither_yaml_nor_the_rare_types() -> None:
    program = (
        "import sys\n"
        "from podlite.api.manifest import load_manifests\n"
        "load_manifests([('f', '{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, "
        "image: x}]}}')])\n"
        "print(*sorted(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    loaded = set(done.stdout.split())
    rare = {
        "volumes",
        "volumes_network",
        "probes",
        "scheduling",
        "claims",
        "workloads",
        "events",
        "config",
        "status_details",
    }
    heavy = {"yaml", "difflib", "ipaddress", "pyroute2", "structlog", "dataclasses"}
    assert not loaded & (heavy | {f"podlite.api.{name}" for name in rare})


# --- whatever comes -------------------------------------------------------------------------


@settings(max_examples=300)
@given(st.text(max_size=200))
def test_any_text_is_read_or_complained_about(text: str) -> None:
    roots, problems = load(text, "f.yaml")
    assert all(isinstance(root, Node) for root in roots)
    assert all(problem.message and problem.file == "f.yaml" and problem.line >= 1 for problem in problems)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_complained_about(data: bytes) -> None:
    roots, problems = load(data, "f.yaml")
    assert all(problem.line >= 1 and problem.column >= 1 for problem in problems)
    assert all(root.kind or root.value is not None for root in roots)  # what is empty is left out


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text("abc-_.1", max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=5), values, max_size=4))
def test_json_reads_as_what_it_is(value: dict[str, Any]) -> None:
    assert read(json.dumps(value)) == [value]


def test_without_the_extension_the_events_come_from_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_events, "_extension_path", lambda: None)
    monkeypatch.setattr(yaml_events, "_backend", None)
    assert read("a: [1, 2]\n") == [{"a": [1, 2]}]
    assert complaints("a: b: c") == ["f.yaml:1:5: YAML cannot be read: mapping values are not allowed in this context"]
    assert yaml_events._backend is yaml_events._pyyaml


def test_a_library_that_is_no_libyaml_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # the C library of Python's own math module has none of the symbols
    import math as other

    monkeypatch.setattr(yaml_events, "_extension_path", lambda: getattr(other, "__file__", "/nonexistent"))
    assert yaml_events._libyaml() is None
