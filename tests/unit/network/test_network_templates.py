"""The templates are what the installed pyroute2 makes of the messages today, byte for byte."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from types import ModuleType

import pytest

from podlite.linux.netlink import NLM_F_ACK, Template
from podlite.runtime.network import templates

ALL = [
    pytest.param(value, id=f"{name}-{key}")
    for name in ("POD_END", "HOST_END", "DELETE_ROUTES", "ADD_GATEWAY6", "DELETE_GATEWAY6")
    for key, value in (
        getattr(templates, name).items()
        if isinstance(getattr(templates, name), dict)
        else [("", getattr(templates, name))]
    )
]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyroute2's own, on some versions of Python
        from podlite.runtime.network import generate_templates
    return generate_templates


def test_the_file_is_what_the_installed_pyroute2_generates(generator: ModuleType) -> None:
    assert Path(templates.__file__).read_text() == generator.source()


def messages(data: bytes) -> list[tuple[int, int, int]]:
    """(type, flags, sequence) of each message of a batch: include/uapi/linux/netlink.h, struct nlmsghdr."""
    found, offset = [], 0
    while offset < len(data):
        length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", data, offset)
        assert length >= 16 and offset + length <= len(data)
        found.append((kind, flags, sequence))
        offset += (length + 3) & ~3
    assert offset == len(data)
    return found


LINK = {"host_name", "host_index", "host_netns", "pod_mac", "mtu"}
SETTINGS = {"host_index", "route_localnet", "pod_mac"}


@pytest.mark.parametrize(
    ("template", "fields"),
    [
        (templates.POD_END["4"], LINK | {"ip4"}),
        (templates.POD_END["4-"], LINK | {"ip4"}),
        (templates.POD_END["6"], LINK | {"ip6", "gateway6"}),
        (templates.POD_END["46"], LINK | {"ip4", "ip6", "gateway6"}),
        (templates.HOST_END["4"], SETTINGS | {"ip4"}),
        (templates.HOST_END["6"], SETTINGS | {"ip6"}),
        (templates.HOST_END["46"], SETTINGS | {"ip4", "ip6"}),
        (templates.DELETE_ROUTES["46"], {"ip4", "ip6"}),
        (templates.ADD_GATEWAY6, {"gateway6"}),
        (templates.CREATE_TABLE, set()),
    ],
)
def test_fields(template: Template, fields: set[str]) -> None:
    assert set(template.fields) == fields


@pytest.mark.parametrize("template", ALL)
def test_messages_are_numbered_and_the_last_alone_asks_for_an_acknowledgement(template: Template) -> None:
    found = messages(template.data)
    assert [sequence for _, _, sequence in found] == list(range(1, len(template.steps) + 1))
    assert [bool(flags & NLM_F_ACK) for _, flags, _ in found] == [False] * (len(found) - 1) + [True]


@pytest.mark.parametrize("template", ALL)
def test_places_to_fill_are_blank_and_apart(template: Template) -> None:
    covered: set[int] = set()
    for size, offsets in template.fields.values():
        for offset in offsets:
            place = set(range(offset, offset + size))
            assert not covered & place
            covered |= place
            assert template.data[offset : offset + size] == bytes(size)


def test_the_table_transaction_is_begun_and_ended() -> None:
    kinds = [kind for kind, _, _ in messages(templates.CREATE_TABLE.data)]
    # NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END (include/uapi/linux/netfilter/nfnetlink.h); 10 is nf_tables.
    assert kinds[0] == 16 and kinds[-1] == 17
    assert {kind >> 8 for kind in kinds[1:-1]} == {10}


def test_fill_puts_values_in_all_their_places() -> None:
    template = Template(b"abcdefgh", {"x": (2, (1, 5)), "y": (1, (0,))}, ("step",))
    assert template.fill({"x": b"XX", "y": b"Y", "other": b"ignored"}) == b"YXXdeXXh"
    assert template.data == b"abcdefgh"


def test_fill_refuses_a_value_of_another_size() -> None:
    template = Template(b"abcd", {"x": (2, (0,))}, ("step",))
    with pytest.raises(ValueError, match="x takes 2 bytes, not 3"):
        template.fill({"x": b"XXX"})
    with pytest.raises(KeyError):
        template.fill({})
