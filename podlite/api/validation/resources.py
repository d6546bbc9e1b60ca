"""Validation of resource requests and limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api import quantity
from podlite.api.validation import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from podlite.api.base import Quantity
    from podlite.api.container import ResourceClaim, ResourceRequirements
    from podlite.api.validation.report import Report

_CONTAINER = frozenset(("cpu", "memory", "ephemeral-storage"))
_HUGE_PAGES = "hugepages-"
# what a quota can count: these are resource names too, only not a container's
_COUNTED = frozenset(
    (
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    )
)
_STANDARD = _CONTAINER | _COUNTED | {"storage"}
_STANDARD |= {f"{kind}.{name}" for kind in ("requests", "limits") for name in _CONTAINER} | {"requests.storage"}


def validate_resources(
    resources: ResourceRequirements,
    claim_names: frozenset[str],
    path: str,
    report: Report,
    *,
    check_name: Callable[[str, str, Report], None] | None = None,
) -> None:
    """Names, amounts, requests within limits, hugepages; `claim_names` are those of spec.resourceClaims.

    The names are those that a container may have, unless `check_name` says otherwise.
    """
    check_name = check_name or _container_resource
    if not resources.limits and not resources.requests and not resources.claims:
        return
    for name, given in resources.limits.items():
        check_name(name, f"{path}.limits[{name}]", report)
        _quantity(name, given, f"{path}.limits[{name}]", report)
    for name, given in resources.requests.items():
        check_name(name, f"{path}.requests[{name}]", report)
        _quantity(name, given, f"{path}.requests[{name}]", report)
        overcommit = _is_native(name) and not name.startswith(_HUGE_PAGES)
        limit = resources.limits.get(name)
        if limit is None:
            if not overcommit:
                report.required(f"{path}.limits", "Limit must be set for non overcommitable resources")
            continue
        asked, most = _amount(given), _amount(limit)
        if asked is None or most is None:
            continue
        if asked != most and not overcommit:
            report.invalid(f"{path}.requests", str(asked), f"must be equal to {name} limit of {most}")
        elif asked > most:
            report.invalid(f"{path}.requests", str(asked), f"must be less than or equal to {name} limit of {most}")
    named = {*resources.limits, *resources.requests}
    if any(name.startswith(_HUGE_PAGES) for name in named) and named.isdisjoint(("cpu", "memory")):
        report.forbidden(path, "HugePages require cpu or memory")
    if resources.claims:
        _claims(resources.claims, claim_names, f"{path}.claims", report)


def validate_overhead(overhead: dict[str, Quantity], path: str, report: Report) -> None:
    if overhead:
        from podlite.api.container import ResourceRequirements

        validate_resources(ResourceRequirements(limits=overhead), frozenset(), path, report)


def pod_resource(name: str, path: str, report: Report) -> None:
    """What may be requested for a pod as a whole."""
    if not _is_named(name, path, report) or name in ("cpu", "memory") or name.startswith(_HUGE_PAGES):
        return
    report.not_supported(path, name, ("cpu", _HUGE_PAGES, "memory"))


def _container_resource(name: str, path: str, report: Report) -> None:
    _is_named(name, path, report)
    if "/" not in name:
        if name not in _CONTAINER and not name.startswith(_HUGE_PAGES):
            report.invalid(path, name, "must be a standard resource for containers")
    elif not _is_native(name) and not _is_extended(name):
        report.invalid(path, name, "doesn't follow extended resource name standard")


def _is_named(name: str, path: str, report: Report) -> bool:
    """Whether the name can be that of any resource; reports what is wrong with it."""
    wrong = names.qualified_name(name)
    report.invalids(path, name, wrong)
    if wrong:
        return False
    known = name in _STANDARD or name.startswith((_HUGE_PAGES, f"requests.{_HUGE_PAGES}"))
    if "/" not in name and not known:
        report.invalid(path, name, "must be a standard resource type or fully qualified")
        return False
    return True


def _quantity(name: str, given: Quantity, path: str, report: Report) -> None:
    amount = _amount(given)
    if amount is None:
        report.invalid(path, given, quantity.FORMAT_ERROR)
        return
    if amount.nanos < 0:
        report.invalid(path, str(amount), "must be greater than or equal to 0")
    if (name in _COUNTED or _is_extended(name)) and amount.milli_value() % 1000:
        report.invalid(path, str(amount), "must be an integer")
    if name.startswith(_HUGE_PAGES) and not _is_whole_pages(amount, name.removeprefix(_HUGE_PAGES)):
        report.invalid(path, str(amount), f"{amount} is not positive integer multiple of {name}")


def _amount(given: Quantity) -> quantity.Amount | None:
    """The amount, or None for what is no quantity: decoding lets none through, but a program can."""
    try:
        return quantity.parse(given)
    except quantity.QuantityError:
        return None


def _is_native(name: str) -> bool:
    return "/" not in name or "kubernetes.io/" in name


def _is_extended(name: str) -> bool:
    return not _is_native(name) and not name.startswith("requests.") and not names.qualified_name(f"requests.{name}")


def _is_whole_pages(amount: quantity.Amount, size: str) -> bool:
    try:
        page = quantity.parse(size)
    except quantity.QuantityError:
        return False
    if page.nanos <= 0 or page.milli_value() % 1000:
        return False
    return amount.value() % page.value() == 0


def _claims(claims: list[ResourceClaim], known: frozenset[str], path: str, report: Report) -> None:
    seen: set[str] = set()
    for index, claim in enumerate(claims):
        place = f"{path}[{index}]"
        if not claim.name:
            report.required(place)
            continue
        if claim.name in seen:
            report.duplicate(place, claim.name)
        else:
            key = claim.name
            if claim.request:
                report.invalids(f"{place}.request", claim.request, names.dns_label(claim.request))
                key += f"/{claim.request}"
            if key in seen or (not claim.request and any(each.partition("/")[0] == key for each in seen)):
                report.duplicate(place, key)
            seen.add(key)
        if claim.name not in known:
            listed = f": {', '.join(sorted(known))}" if known else " which is empty"
            report.not_found(place, claim.name, f"must be one of the names in pod.spec.resourceClaims{listed}")
