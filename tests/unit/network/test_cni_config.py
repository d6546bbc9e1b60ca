"""CNI configurations. Expected values are those of SPEC.md (CNI 1.1.0), sections 1 and 3, and of libcni/conf.go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from podlite.runtime.network.cni.config import (
    ConfigError,
    default_network,
    every_network,
    load,
    named_network,
    parse,
    valid_interface,
    valid_name,
)
from podlite.runtime.network.cni.negotiate import choose, plugin_types

# SPEC.md, "Example configuration", without its comments.
DBNET: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "cniVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    "name": "dbnet",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "keyA": ["some more", "plugin specific", "configuration"],
            "ipam": {
                "type": "host-local",
                "subnet": "10.1.0.0/16",
                "gateway": "10.1.0.1",
                "routes": [{"dst": "0.0.0.0/0"}],
            },
            "dns": {"nameservers": ["10.1.0.1"]},
        },
        {"type": "tuning", "capabilities": {"mac": True}, "sysctl": {"net.core.somaxconn": "500"}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}


def write(directory: Path, name: str, content: Any) -> str:
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def conflist(name: str = "net", **fields: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": name, "plugins": [{"type": "bridge"}], **fields}


def test_the_example_of_the_specification() -> None:
    found = parse(json.dumps(DBNET).encode(), "10-dbnet.conflist")
    assert found.name == "dbnet"
    assert found.versions == ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]
    assert found.plugins == DBNET["plugins"]
    assert not found.disable_check and not found.disable_gc
    assert found.has_capability("portMappings") and found.has_capability("mac") and not found.has_capability("ips")
    assert plugin_types(found) == ["bridge", "host-local", "tuning", "portmap"]


def test_the_first_file_by_name_is_the_pods_network(tmp_path: Path) -> None:
    write(tmp_path, "20-b.conflist", conflist("b"))
    write(tmp_path, "10-a.conf", {"cniVersion": "0.4.0", "name": "a", "type": "ptp"})
    write(tmp_path, "00-readme.txt", "no configuration")
    (tmp_path / "05-directory.conflist").mkdir()
    assert default_network(str(tmp_path)).name == "a"
    assert named_network(str(tmp_path), "b").name == "b"
    assert [each.name for each in every_network(str(tmp_path)) if not isinstance(each, ConfigError)] == ["a", "b"]


def test_a_single_plugin_is_taken_for_a_list_of_one(tmp_path: Path) -> None:
    found = load(write(tmp_path, "a.conf", {"cniVersion": "0.4.0", "name": "a", "type": "ptp", "mtu": 1400}))
    assert found.plugins == [{"cniVersion": "0.4.0", "name": "a", "type": "ptp", "mtu": 1400}]


def test_a_list_comes_before_a_single_plugin_of_the_same_name(tmp_path: Path) -> None:
    write(tmp_path, "10.conf", {"cniVersion": "0.4.0", "name": "x", "type": "ptp"})
    write(tmp_path, "20.conflist", conflist("x"))
    assert named_network(str(tmp_path), "x").path.endswith("20.conflist")


def test_a_mistake_in_the_first_file_does_not_put_pods_on_the_second_one(tmp_path: Path) -> None:
    write(tmp_path, "10.conflist", "{")
    write(tmp_path, "20.conflist", conflist("x"))
    with pytest.raises(ConfigError, match=r"10\.conflist cannot be used: it is not JSON"):
        default_network(str(tmp_path))
    assert named_network(str(tmp_path), "x").name == "x"
    with pytest.raises(ConfigError, match=r"no CNI network 'y' .*: there are x\. .*10\.conflist"):
        named_network(str(tmp_path), "y")


def test_an_empty_or_missing_directory_is_said(tmp_path: Path) -> None:
    for directory in (str(tmp_path), str(tmp_path / "none")):
        with pytest.raises(ConfigError, match="There is no CNI network configuration in"):
            default_network(directory)


def test_plugins_beside_the_list(tmp_path: Path) -> None:
    """1.1: loadOnlyInlinedPlugins. What is beside comes behind what is inlined, by file name (libcni/conf.go)."""
    write(tmp_path, "net/20.conf", {"type": "tuning"})
    write(tmp_path, "net/10.conf", {"type": "portmap"})
    write(tmp_path, "net/30.conflist", {"type": "firewall"})
    types = [each["type"] for each in load(write(tmp_path, "a.conflist", conflist())).plugins]
    assert types == ["bridge", "portmap", "tuning"]
    only = load(write(tmp_path, "b.conflist", conflist(loadOnlyInlinedPlugins=True)))
    assert [each["type"] for each in only.plugins] == ["bridge"]
    without = {"cniVersion": "1.1.0", "name": "net"}
    assert [each["type"] for each in load(write(tmp_path, "c.conflist", without)).plugins] == ["portmap", "tuning"]
    with pytest.raises(ConfigError, match="no plugins, and there are none beside it"):
        load(write(tmp_path, "d.conflist", {**without, "name": "other"}))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ([], "it is no JSON object"),
        ({"cniVersion": "1.0.0", "plugins": [{"type": "x"}]}, "it has no name"),
        (conflist("a/b"), "its name 'a/b' is to begin with"),
        (conflist(".a"), "its name '.a' is to begin with"),
        (conflist(plugins=[]), "its plugins are no list with something in it"),
        (conflist(plugins=[{}]), "a plugin in it has no type"),
        (conflist(plugins=[{"type": "../x"}]), "the type of a plugin is the name of a program"),
        # SPEC.md section 1, "Plugin configuration objects": both are dictionaries.
        (conflist(plugins=[{"type": "x", "args": []}]), "the args of the plugin x are no object"),
        (conflist(plugins=[{"type": "x", "capabilities": ["ips"]}]), "the capabilities of the plugin x are no object"),
        (conflist(cniVersion="0.2.0"), "it is for version 0.2.0 of CNI, and podlite speaks 0.3.0 to 1.1.0"),
        (conflist(cniVersion="2.0.0", cniVersions=["3.0.0"]), "it is for version 2.0.0 or 3.0.0 of CNI"),
        ({"name": "x", "plugins": [{"type": "y"}]}, "it is for version 0.1.0 of CNI"),
        (conflist(cniVersions="1.0.0"), "its cniVersions are no list of versions"),
        (conflist(disableCheck=1), "disableCheck is neither true nor false"),
        (
            {"cniVersion": "1.1.0", "name": "x", "loadOnlyInlinedPlugins": True},
            "loadOnlyInlinedPlugins is true, and there are no plugins in it",
        ),
    ],
)
def test_what_is_wrong_is_said(content: Any, why: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(json.dumps(content).encode(), "/etc/cni/net.d/x.conflist")
    assert why in error.value.message and "/etc/cni/net.d/x.conflist" in error.value.message


def test_a_list_in_a_file_for_one_plugin() -> None:
    with pytest.raises(ConfigError, match=r"has to be called \.conflist"):
        parse(json.dumps(conflist()).encode(), "x.conf")


def test_versions_newer_than_ours_are_passed_over() -> None:
    found = parse(json.dumps(conflist(cniVersion="1.2.0", cniVersions=["1.0.0", "1.2.0"])).encode(), "x.conflist")
    assert found.versions == ["1.0.0"]


def test_flags_may_be_text_as_in_libcni() -> None:
    found = parse(json.dumps(conflist(disableCheck="TRUE", disableGC="false")).encode(), "x.conflist")
    assert found.disable_check and not found.disable_gc


def test_the_highest_version_that_all_share_is_chosen() -> None:
    found = parse(json.dumps(DBNET).encode(), "x.conflist")
    everything = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
    assert choose(found, {"bridge": everything, "portmap": everything}) == "1.1.0"
    assert choose(found, {"bridge": everything, "portmap": everything[:-1]}) == "1.0.0"
    with pytest.raises(ConfigError, match=r"portmap supports 0\.3\.0\."):
        choose(found, {"bridge": everything, "portmap": ["0.3.0"]})
    with pytest.raises(ConfigError, match="none is common to all"):
        choose(found, {"bridge": ["0.4.0"], "portmap": ["1.0.0"]})


def test_names() -> None:
    assert all(valid_name(name) for name in ("a", "0", "a_b.c-d"))
    assert not any(valid_name(name) for name in ("", "-a", "a b", "ä", "a/b", "a\n"))
    assert all(valid_interface(name) for name in ("eth0", "net1", "a" * 15))
    assert not any(valid_interface(name) for name in ("", ".", "..", "a/b", "a:b", "a b", "a" * 16))
