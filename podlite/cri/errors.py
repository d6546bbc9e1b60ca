"""The errors that a CRI call ends in, named as gRPC's status codes are; the wire maps them one to one."""

from __future__ import annotations

from podlite.errors import PodliteError


class CRIError(PodliteError):
    """The base; by itself it stands for UNKNOWN, which is what a failed container start answers."""


class NotFoundError(CRIError):
    """NOT_FOUND: there is no such sandbox, container or image."""


class AlreadyExistsError(CRIError):
    """ALREADY_EXISTS: the metadata's name is taken."""


class InvalidArgumentError(CRIError):
    """INVALID_ARGUMENT: the request contradicts itself or names what cannot be."""


class FailedPreconditionError(CRIError):
    """FAILED_PRECONDITION: the object is not in a state in which this can be done."""


class DeadlineExceededError(CRIError):
    """DEADLINE_EXCEEDED: the time that the caller gave is over."""


class ResourceExhaustedError(CRIError):
    """RESOURCE_EXHAUSTED: a limit is reached; the same call may work later."""


class UnavailableError(CRIError):
    """UNAVAILABLE: the runtime cannot serve now; the same call may work later."""


class UnimplementedError(CRIError):
    """UNIMPLEMENTED: this runtime does not have the call."""


class NetworkSetupError(CRIError):
    """UNKNOWN: setupPodNetwork failed; nothing of it is left."""


class ImageError(CRIError):
    """UNKNOWN: the image cannot be had. `reason` is the kubelet's: ErrImagePull, InvalidImageName …"""

    def __init__(self, message: str, *, reason: str = "ErrImagePull", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class ImageNotFoundError(ImageError, NotFoundError):
    """NOT_FOUND: no registry that was asked has the image."""


class StartError(CRIError):
    """UNKNOWN: the container's process could not be started.

    `exit_code` is a shell's answer to the same: 127 command not found, 126 cannot be invoked, 125 podlite
    or the machine could not do it. The container's status says 128, reason StartError, as containerd's does.
    """

    def __init__(self, message: str, *, exit_code: int = 125, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code
