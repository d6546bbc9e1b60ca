"""What can go wrong with a CNI network, as sentences that name the network, the plugin and the file."""

from __future__ import annotations

from podlite.cri.errors import NetworkSetupError

# Reserved codes of the specification, section 5, that mean something to a runtime.
TRY_AGAIN_LATER = 11
NOT_AVAILABLE = 50
LIMITED_CONNECTIVITY = 51


class ConfigError(NetworkSetupError):
    """There is no network configuration, or it cannot be used."""


class PluginError(NetworkSetupError):
    """A plugin could not be run, or failed.

    `code` is the one that it gave (0 if it gave none); `stderr` all that it said there, which is in the text too.
    """

    def __init__(self, message: str, *, hint: str = "", code: int = 0, stderr: str = "") -> None:
        said = stderr.strip()
        super().__init__(f"{message} On standard error it said: {said}" if said else message, hint=hint)
        self.code = code
        self.stderr = stderr


class PluginMissingError(PluginError):
    """There is no program of that name in any of the plugin directories."""
