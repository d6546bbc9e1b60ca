from __future__ import annotations

import pytest

from podlite.linux.devices import (
    ALLOW_ALL,
    DEFAULT_RULES,
    WILDCARD,
    DeviceRule,
    bpf_program,
    merged,
    rule_for,
    v1_writes,
)


def test_v1_denies_everything_first() -> None:
    # Documentation/admin-guide/cgroup-v1/devices.rst
    assert v1_writes((DeviceRule("c", 1, 3, "rw"), DeviceRule("b", WILDCARD, WILDCARD, "m"))) == [
        ("devices.deny", "a"),
        ("devices.allow", "c 1:3 rw"),
        ("devices.allow", "b *:* m"),
    ]
    assert v1_writes(ALLOW_ALL) == [("devices.allow", "a")]


def test_default_rules() -> None:
    # opencontainers/runtime-spec, config-linux.md, "Default Devices"; Documentation/admin-guide/devices.txt. What a
    # container has as /dev/console is its own terminal; 5:1 would be the machine's, as runc's list has it.
    usable = {(rule.type, rule.major, rule.minor) for rule in DEFAULT_RULES if rule.access == "rwm"}
    standard = {("c", 1, minor) for minor in (3, 5, 7, 8, 9)} | {("c", 5, minor) for minor in (0, 2)}
    assert usable == standard | {("c", 136, WILDCARD), ("c", 10, 200)}
    assert all(rule.access == "m" for rule in DEFAULT_RULES if rule.type == "b")


def test_rules_for_one_device_are_merged() -> None:
    rules = (DeviceRule("c", 1, 3, "r"), DeviceRule("b", 8, 0, "r"), DeviceRule("c", 1, 3, "wr"))
    assert merged(rules) == (DeviceRule("c", 1, 3, "rw"), DeviceRule("b", 8, 0, "r"))


@pytest.mark.parametrize("rule", [DeviceRule("c", 1, 3, ""), DeviceRule("c", 1, 3, "x"), DeviceRule("p", 1, 3, "r")])
def test_no_rules(rule: DeviceRule) -> None:
    with pytest.raises(ValueError, match="is no device rule"):
        bpf_program((rule,))


def test_rule_for_a_node(tmp_path: object) -> None:
    assert rule_for("/dev/null", "rw") == DeviceRule("c", 1, 3, "rw")
    with pytest.raises(OSError, match="not a device"):
        rule_for("/etc/passwd", "r")
