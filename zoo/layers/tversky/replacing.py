"""Tversky projections in place of the linear layers of a model."""

import fnmatch
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from zoo.layers.tversky.projection import TverskyProjection
from zoo.naming import did_you_mean


def replace_linear(
    model: nn.Module, names: str | Iterable[str], num_features: int, *, share_bank: bool = False, **options: Any
) -> list[str]:
    """Put a `TverskyProjection` of the same sizes in place of linear layers, in the model itself.

    The new layers start untrained; they keep the device, the dtype and the training mode of the old ones. A layer
    that the model has under several names stays one layer. Biases have no successor. A weight that another module
    has, too, such as an embedding, stays with that one, with a warning: `prototypes=` shares it with the new layer.

    Args:
        model: changed in place.
        names: dotted names of `nn.Linear` layers (or transformers' `Conv1D`), or patterns such as "blocks.*.mlp.fc1";
            of what a pattern matches, the linear layers are replaced.
        num_features: of each bank.
        share_bank: one feature bank for all new layers of the same width, the first of them being its owner.
        options: for `TverskyProjection`.

    Returns:
        The names of what was replaced, in the order of the model.

    Raises:
        ValueError: a name that is no linear layer's, a pattern that matches none; nothing is changed then.
    """
    if share_bank and "feature_bank" in options:
        raise ValueError("share_bank=True makes the banks that are shared; give it or feature_bank, not both")
    chosen = _linear_layers(model, [names] if isinstance(names, str) else list(names))
    if "prototypes" not in options:
        _warn_of_ties(model, chosen)
    made: dict[int, TverskyProjection] = {}
    owners: dict[tuple[int, torch.dtype, torch.device], TverskyProjection] = {}
    for old in chosen.values():
        if id(old) in made:
            continue
        weight = old.weight
        assert isinstance(weight, torch.Tensor)
        sizes = _sizes(old)
        kind = (sizes[0], weight.dtype, weight.device)
        sharing = {"feature_bank": owners[kind]} if share_bank and kind in owners else {}
        place = {"device": weight.device, "dtype": weight.dtype}
        layer = TverskyProjection(*sizes, num_features, **{**place, **options, **sharing})
        owners.setdefault(kind, layer)
        made[id(old)] = layer.train(old.training)
    for name, old in chosen.items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, made[id(old)])
    _switch_off_shortcuts(model)
    return list(chosen)


def _linear_layers(model: nn.Module, patterns: list[str]) -> dict[str, nn.Module]:
    """The linear layers that the patterns name, and what else these layers are called, in the order of the model."""
    modules = dict(model.named_modules(remove_duplicate=False))
    if _is_linear(model):
        raise ValueError("the model is itself a linear layer, which cannot be replaced in place; put it into another")
    linear = {name: module for name, module in modules.items() if _is_linear(module)}
    wanted: set[int] = set()
    for pattern in patterns:
        hits = fnmatch.filter(linear, pattern)
        if not hits and pattern in modules:
            raise ValueError(f"{pattern!r} is {_what(modules[pattern])}, no linear layer that can be replaced")
        if not hits:
            hint = did_you_mean(pattern, linear) or _there(list(linear))
            raise ValueError(f"{pattern!r} names no linear layer of the model{hint}")
        wanted |= {id(linear[name]) for name in hits}
    return {name: module for name, module in linear.items() if id(module) in wanted}


def _warn_of_ties(model: nn.Module, chosen: dict[str, nn.Module]) -> None:
    for name, old in chosen.items():
        also = [n for n, m in model.named_modules() if m is not old and getattr(m, "weight", None) is old.weight]
        also = [n for n in also if n not in chosen]
        if also:
            warnings.warn(
                f"{name} shares its weight with {', '.join(also)}, and its successor does not: it has prototypes of "
                f"its own; prototypes=model.{also[0]} ties them",
                stacklevel=3,
            )


def _switch_off_shortcuts(model: nn.Module) -> None:
    """torch's encoders have shortcuts for inference that read the weights of linear layers by their names."""
    for module in model.modules():
        layers = module.layers if isinstance(module, nn.TransformerEncoder) else [module]
        for layer in layers:
            parts = (layer.linear1, layer.linear2) if isinstance(layer, nn.TransformerEncoderLayer) else ()
            if any(isinstance(part, TverskyProjection) for part in parts):
                layer.activation_relu_or_gelu = 0  # pyright: ignore[reportArgumentType]
                if isinstance(module, nn.TransformerEncoder):
                    module.use_nested_tensor = False


def _is_linear(module: nn.Module) -> bool:
    if type(module).__name__ == "Conv1D" and type(module).__module__.startswith("transformers."):
        return True
    return isinstance(module, nn.Linear) and not isinstance(module, NonDynamicallyQuantizableLinear)


def _sizes(module: nn.Module) -> tuple[int, int]:
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    weight: Any = module.weight
    return tuple(weight.shape)  # Conv1D's weight is (in, out)


def _what(module: nn.Module) -> str:
    if isinstance(module, NonDynamicallyQuantizableLinear):
        return "the output layer of an nn.MultiheadAttention, which reads its weight without calling it"
    return f"a {type(module).__name__}"


def _there(names: list[str]) -> str:
    if not names:
        return "; it has none"
    more = f", … ({len(names)})" if len(names) > 8 else ""
    return f"; it has {', '.join(names[:8])}{more}"
