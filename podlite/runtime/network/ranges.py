"""Ranges of pods' addresses as a kubelet names them."""

from __future__ import annotations

import ipaddress

from podlite.cri.errors import InvalidArgumentError


def parse_ranges(text: str) -> list[str]:
    """The ranges of NetworkConfig.pod_cidr: one, or one of each family with a comma between; none if it is empty. Pure.

    Raises InvalidArgumentError for what is no range.
    """
    try:
        return [str(ipaddress.ip_network(each.strip())) for each in text.split(",")] if text.strip() else []
    except ValueError as error:
        raise InvalidArgumentError(f"the pod CIDR {text!r} is none: {error}") from None
