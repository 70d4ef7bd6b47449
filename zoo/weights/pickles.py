"""Pickled checkpoints: tensors and plain containers are built out of them, whatever else they hold."""

from __future__ import annotations

import argparse
import pickle
import sys
import warnings
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from zoo.errors import CorruptFileError, PickleRefusedError

_SHOWN = 5
#: Modules of the standard library; a pickle has those of Python 3 by their names of Python 2.
_STANDARD = {*sys.stdlib_module_names, *IMPORT_MAPPING, *(module for module, _ in NAME_MAPPING)}


class _Inert:
    """Stands in for a class of a pickle: what is made of it is a plain mapping of what the pickle puts into it."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return OrderedDict()


def load_pickle(path: Path, origin: str) -> Any:
    """What a file of `torch.save` holds, read by `torch.load(weights_only=True)`.

    Training scripts lay their settings beside the weights, as objects of classes of their own. Those classes are
    neither looked up nor imported: mappings stand in for them, with a warning. A file that asks for the standard
    library, of which nothing but a `Namespace` belongs into a checkpoint, is refused.

    Args:
        path: the file.
        origin: what it is called in messages.

    Raises:
        PickleRefusedError: it holds what is neither a tensor, nor a plain value, nor such settings.
        CorruptFileError: it cannot be read.
    """
    others = _other_classes(path)
    # timm's own training checkpoints hold their arguments as a Namespace.
    known = [argparse.Namespace, *((_Inert, name) for name in others)]
    try:
        with torch.serialization.safe_globals(known):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(origin, str(error).splitlines()[0]) from error
    except (EOFError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        if others:
            raise _refused(origin, f"objects of {_listed(others)} cannot be read as plain values") from error
        raise CorruptFileError(
            f"{origin} ({path.stat().st_size:,} bytes) cannot be read by torch.load: {error}"
        ) from error
    if not others:
        return found
    if isinstance(found, Mapping):
        # What is empty without its class, such as a whole module, must not be taken for weights.
        found = {key: value for key, value in found.items() if not isinstance(value, Mapping) or value}
    if not found:
        raise _refused(origin, f"it is made of objects of {_listed(others)}")
    warnings.warn(f"{origin}: read as plain values, without their classes: {_listed(others)}", stacklevel=3)
    return found


def _other_classes(path: Path) -> list[str]:
    """Names that a file asks for and torch does not know, none of the standard library's; of other formats none."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError):
        return []  # a pickle of another kind, or none: torch.load speaks more clearly
    return sorted(name for name in names if name.partition(".")[0] not in _STANDARD)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _refused(origin: str, why: str) -> PickleRefusedError:
    return PickleRefusedError(
        f"{origin} holds more than tensors and plain values, which torch.load(weights_only=True) refuses: {why}. Open "
        "it where its code is installed, if you trust it, and save the state dict alone"
    )
