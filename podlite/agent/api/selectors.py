"""Label and field selectors, as list and watch take them. Pure.

Sources: k8s.io/apimachinery/pkg/labels/selector.go and pkg/fields/selector.go; the fields that can be selected by are
those of pkg/apis/core/v1/conversion.go; Kubernetes 1.36.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from podlite.agent.api.errors import bad_request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from podlite.api.base import Object


_KEY = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9.]*[A-Za-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_SPACE = r"\s*"
_SET = re.compile(rf"{_SPACE}({_KEY})\s+(in|notin)\s*\(([^()]*)\){_SPACE}")
_EQUALS = re.compile(rf"{_SPACE}({_KEY}){_SPACE}(==|=|!=){_SPACE}({_VALUE}){_SPACE}")
_ORDER = re.compile(rf"{_SPACE}({_KEY}){_SPACE}([<>]){_SPACE}(-?[0-9]+){_SPACE}")
_EXISTS = re.compile(rf"{_SPACE}(!?){_SPACE}({_KEY}){_SPACE}")
_LONGEST = 8192


def label_selector(text: str) -> Callable[[Mapping[str, str]], bool]:
    """What decides about an object's labels. Raises ApiError for what is no selector."""
    terms = _label_terms(text)
    return lambda labels: all(term(labels) for term in terms)


def _label_terms(text: str) -> list[Callable[[Mapping[str, str]], bool]]:
    if len(text) > _LONGEST:
        raise bad_request(f"the label selector is longer than {_LONGEST} characters")
    terms: list[Callable[[Mapping[str, str]], bool]] = []
    at = 0
    while at < len(text) or terms:
        term, at = _label_term(text, at)
        terms.append(term)
        if at == len(text):
            break
        if text[at] != ",":
            raise bad_request(
                f"unable to parse requirement: found {text[at]!r} at {at} in {text!r}, expected: ',' or end"
            )
        at += 1
    return terms


def _label_term(text: str, at: int) -> tuple[Callable[[Mapping[str, str]], bool], int]:
    if found := _SET.match(text, at):
        key, operator, listed = found.groups()
        values = {each.strip() for each in listed.split(",")}
        if any(re.fullmatch(_VALUE, each) is None for each in values):
            raise bad_request(f"unable to parse requirement: {listed!r} has what is no label value")
        if operator == "in":
            return lambda labels: labels.get(key) in values, found.end()
        return lambda labels: labels.get(key) not in values, found.end()
    if found := _EQUALS.match(text, at):
        key, operator, value = found.groups()
        if operator == "!=":
            return lambda labels: labels.get(key) != value, found.end()
        return lambda labels: labels.get(key) == value, found.end()
    if found := _ORDER.match(text, at):
        key, operator, limit = found.group(1), found.group(2), int(found.group(3))
        return lambda labels: _compares(labels.get(key), operator, limit), found.end()
    if found := _EXISTS.match(text, at):
        absent, key = found.groups()
        return lambda labels: (key in labels) != bool(absent), found.end()
    raise bad_request(f"unable to parse requirement: {text[at:]!r} in {text!r} is no requirement of a label")


def _compares(value: str | None, operator: str, limit: int) -> bool:
    try:
        number = int(value or "")
    except ValueError:
        return False
    return number > limit if operator == ">" else number < limit


# --- fields -----------------------------------------------------------------------------------

_COMMON: dict[str, Callable[[Any], str]] = {
    "metadata.name": lambda each: each.metadata.name,
    "metadata.namespace": lambda each: each.metadata.namespace,
}
FIELDS: dict[str, dict[str, Callable[[Any], str]]] = {
    "pods": {
        **_COMMON,
        "metadata.uid": lambda each: each.metadata.uid,
        "spec.nodeName": lambda each: each.spec.node_name,
        "spec.restartPolicy": lambda each: each.spec.restart_policy,
        "spec.schedulerName": lambda each: each.spec.scheduler_name,
        "spec.serviceAccountName": lambda each: each.spec.service_account_name,
        "spec.hostNetwork": lambda each: str(bool(each.spec.host_network)).lower(),
        "status.phase": lambda each: each.status.phase,
        "status.podIP": lambda each: each.status.pod_ip,
    },
    "events": {
        **_COMMON,
        "involvedObject.kind": lambda each: each.involved_object.kind,
        "involvedObject.namespace": lambda each: each.involved_object.namespace,
        "involvedObject.name": lambda each: each.involved_object.name,
        "involvedObject.uid": lambda each: each.involved_object.uid,
        "involvedObject.apiVersion": lambda each: each.involved_object.api_version,
        "involvedObject.resourceVersion": lambda each: each.involved_object.resource_version,
        "involvedObject.fieldPath": lambda each: each.involved_object.field_path,
        "reason": lambda each: each.reason,
        "reportingComponent": lambda each: each.reporting_component,
        "source": lambda each: each.source.component or each.reporting_component,
        "type": lambda each: each.type,
    },
    "configmaps": {**_COMMON},
    "secrets": {**_COMMON, "type": lambda each: each.type},
}


def field_selector(resource: str, text: str) -> Callable[[Object], bool]:
    """What decides about an object by its fields. Raises ApiError for a field that cannot be selected by."""
    known = FIELDS[resource]
    terms: list[tuple[Callable[[Any], str], bool, str]] = []
    for part in _split(text):
        name, operator, value = _field_term(part, text)
        if name not in known:
            raise bad_request(f"field label not supported: {name}")
        terms.append((known[name], operator != "!=", value))
    return lambda each: all((str(read(each)) == value) == equal for read, equal, value in terms)


def _split(text: str) -> list[str]:
    """At the commas that no backslash stands before."""
    parts, current, escaped = [], "", False
    for letter in text:
        if escaped or letter != ",":
            current += letter
        else:
            parts.append(current)
            current = ""
        escaped = letter == "\\" and not escaped
    return [each for each in (*parts, current) if each]


def _field_term(part: str, text: str) -> tuple[str, str, str]:
    for index in range(len(part)):
        for operator in ("!=", "==", "="):
            if part.startswith(operator, index):
                value = re.sub(r"\\(.)", r"\1", part[index + len(operator) :])
                return part[:index], operator, value
    raise bad_request(f"invalid selector: {text!r}; can't understand {part!r}")
