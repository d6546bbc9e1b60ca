"""CRI's errors and gRPC's status codes, one to one."""

from __future__ import annotations

import grpc

from podlite.cri.errors import (
    AlreadyExistsError,
    CRIError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
    UnimplementedError,
)

_CODES: dict[type[CRIError], grpc.StatusCode] = {
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    AlreadyExistsError: grpc.StatusCode.ALREADY_EXISTS,
    InvalidArgumentError: grpc.StatusCode.INVALID_ARGUMENT,
    FailedPreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    DeadlineExceededError: grpc.StatusCode.DEADLINE_EXCEEDED,
    ResourceExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    UnimplementedError: grpc.StatusCode.UNIMPLEMENTED,
}
_ERRORS = {code: error for error, code in _CODES.items()}


def status_code(error: BaseException) -> grpc.StatusCode:
    """The code of an error; UNKNOWN for what has none of its own."""
    for kind in type(error).__mro__:
        if kind in _CODES:
            return _CODES[kind]
    return grpc.StatusCode.UNKNOWN


def no_answer(endpoint: str, details: str) -> UnavailableError:
    """The error for UNAVAILABLE: gRPC's account of the attempt, where it is a common one, in fewer words."""
    if "No such file or directory" in details:
        details = "there is no such socket"
    elif "Connection refused" in details:
        details = "nobody listens on the socket"
    return UnavailableError(f"the runtime at {endpoint} does not answer: {details}")


def cri_error(code: grpc.StatusCode, details: str) -> CRIError:
    """The error that a status stands for."""
    return _ERRORS.get(code, CRIError)(details or f"the runtime answered {code.name} without a reason")
