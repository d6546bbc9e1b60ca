"""The numbers and addresses of the built-in network that its modules, its templates and its table share."""

from __future__ import annotations

# IFLA_GROUP of every pod's host end: the letters "pl". `ip link show group 28780` lists them, and the nftables
# table recognises pods by it.
DEVICE_GROUP = 0x706C

# rtm_protocol of the routes to pods: `ip route show proto 112`. Free in iproute2's rt_protos.
ROUTE_PROTOCOL = 112

# On every host end, scope link: the pods' gateway, and the host's address for pods. The IPv6 gateway is the first
# address of the IPv6 pod CIDR, once on the host's `lo`: an address on every host end costs each new pod a walk
# over all of them (0.2 ms more per pod at 1,000 pods).
GATEWAY4 = "169.254.1.1"

# The same on every host end: locally administered, "pl". A pod's own address is 0a:58 and its IPv4 address.
HOST_MAC = "ee:70:6c:00:00:01"

POD_INTERFACE = "eth0"
# Above whatever tunnel devices the kernel's modules put into every new network namespace.
POD_INTERFACE_INDEX = 64

# A host end's index is chosen too, so that one batch can name it before it exists: this plus the pod's place in
# the CIDR. The kernel gives out indices from 1 upwards.
HOST_INDEX_BASE = 1_000_000
HOST_INDEX_SPAN = 1 << 20


def is_host_interface(name: str) -> bool:
    """Whether a device is called as pods' host ends are: `pl` and 8 hexadecimal digits."""
    return len(name) == 10 and name.startswith("pl") and all(digit in "0123456789abcdef" for digit in name[2:])
