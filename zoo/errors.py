"""Every error that the zoo raises on purpose.

All derive from `ZooError`; each also derives from the built-in (or timm-compatible) type that a caller of timm,
torch or the Hub client would already be catching.
"""

from __future__ import annotations


class ZooError(Exception):
    """Base of all deliberate errors of this package."""

    def __str__(self) -> str:
        # KeyError prints the repr of its argument; messages here are sentences.
        return str(self.args[0]) if self.args else ""


class UnknownModelError(ZooError, RuntimeError, KeyError, ValueError):
    """A model name, tag or scheme that nothing is registered under."""


class UnknownModuleError(ZooError, KeyError):
    """A module name that nothing is registered under."""


class RegistrationError(ZooError, ValueError):
    """A registration that would replace something, or an entry that cannot be used."""


class UnsupportedSurgery(ZooError, ValueError):  # noqa: N818 - the name users see in the docs
    """A module that cannot be put into this backbone."""


class ConfigError(ZooError, ValueError):
    """A config.json that cannot be read or does not describe a model."""


class DataError(ZooError, ValueError):
    """A data set that cannot be used as given."""


class WeightsError(ZooError, RuntimeError):
    """A checkpoint that cannot be used."""


class MissingFileError(WeightsError, FileNotFoundError):
    """A folder of a model that is not there, or that lacks its config.json or its weights."""


class CorruptFileError(WeightsError, ValueError):
    """A weights file whose bytes are not what its header or size promises."""


class ChecksumError(CorruptFileError):
    """A file whose SHA-256 differs from the recorded one."""


class NonFiniteWeightsError(WeightsError, ValueError):
    """A checkpoint with NaN or infinite values."""


class PickleRefusedError(WeightsError):
    """A pickle file where only safetensors is read."""


class ConversionError(WeightsError, ValueError):
    """An official checkpoint with keys that have no place in our layout."""


class MismatchError(WeightsError):
    """Tensors that are missing, unexpected or of another shape than the model's."""


class ExportError(ZooError, RuntimeError):
    """A model that cannot be written in another format, or a file that computes something else."""


class HubError(ZooError, OSError):
    """Something that went wrong between here and the Hub."""


class RepoNotFoundError(HubError):
    """No such repository, or it is private and the token cannot see it."""


class RevisionNotFoundError(HubError):
    """No such branch, tag or commit."""


class FileNotInRepoError(HubError):
    """The repository has no such file."""


class AccessDeniedError(HubError):
    """Gated repository, bad token, or a token without the right."""


class HubUnavailableError(HubError):
    """The Hub did not answer and the cache cannot serve the request."""


class TrainingError(ZooError, RuntimeError):
    """Training that cannot go on."""


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite."""


class OutOfMemoryError(TrainingError):
    """The device ran out of memory; the message lists remedies."""


class DiskFullError(TrainingError):
    """No space for what a run writes; what was there before is still there."""


class CircuitTooLarge(ZooError, MemoryError):  # noqa: N818 - the name users see in the docs
    """A simulated circuit that needs more memory than there is; the message names other ways to run it."""


class PostSelectionError(ZooError, ArithmeticError):
    """A post-selection on an outcome that never occurs."""


class UnknownStitchError(ZooError, KeyError, ValueError):
    """A network that a stitched network does not hold; the message says which there are."""


class BudgetError(ZooError, ValueError):
    """A budget that no network of a stitched network keeps to; the message names the cheapest."""


class MissingExtraError(ZooError, ImportError):
    """A feature whose optional packages are not installed."""

    def __init__(self, feature: str, package: str, extra: str):
        super().__init__(f"{feature} needs the package {package!r}; install it with: pip install 'zoo-layers[{extra}]'")
        self.feature, self.package, self.extra = feature, package, extra
