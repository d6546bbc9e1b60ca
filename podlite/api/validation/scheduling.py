"""Validation of what a pod tells the scheduler: affinity, tolerations, spreading, gates, claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api.validation import names
from podlite.api.validation.meta import label_name, positive, validate_selector

if TYPE_CHECKING:
    from podlite.api.pod import PodSpec
    from podlite.api.scheduling import (
        NodeAffinity,
        NodeSelectorRequirement,
        NodeSelectorTerm,
        PodAffinity,
        PodAffinityTerm,
        PodAntiAffinity,
        PodResourceClaim,
        Toleration,
        TopologySpreadConstraint,
    )
    from podlite.api.selectors import LabelSelector
    from podlite.api.validation.report import Report

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_SPREAD = ("DoNotSchedule", "ScheduleAnyway")
_INCLUSION = ("Honor", "Ignore")
_NOT_A_SELECTOR = "not a valid selector operator"
_MIRROR = "kubernetes.io/config.mirror"


def validate_scheduling(spec: PodSpec, path: str, report: Report) -> None:
    """Everything here but resource claims, in the API server's order as far as it matters."""
    if spec.affinity is not None:
        place = f"{path}.affinity"
        if spec.affinity.node_affinity is not None:
            _node_affinity(spec.affinity.node_affinity, f"{place}.nodeAffinity", report)
        if spec.affinity.pod_affinity is not None:
            _pod_affinity(spec.affinity.pod_affinity, f"{place}.podAffinity", report)
        if spec.affinity.pod_anti_affinity is not None:
            _pod_affinity(spec.affinity.pod_anti_affinity, f"{place}.podAntiAffinity", report)
    _gates([gate.name for gate in spec.scheduling_gates], f"{path}.schedulingGates", report)
    _spread(spec.topology_spread_constraints, f"{path}.topologySpreadConstraints", report)
    _tolerations(spec.tolerations, f"{path}.tolerations", report)
    if spec.scheduling_group is not None:
        place, name = f"{path}.schedulingGroup.podGroupName", spec.scheduling_group.pod_group_name
        if name is None:
            report.invalid(place, None, "must specify one of: `podGroupName`")
        else:
            report.invalids(place, name, names.dns_subdomain(name))


def validate_resource_claims(
    claims: list[PodResourceClaim], annotations: dict[str, str], path: str, report: Report
) -> None:
    seen: set[str] = set()
    for index, claim in enumerate(claims):
        place = f"{path}[{index}]"
        if _MIRROR in annotations:
            report.forbidden("[]", "static pods do not support resource claims")
            continue
        if not claim.name:
            report.required(f"{place}.name")
        elif claim.name in seen:
            report.duplicate(f"{place}.name", claim.name)
        else:
            report.invalids(f"{place}.name", claim.name, names.dns_label(claim.name))
            seen.add(claim.name)
        given = [
            (name, value)
            for name, value in (
                ("resourceClaimName", claim.resource_claim_name),
                ("resourceClaimTemplateName", claim.resource_claim_template_name),
            )
            if value is not None
        ]
        if len(given) > 1:
            detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            report.invalid(place, claim, detail)
        elif not given:
            detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            report.invalid(place, claim, detail)
        for name, value in given:
            report.invalids(f"{place}.{name}", value, names.dns_subdomain(value))


def _node_affinity(affinity: NodeAffinity, path: str, report: Report) -> None:
    required = affinity.required_during_scheduling_ignored_during_execution
    if required is not None:
        place = f"{path}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
        if not required.node_selector_terms:
            report.required(place, "must have at least one node selector term")
        for index, term in enumerate(required.node_selector_terms):
            _node_term(term, f"{place}[{index}]", report, check_values=True)
    for index, preferred in enumerate(affinity.preferred_during_scheduling_ignored_during_execution):
        place = f"{path}.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
        _weight(preferred.weight, f"{place}.weight", report)
        _node_term(preferred.preference, f"{place}.preference", report, check_values=False)


def _weight(weight: int, path: str, report: Report) -> None:
    if not 1 <= weight <= 100:
        report.invalid(path, weight, "must be in the range 1-100")


def _node_term(term: NodeSelectorTerm, path: str, report: Report, *, check_values: bool) -> None:
    for index, each in enumerate(term.match_expressions):
        place = f"{path}.matchExpressions[{index}]"
        _node_operator(each, place, report)
        label_name(each.key, f"{place}.key", report)
        for number, value in enumerate(each.values if check_values else ()):
            report.invalids(f"{place}.values[{number}]", value, names.label_value(value))
    for index, each in enumerate(term.match_fields):
        place = f"{path}.matchFields[{index}]"
        if each.operator not in ("In", "NotIn"):
            report.invalid(f"{place}.operator", each.operator, _NOT_A_SELECTOR)
        elif len(each.values) != 1:
            detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            report.required(f"{place}.values", detail)
        if each.key != "metadata.name":
            report.invalid(f"{place}.key", each.key, "not a valid field selector key")
            continue
        for number, value in enumerate(each.values):
            report.invalids(f"{place}.values[{number}]", value, names.dns_subdomain(value))


def _node_operator(requirement: NodeSelectorRequirement, path: str, report: Report) -> None:
    operator, count = requirement.operator, len(requirement.values)
    if operator in ("In", "NotIn"):
        if not count:
            report.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist"):
        if count:
            detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            report.forbidden(f"{path}.values", detail)
    elif operator in ("Gt", "Lt"):
        if count != 1:
            detail = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            report.required(f"{path}.values", detail)
    else:
        report.invalid(f"{path}.operator", operator, _NOT_A_SELECTOR)


def _pod_affinity(affinity: PodAffinity | PodAntiAffinity, path: str, report: Report) -> None:
    for index, term in enumerate(affinity.required_during_scheduling_ignored_during_execution):
        _pod_term(term, f"{path}.requiredDuringSchedulingIgnoredDuringExecution[{index}]", report)
    for index, weighted in enumerate(affinity.preferred_during_scheduling_ignored_during_execution):
        place = f"{path}.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
        _weight(weighted.weight, f"{place}.weight", report)
        _pod_term(weighted.pod_affinity_term, f"{place}.podAffinityTerm", report)


def _pod_term(term: PodAffinityTerm, path: str, report: Report) -> None:
    validate_selector(term.label_selector, f"{path}.labelSelector", report)
    validate_selector(term.namespace_selector, f"{path}.namespaceSelector", report)
    for namespace in term.namespaces:
        report.invalids(f"{path}.namespace", namespace, names.dns_label(namespace))
    _label_keys(term.match_label_keys, term.mismatch_label_keys, term.label_selector, path, report)
    if not term.topology_key:
        report.required(f"{path}.topologyKey", "can not be empty")
    label_name(term.topology_key, f"{path}.topologyKey", report)


def _label_keys(
    match: list[str], mismatch: list[str], selector: LabelSelector | None, path: str, report: Report
) -> None:
    """Keys that are added to a selector must not be in it already, nor be wanted and unwanted at once."""
    for name, keys in (("matchLabelKeys", match), ("mismatchLabelKeys", mismatch)):
        if keys and selector is None:
            report.forbidden(f"{path}.{name}", "must not be specified when labelSelector is not set")
            continue
        for index, key in enumerate(keys):
            label_name(key, f"{path}.{name}[{index}]", report)
    if selector is not None:
        known = set(selector.match_labels)
        for each in selector.match_expressions:
            if each.key in match and each.key in known:
                detail = "exists in both matchLabelKeys and labelSelector"
                last = len(match) - 1 - match[::-1].index(each.key)
                report.invalid(f"{path}[{last}]", each.key, detail)
            known.add(each.key)
    for index, key in enumerate(match):
        if key in mismatch:
            detail = "exists in both matchLabelKeys and mismatchLabelKeys"
            report.invalid(f"{path}.matchLabelKeys[{index}]", key, detail)


def _gates(gates: list[str], path: str, report: Report) -> None:
    seen: set[str] = set()
    for index, name in enumerate(gates):
        report.invalids(f"{path}[{index}]", name, names.qualified_name(name))
        if name in seen:
            report.duplicate(f"{path}[{index}]", name)
        seen.add(name)


def _spread(constraints: list[TopologySpreadConstraint], path: str, report: Report) -> None:
    last = {(each.topology_key, each.when_unsatisfiable): index for index, each in enumerate(constraints)}
    for index, each in enumerate(constraints):
        place = f"{path}[{index}]"
        positive(each.max_skew, f"{place}.maxSkew", report)
        if not each.topology_key:
            report.required(f"{place}.topologyKey", "can not be empty")
        if each.when_unsatisfiable not in _SPREAD:
            report.not_supported(f"{place}.whenUnsatisfiable", each.when_unsatisfiable, _SPREAD)
        pair = (each.topology_key, each.when_unsatisfiable)
        if last[pair] > index:
            report.duplicate(f"{place}.{{topologyKey, whenUnsatisfiable}}", f"{{{pair[0]}, {pair[1]}}}")
        if each.min_domains is not None:
            positive(each.min_domains, f"{place}.minDomains", report)
            if each.when_unsatisfiable != "DoNotSchedule":
                action = each.when_unsatisfiable
                detail = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                report.invalid(f"{place}.minDomains", each.min_domains, detail)
        for name, policy in (
            ("nodeAffinityPolicy", each.node_affinity_policy),
            ("nodeTaintsPolicy", each.node_taints_policy),
        ):
            if policy is not None and policy not in _INCLUSION:
                report.not_supported(f"{place}.{name}", policy, _INCLUSION)
        _label_keys(each.match_label_keys, [], each.label_selector, place, report)
        validate_selector(each.label_selector, f"{place}.labelSelector", report)


def _tolerations(tolerations: list[Toleration], path: str, report: Report) -> None:
    for index, each in enumerate(tolerations):
        place = f"{path}[{index}]"
        if each.key:
            label_name(each.key, f"{place}.key", report)
        elif each.operator != "Exists":
            detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            report.invalid(f"{place}.operator", each.operator, detail)
        if each.toleration_seconds is not None and each.effect != "NoExecute":
            detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            report.invalid(f"{place}.effect", each.effect, detail)
        if each.operator in ("Equal", ""):
            wrong = names.label_value(each.value)
            if wrong:
                report.invalid(f"{place}.operator", each.value, ";".join(wrong))
        elif each.operator == "Exists":
            if each.value:
                report.invalid(f"{place}.operator", each.value, "value must be empty when `operator` is 'Exists'")
        elif each.operator in ("Lt", "Gt"):
            # behind the gate TaintTolerationComparisonOperators, which is off
            report.not_supported(f"{place}.operator", each.operator, ("Equal", "Exists", "Lt", "Gt"))
        else:
            report.not_supported(f"{place}.operator", each.operator, ("Equal", "Exists"))
        if each.effect and each.effect not in _EFFECTS:
            report.not_supported(f"{place}.effect", each.effect, _EFFECTS)
