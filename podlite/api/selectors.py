"""Label selectors (metav1.LabelSelector).

Source: k8s.io/apimachinery/pkg/apis/meta/v1/types.go, Kubernetes 1.36.
"""

from __future__ import annotations

from msgspec import field

from podlite.api.base import Object


class LabelSelector(Object):
    """All `match_labels` and all `match_expressions` must hold; empty matches everything, None nothing."""

    match_labels: dict[str, str] = {}
    match_expressions: list[LabelSelectorRequirement] = []


class LabelSelectorRequirement(Object):
    key: str = field(default_factory=str)
    operator: str = field(default_factory=str)
    values: list[str] = []
