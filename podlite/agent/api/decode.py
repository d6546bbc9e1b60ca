"""Objects that a request brings, in JSON or YAML: decoded, defaulted and validated as manifests are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from podlite.agent.api.errors import ApiError, bad_request, invalid
from podlite.api.manifest import load_manifests
from podlite.api.problems import ManifestError
from podlite.api.yaml_source import MAPPING, load

if TYPE_CHECKING:
    from starlette.requests import Request


_VALIDATION = {"Ignore": "ignore", "Warn": "warn", "Strict": "strict"}


def read_object(request: Request, body: bytes, kind: str) -> tuple[Any, list[str]]:
    """(the one object of `kind` in the body, in the request's namespace, warnings). Raises ApiError."""
    wanted = request.path_params.get("namespace", "default")
    roots, problems = load(body, "request")
    if problems or len(roots) != 1 or roots[0].kind != MAPPING:
        why = str(problems[0]) if problems else "it is not one object"
        raise bad_request(f"the body of the request cannot be read: {why}")
    given = _text(roots[0], "kind")
    if given != kind:
        version = _text(roots[0], "apiVersion")
        raise bad_request(f"{given or 'an object without a kind'} in version {version!r} cannot be handled as a {kind}")
    validate = request.query_params.get("fieldValidation", "Strict")
    if validate not in _VALIDATION:
        raise bad_request(f"fieldValidation: {validate!r} is not one of {', '.join(_VALIDATION)}")
    try:
        found = load_manifests([("request", body)], validate=_VALIDATION[validate])
    except ManifestError as error:
        raise _invalid(kind, roots[0], error) from None
    value: Any = [*found.pods, *found.config_maps, *found.secrets][0]
    namespace = _metadata(roots[0], "namespace")
    if namespace and namespace != wanted:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    value.metadata.namespace = wanted
    return value, found.warnings


def _invalid(kind: str, root: Any, error: ManifestError) -> ApiError:
    return invalid(kind, _metadata(root, "name"), error.problems)


def _text(node: Any, key: str) -> str:
    found = node.get(key) if node is not None and node.kind == MAPPING else None
    return found.value if found is not None and isinstance(found.value, str) else ""


def _metadata(root: Any, key: str) -> str:
    return _text(root.get("metadata"), key)


class DeleteOptions(msgspec.Struct, rename="camel"):
    """Of metav1.DeleteOptions what is acted upon."""

    grace_period_seconds: int | None = None
    preconditions: dict[str, str] = {}
    dry_run: list[str] = []


def read_delete_options(request: Request, body: bytes) -> DeleteOptions:
    """From the body, or the parameters. Raises ApiError."""
    options = DeleteOptions()
    if body.strip():
        try:
            options = msgspec.json.decode(body, type=DeleteOptions)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise bad_request(f"the options of the deletion cannot be read: {error}") from None
    grace = request.query_params.get("gracePeriodSeconds", "")
    if grace:
        try:
            options.grace_period_seconds = int(grace)
        except ValueError:
            raise bad_request(f"gracePeriodSeconds: {grace!r} is not a number") from None
    if options.grace_period_seconds is not None and not 0 <= options.grace_period_seconds < 2**31:
        raise bad_request("gracePeriodSeconds: must be a number of seconds, 0 or more")
    if request.query_params.getlist("dryRun"):
        options.dry_run = request.query_params.getlist("dryRun")
    return options


def is_dry_run(request: Request) -> bool:
    """dryRun=All: everything is checked, nothing is done."""
    return "All" in request.query_params.getlist("dryRun")
