"""Why a registry did not give what it was asked for, and the one sentence that is made of several reasons."""

from __future__ import annotations

from podlite.cri.errors import ImageError, ImageNotFoundError

# The reason of k8s.io/cri-api/pkg/errors; the kubelet knows it by its being the beginning of the message.
REGISTRY_UNAVAILABLE = "RegistryUnavailable"


class RegistryFailure(Exception):
    """One attempt that failed at one host. `transient` ones are worth another try, after `retry_after` seconds if the
    server said so; `unavailable` means that no answer of a registry came at all, `not_found` that it has it not."""

    def __init__(
        self,
        message: str,
        *,
        transient: bool = False,
        unavailable: bool = False,
        not_found: bool = False,
        retry_after: float | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.transient = transient
        self.unavailable = unavailable
        self.not_found = not_found
        self.retry_after = retry_after
        self.hint = hint


def pull_error(doing: str, failures: list[RegistryFailure]) -> ImageError:
    """The error for `doing` ("image x cannot be pulled"), which failed at each host for its own reason."""
    texts = list(dict.fromkeys(failure.message for failure in failures))
    hint = next((failure.hint for failure in reversed(failures) if failure.hint), "")
    unavailable = bool(failures) and all(failure.unavailable for failure in failures)
    reason = REGISTRY_UNAVAILABLE if unavailable else "ErrImagePull"
    not_found = bool(failures) and all(failure.not_found for failure in failures)
    kind = ImageNotFoundError if not_found else ImageError
    return kind(f"{doing}: {'; '.join(texts)}", reason=reason, hint=hint)
