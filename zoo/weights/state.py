"""State dicts as they are found: containers opened, wrapper prefixes removed, keys renamed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from zoo.errors import WeightsError

_EMA_KEYS = ("state_dict_ema", "model_ema")
_PLAIN_KEYS = ("state_dict", "model")
_BESIDE_ARGS = "sd"  # some keep a model as its name, its arguments and its state dict
_PREFIXES = ("_orig_mod.", "module.", "_orig_mod.")  # torch.compile around DDP around torch.compile, any of them

Rename = Iterable[tuple[str, str]]


def unwrap(checkpoint: Any, origin: str, *, use_ema: bool = True) -> dict[str, Tensor]:
    """The state dict inside a training checkpoint.

    Looks for `state_dict_ema`, `model_ema` (when `use_ema`), `state_dict`, `model`, in this order, and in what it finds
    for `sd`; a dict without them is the state dict itself. Prefixes that DistributedDataParallel and `torch.compile`
    put before every name are removed.

    Raises:
        WeightsError: it is not a dict of tensors, or two names become one.
    """
    if not isinstance(checkpoint, Mapping):
        raise WeightsError(f"{origin} holds a {type(checkpoint).__name__}, not a state dict (a dict of tensors)")
    inner: Any = checkpoint
    for key in (*(_EMA_KEYS if use_ema else ()), *_PLAIN_KEYS):
        if isinstance(checkpoint.get(key), Mapping):
            inner = checkpoint[key]
            break
    if isinstance(inner.get(_BESIDE_ARGS), Mapping):
        inner = inner[_BESIDE_ARGS]
    others = {str(k): type(v).__name__ for k, v in inner.items() if not isinstance(v, Tensor)}
    if others:
        listed = ", ".join(f"{k!r} ({v})" for k, v in list(others.items())[:5])
        raise WeightsError(
            f"{origin} is not a state dict: {len(others)} of its {len(inner)} entries are no tensors: {listed}; "
            f"pass the dict of tensors that it contains"
        )
    return _collect(((strip_prefixes(str(name)), tensor) for name, tensor in inner.items()), origin)


def strip_prefixes(name: str) -> str:
    """A parameter's name without the prefixes of DistributedDataParallel and `torch.compile`."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def rename_keys(tensors: Mapping[str, Tensor], rules: Rename, origin: str) -> dict[str, Tensor]:
    """Apply ordered (regular expression, replacement) pairs to every name.

    Raises:
        WeightsError: two names become one.
        ValueError: a rule is not a pair of texts, or not a regular expression.
    """
    compiled = []
    for rule in rules:
        try:
            pattern, replacement = rule
            compiled.append((re.compile(pattern), replacement))
        except (TypeError, ValueError, re.error) as error:
            raise ValueError(f"rename takes (regular expression, replacement) pairs, got {rule!r}: {error}") from error

    def renamed(name: str) -> str:
        for pattern, replacement in compiled:
            name = pattern.sub(replacement, name)
        return name

    return _collect(((renamed(name), tensor) for name, tensor in tensors.items()), origin)


def _collect(pairs: Iterable[tuple[str, Tensor]], origin: str) -> dict[str, Tensor]:
    result: dict[str, Tensor] = {}
    for name, tensor in pairs:
        if name in result:
            raise WeightsError(f"two tensors of {origin} would both be named {name!r}")
        result[name] = tensor
    return result
