"""Expansion of $(NAME): the rules of the API reference (EnvVar.value, Container.command) and of the expansion's design
document: design-proposals-archive/node/expansion.md, "Syntax" and "Examples".
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlite.api.container import EnvVar
from podlite.api.env import EnvVarSource, ObjectFieldSelector
from podlite.kubelet.expansion import expand, expand_all, expand_strictly, static_variables

VARIABLES = {"VAR_A": "A", "VAR_B": "B", "VAR_C": "C", "VAR_REF": "$(VAR_A)", "VAR_EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("$(VAR_A)", "A"),
        ("___$(VAR_B)___", "___B___"),
        ("$(VAR_A)-$(VAR_B)$(VAR_C)", "A-BC"),
        # A value is not looked into again.
        ("$(VAR_REF)", "$(VAR_A)"),
        ("$(VAR_EMPTY)", ""),
        ("foo$(VAR_EMPTY)bar", "foobar"),
        # Unknown names stay as they are.
        ("$(VAR_DNE)", "$(VAR_DNE)"),
        ("___$(VAR_DNE)___", "___$(VAR_DNE)___"),
        ("$()", "$()"),
        # $$ is an escaped dollar sign.
        ("$$(VAR_A)", "$(VAR_A)"),
        ("$$$(VAR_A)", "$A"),
        ("$$$$(VAR_A)", "$$(VAR_A)"),
        ("$$$$$$(BAZ)", "$$$(BAZ)"),
        ("f000-$$VAR_A", "f000-$VAR_A"),
        ("foo\\$(VAR_C)bar", "foo\\Cbar"),
        ("foo\\\\$(VAR_C)bar", "foo\\\\Cbar"),
        # What is not a reference stands for itself.
        ("$VAR_A", "$VAR_A"),
        ("$(VAR_A", "$(VAR_A"),
        ("$(VAR_A$(VAR_B)", "$(VAR_A$(VAR_B)"),
        ("$(VAR_B)______$(A", "B______$(A"),
        ("--$(VAR_A)--$", "--A--$"),
        ("$", "$"),
        ("$$", "$"),
        ("\n$(VAR_A)\n", "\nA\n"),
        ("$((VAR_A))", "$((VAR_A))"),
        ("$(VAR_A)é$é", "Aé$é"),
    ],
)
def test_expand(text: str, expected: str) -> None:
    assert expand(text, VARIABLES) == expected


@given(st.text(alphabet="$()AB x"))
def test_what_has_no_reference_to_a_known_variable_can_be_escaped_and_comes_back(text: str) -> None:
    assert expand(text.replace("$", "$$"), {"A": "1", "B": "2", "AB": "3"}) == text


def test_commands_are_expanded_word_by_word() -> None:
    assert expand_all(["$(VAR_A)", "x y", "$$(VAR_A)"], VARIABLES) == ["A", "x y", "$(VAR_A)"]


def test_a_strict_expansion_names_all_that_is_missing_or_empty() -> None:
    # ExpandContainerVolumeMounts: an empty value is missing too; names are sorted.
    assert expand_strictly("$(VAR_A)/$(Z)/$(VAR_EMPTY)/$(B)", VARIABLES) == ("A///", ["B", "VAR_EMPTY", "Z"])
    assert expand_strictly("$(VAR_A)/x", VARIABLES) == ("A/x", [])


def test_probes_see_only_values_that_are_written_out() -> None:
    # ExpandContainerCommandOnlyStatic: a variable that comes from elsewhere counts as empty, not as unknown.
    elsewhere = EnvVarSource(field_ref=ObjectFieldSelector(field_path="metadata.name"))
    variables = static_variables([EnvVar(name="A", value="1"), EnvVar(name="B", value_from=elsewhere)])
    assert expand("$(A)$(B)$(C)", variables) == "1$(C)"
