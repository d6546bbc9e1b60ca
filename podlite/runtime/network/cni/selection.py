"""Several networks on one pod: what its annotations ask for, and the one that says what it has got. Pure.

    k8s.v1.cni.cncf.io/networks: storage, default/fast@eth5        or a JSON list of objects (NetworkSelectionElement)
    v1.multus-cni.io/default-network: other                        what the pod's own network is to be
    k8s.v1.cni.cncf.io/network-status: [{"name": …, "interface": …, "ips": […], "mac": …, "default": true}, …]

Source: Kubernetes Network Custom Resource Definition De-facto Standard, version 1.3 (github.com/k8snetworkplumbingwg/
multi-net-spec), sections 4.1 and 5.2. Where it has a NetworkAttachmentDefinition, podlite, which has no API server,
has the configuration of that name in --cni-conf-dir; namespaces are accepted and make no difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from podlite.cri.errors import InvalidArgumentError
from podlite.runtime.network.cni.config import valid_interface, valid_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from podlite.runtime.network.interface import PodInterface

NETWORKS = "k8s.v1.cni.cncf.io/networks"
DEFAULT_NETWORK = "v1.multus-cni.io/default-network"
STATUS = "k8s.v1.cni.cncf.io/network-status"


class Selection(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One network that a pod asks for. `interface` is its name in the pod, net1, net2 … where none is given."""

    name: str
    namespace: str = ""
    interface: str = ""
    ips: list[str] = []
    mac: str = ""
    port_mappings: list[dict[str, Any]] = msgspec.field(default_factory=list, name="portMappings")
    bandwidth: dict[str, int] | None = None
    cni_args: dict[str, Any] = msgspec.field(default_factory=dict, name="cni-args")
    device_id: str = msgspec.field(default="", name="deviceID")
    infiniband_guid: str = msgspec.field(default="", name="infiniband-guid")

    def capabilities(self) -> dict[str, Any]:
        """The capability arguments that it asks for (CONVENTIONS.md)."""
        values = {
            "ips": self.ips,
            "mac": self.mac,
            "portMappings": self.port_mappings,
            "bandwidth": self.bandwidth,
            "deviceID": self.device_id,
            "infinibandGUID": self.infiniband_guid,
        }
        return {key: value for key, value in values.items() if value}


def additional_networks(annotations: Mapping[str, str]) -> list[Selection]:
    """The networks beside a pod's own, each with the name of its interface. Raises InvalidArgumentError."""
    found = _read(annotations.get(NETWORKS, ""), NETWORKS)
    taken = {"lo", "eth0"}
    for number, selection in enumerate(found, 1):
        selection.interface = selection.interface or f"net{number}"
        if selection.interface in taken:
            raise InvalidArgumentError(f"The annotation {NETWORKS} has the interface {selection.interface!r} twice.")
        taken.add(selection.interface)
    return found


def default_network(annotations: Mapping[str, str]) -> Selection | None:
    """The network that is to be the pod's own, None for the first one. Raises InvalidArgumentError."""
    found = _read(annotations.get(DEFAULT_NETWORK, ""), DEFAULT_NETWORK)
    if len(found) > 1:
        raise InvalidArgumentError(f"The annotation {DEFAULT_NETWORK} names {len(found)} networks; a pod has one.")
    return found[0] if found else None


def _read(text: str, annotation: str) -> list[Selection]:
    text = text.strip()
    if not text:
        return []
    if text[0] in "[{":
        try:
            decoded = msgspec.json.decode(text)
            found = msgspec.convert(decoded if isinstance(decoded, list) else [decoded], list[Selection])
        except msgspec.MsgspecError as error:
            raise InvalidArgumentError(f"The annotation {annotation} cannot be read: {error}.") from error
    else:
        found = [_short(item.strip(), annotation) for item in text.split(",")]
    for selection in found:
        if not valid_name(selection.name):
            raise InvalidArgumentError(f"The annotation {annotation} names {selection.name!r}, which is no network.")
        if selection.interface and not valid_interface(selection.interface):
            raise InvalidArgumentError(
                f"The annotation {annotation} wants an interface {selection.interface!r}, which is no name for one."
            )
    return found


def _short(item: str, annotation: str) -> Selection:
    """`[namespace/]name[@interface]`."""
    rest, at, interface = item.partition("@")
    if at and not interface:
        raise InvalidArgumentError(f"The annotation {annotation} has no interface behind the @ of {item!r}.")
    namespace, slash, name = rest.rpartition("/")
    if slash and not namespace:
        raise InvalidArgumentError(f"The annotation {annotation} has no namespace before the / of {item!r}.")
    return Selection(name=name, namespace=namespace, interface=interface)


def status_annotation(interfaces: Iterable[PodInterface]) -> str:
    """The value of the status annotation for a pod with these interfaces, its own first."""
    entries = []
    for each in interfaces:
        entry: dict[str, Any] = {"name": each.network, "interface": each.name, "ips": each.ips}
        if each.mac:
            entry["mac"] = each.mac
        if each.mtu:
            entry["mtu"] = each.mtu
        if each.default:
            entry["default"] = True
        entry["dns"] = each.dns
        if each.gateway:
            entry["gateway"] = each.gateway
        entries.append(entry)
    return msgspec.json.encode(entries).decode()
