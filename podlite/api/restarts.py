"""A container's own rules for restarting and resizing (core/v1).

Source: k8s.io/api/core/v1/types.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import field

from podlite.api.base import Object

if TYPE_CHECKING:
    from podlite.api.base import Int32


class ContainerResizePolicy(Object):
    resource_name: str = field(default_factory=str)
    restart_policy: str = field(default_factory=str)


class ContainerRestartRuleOnExitCodes(Object):
    operator: str = ""
    values: list[Int32] = []


class ContainerRestartRule(Object):
    action: str = ""
    exit_codes: ContainerRestartRuleOnExitCodes | None = None
