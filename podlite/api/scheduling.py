"""What a pod tells the scheduler (core/v1). podlite has none: these are read, checked and shown, no more.

Source: k8s.io/api/core/v1/types.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import field

from podlite.api.base import Object, empty_list

if TYPE_CHECKING:
    from podlite.api.base import Int32
    from podlite.api.selectors import LabelSelector


class NodeSelectorRequirement(Object):
    key: str = field(default_factory=str)
    operator: str = field(default_factory=str)
    values: list[str] = []


class NodeSelectorTerm(Object):
    match_expressions: list[NodeSelectorRequirement] = []
    match_fields: list[NodeSelectorRequirement] = []


class NodeSelector(Object):
    node_selector_terms: list[NodeSelectorTerm] = field(default_factory=empty_list)


class PreferredSchedulingTerm(Object):
    weight: Int32 = field(default_factory=int)
    preference: NodeSelectorTerm = field(default_factory=NodeSelectorTerm)


class NodeAffinity(Object):
    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    preferred_during_scheduling_ignored_during_execution: list[PreferredSchedulingTerm] = []


class PodAffinityTerm(Object):
    label_selector: LabelSelector | None = None
    namespaces: list[str] = []
    topology_key: str = field(default_factory=str)
    namespace_selector: LabelSelector | None = None
    match_label_keys: list[str] = []
    mismatch_label_keys: list[str] = []


class WeightedPodAffinityTerm(Object):
    weight: Int32 = field(default_factory=int)
    pod_affinity_term: PodAffinityTerm = field(default_factory=PodAffinityTerm)


class PodAffinity(Object):
    required_during_scheduling_ignored_during_execution: list[PodAffinityTerm] = []
    preferred_during_scheduling_ignored_during_execution: list[WeightedPodAffinityTerm] = []


class PodAntiAffinity(Object):
    required_during_scheduling_ignored_during_execution: list[PodAffinityTerm] = []
    preferred_during_scheduling_ignored_during_execution: list[WeightedPodAffinityTerm] = []


class Affinity(Object):
    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAntiAffinity | None = None


class Toleration(Object):
    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class TopologySpreadConstraint(Object):
    max_skew: Int32 = field(default_factory=int)
    topology_key: str = field(default_factory=str)
    when_unsatisfiable: str = field(default_factory=str)
    label_selector: LabelSelector | None = None
    min_domains: Int32 | None = None
    node_affinity_policy: str | None = None
    node_taints_policy: str | None = None
    match_label_keys: list[str] = []


class PodSchedulingGate(Object):
    name: str = field(default_factory=str)


class PodSchedulingGroup(Object):
    pod_group_name: str | None = None


class PodResourceClaim(Object):
    name: str = field(default_factory=str)
    resource_claim_name: str | None = None
    resource_claim_template_name: str | None = None
