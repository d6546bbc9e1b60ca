"""Errors as an API server answers them: a v1 Status with the HTTP code and a reason that clients match on.

Source: k8s.io/apimachinery/pkg/api/errors/errors.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api.responses import Status, StatusCause, StatusDetails
from podlite.errors import PodliteError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from podlite.api.problems import Problem

PLURALS = {"Pod": "pods", "ConfigMap": "configmaps", "Secret": "secrets", "Event": "events"}


class ApiError(PodliteError):
    """`status` is the answer."""

    def __init__(self, code: int, reason: str, message: str, details: StatusDetails | None = None) -> None:
        super().__init__(message)
        self.status = Status(status="Failure", message=message, reason=reason, details=details, code=code)

    @property
    def code(self) -> int:
        return self.status.code


def not_found(resource: str, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{resource} "{name}" not found', StatusDetails(name=name, kind=resource))


def already_exists(resource: str, name: str) -> ApiError:
    details = StatusDetails(name=name, kind=resource)
    return ApiError(409, "AlreadyExists", f'{resource} "{name}" already exists', details)


def conflict(resource: str, name: str, why: str) -> ApiError:
    message = f'Operation cannot be fulfilled on {resource} "{name}": {why}'
    return ApiError(409, "Conflict", message, StatusDetails(name=name, kind=resource))


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def forbidden(resource: str, name: str, why: str) -> ApiError:
    details = StatusDetails(name=name, kind=resource)
    return ApiError(403, "Forbidden", f'{resource} "{name}" is forbidden: {why}', details)


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def too_large(limit: int) -> ApiError:
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


def method_not_allowed() -> ApiError:
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def internal(message: str) -> ApiError:
    return ApiError(500, "InternalError", f"Internal error occurred: {message}")


def invalid(kind: str, name: str, problems: Iterable[Problem]) -> ApiError:
    """What validation found, each problem a cause."""
    causes = [StatusCause(reason=each.reason, message=each.message, field=each.path) for each in problems]
    texts = [f"{each.field}: {each.message}" if each.field else each.message for each in causes]
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details = StatusDetails(name=name, kind=kind, causes=causes)
    return ApiError(422, "Invalid", f'{kind} "{name}" is invalid: {text}', details)
