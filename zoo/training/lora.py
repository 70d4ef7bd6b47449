"""LoRA: small matrices beside the linear layers learn, the layers stay (Hu et al., 2021, arXiv:2106.09685)."""

from __future__ import annotations

import copy
import fnmatch
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import MissingExtraError
from zoo.naming import did_you_mean
from zoo.training.freeze import classifier_names

_KEYS = ("r", "alpha", "dropout", "target")
#: What peft puts between a layer's name and its own weights.
_BASE = ".base_layer."


def resolve_lora(given: Any) -> dict[str, Any] | None:
    """`lora` as it is stored: None, or r, alpha, dropout and target.

    Args:
        given: None; the rank; or a mapping with `r`, `alpha` (default 2 r), `dropout` (0) and `target` (None: every
            linear layer outside the classifier, or names and patterns such as "qkv", "mlp.fc1", "blocks.1?.*").

    Raises:
        ValueError: a value out of range, or another key.
    """
    if given is None:
        return None
    spec = dict(given) if isinstance(given, Mapping) else {"r": given}
    for key in spec:
        if key not in _KEYS:
            raise ValueError(f"lora has no option {key!r}{did_you_mean(str(key), _KEYS)}; it has {', '.join(_KEYS)}")
    r = spec.get("r", 8)
    alpha, dropout, target = spec.get("alpha"), spec.get("dropout") or 0.0, spec.get("target")
    alpha = 2 * r if alpha is None else alpha
    whole = isinstance(r, int) and not isinstance(r, bool) and r >= 1
    if not whole:
        raise ValueError(f"lora must be None, a rank from 1 such as 8, or {{'r': 8, 'alpha': 16, …}}, got {given!r}")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not alpha > 0:
        raise ValueError(f"lora: alpha must be a positive number, got {alpha!r}")
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ValueError(f"lora: dropout must be a number from 0 and below 1, got {dropout!r}")
    names = [target] if isinstance(target, str) else target
    if names is not None and (not names or not all(isinstance(n, str) for n in names)):
        raise ValueError(f"lora: target must be None, or names of layers such as ['qkv', 'fc1'], got {target!r}")
    return {"r": r, "alpha": alpha, "dropout": dropout, "target": None if names is None else list(names)}


def merge_lora(model: nn.Module) -> nn.Module:
    """Add the LoRA matrices of a model to its weights and take them away: a plain model, in place.

    The answers stay the same, up to rounding. `zoo.finetune(lora=…)` does this itself at its end; this is for models
    that have been given adapters by peft.

    Args:
        model: with adapters of peft inside, or a `PeftModel`.

    Returns:
        The plain model.

    Raises:
        ValueError: a model without adapters.
        MissingExtraError: without peft.
    """
    layer_type = _peft("zoo.merge_lora").tuners.lora.LoraLayer
    unload: Any = getattr(model, "merge_and_unload", None)
    if unload is not None:
        return unload()
    adapted = [(name, module) for name, module in model.named_modules() if isinstance(module, layer_type)]
    if not adapted:
        raise ValueError(f"{type(model).__name__} has no LoRA adapters: there is nothing to merge")
    for name, module in adapted:
        module.merge()  # type: ignore[operator] - a method of peft's layers
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, module.get_base_layer())  # type: ignore[operator]
    vars(model).pop("peft_config", None)
    return model


class Adapters:
    """The adapters of one run, in a model that is otherwise the caller's.

    What learns: the adapters, the classifier, and layers of ours that are no arrangement of linear layers (a KAN), as
    far as the caller had not frozen them. Everything else is fixed.

    Args:
        model: gets its adapters in place.
        spec: of `resolve_lora`.
        images: (B, C, H, W), on the model's device; the model is called on them once, to see which layers it calls.

    Raises:
        ValueError: no such layer, or none at all that can be adapted.
    """

    def __init__(self, model: nn.Module, spec: Mapping[str, Any], images: Tensor):
        peft = _peft("zoo.finetune(lora=…)")
        self.model, self.layer_type = model, peft.tuners.lora.LoraLayer
        self.before = {name: p.requires_grad for name, p in model.named_parameters()}
        heads = _heads(model)
        called, linear = _called(model, images), _linear_layers(model, heads)
        self.names = _targets(linear, called, spec["target"])
        whole = {n for n in linear if n not in called}
        #: What reads the weights of its linear layers itself cannot be adapted; if it is ours, it learns as a whole.
        ours = [n for n, m in model.named_modules() if type(m).__module__.startswith("zoo.layers.")]
        own = {max((o for o in ours if n.startswith(f"{o}.")), key=len, default="") for n in whole} - {""}
        direct = {
            f"{n}.{p}" for n in ours for p, _ in model.get_submodule(n).named_parameters(recurse=False)
        }  # fmt: skip
        #: The model as it was, for what is saved.
        self.plain = copy.deepcopy(model)
        pattern = f"(?:{'|'.join(map(re.escape, self.names))})"
        config = peft.LoraConfig(
            r=spec["r"], lora_alpha=spec["alpha"], lora_dropout=spec["dropout"], target_modules=pattern, bias="none"
        )
        peft.inject_adapter_in_model(config, model)
        fully = tuple(f"{n}." for n in {*heads, *own})
        for name, parameter in model.named_parameters():
            plain_name = name.replace(_BASE, ".")
            if plain_name in self.before:
                learns = name.startswith(fully) or name in direct
                parameter.requires_grad_(self.before[plain_name] and learns and _BASE not in name)
            else:
                parameter.requires_grad_(True)

    def check_used(self, model: nn.Module) -> None:
        """Refuse adapters that got no gradient, after a backward pass.

        Raises:
            ValueError: naming the layers.
        """
        for name, parameter in model.named_parameters():
            if ".lora_" in name and parameter.requires_grad and parameter.grad is None:
                raise ValueError(
                    f"lora: the model does not call its layer {name.partition('.lora_')[0]!r} in training; leave it "
                    "out of target"
                )

    def merged(self, model: nn.Module) -> nn.Module:
        """The plain model with the weights of `model`, adapters added; the same object each time, on the CPU."""
        state = {n.replace(_BASE, "."): t for n, t in model.state_dict().items() if ".lora_" not in n}
        with torch.no_grad():
            for name, module in model.named_modules():
                if isinstance(module, self.layer_type):
                    delta = module.get_delta_weight("default")  # type: ignore[operator]
                    state[f"{name}.weight"] = state[f"{name}.weight"] + delta
        self.plain.load_state_dict(state)
        return self.plain

    def take_off(self) -> None:
        """Merge the adapters into the model and give `requires_grad` back as the caller had it."""
        if any(isinstance(module, self.layer_type) for module in self.model.modules()):
            merge_lora(self.model)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(self.before[name])


@contextmanager
def lora_adapters(model: nn.Module, spec: Mapping[str, Any] | None, images: Any) -> Iterator[Adapters | None]:
    """Adapters for one run; at the end the model is plain again, whatever happened.

    Args:
        model: gets its adapters in place.
        spec: None for no adapters.
        images: called for some images (B, C, H, W) if they are needed.
    """
    if spec is None:
        yield None
        return
    adapters = Adapters(model, spec, images())
    try:
        yield adapters
    finally:
        adapters.take_off()


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """A short digest of weights, by which a resumed run knows those that are not in its checkpoints."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        digest.update(name.encode())
        value = tensors[name].detach().cpu().contiguous()
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _peft(feature: str) -> Any:
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError(feature, "peft", "lora") from error
    return peft


def _heads(model: nn.Module) -> list[str]:
    try:
        return classifier_names(model)
    except ValueError:
        return []


def _linear_layers(model: nn.Module, heads: list[str]) -> list[str]:
    """Names of the linear layers outside the classifier."""
    inside = tuple(f"{head}." for head in heads)
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name not in heads and not name.startswith(inside)
    ]


@torch.no_grad()
def _called(model: nn.Module, images: Tensor) -> set[str]:
    """Names of the linear layers that the model calls; of others it reads the weights itself."""
    found: set[str] = set()
    modules = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}

    def noting(name: str) -> Any:
        return lambda module, inputs: found.add(name)

    handles = [m.register_forward_pre_hook(noting(name)) for name, m in modules.items()]
    training = [m for m in model.modules() if m.training]
    try:
        model.eval()
        model(images)
    finally:
        for handle in handles:
            handle.remove()
        for module in training:
            module.training = True
    return found


def _targets(linear: list[str], called: set[str], target: list[str] | None) -> list[str]:
    """The layers that get adapters.

    Raises:
        ValueError: a name that is no layer's, one that the model does not call, or nothing to adapt.
    """
    there = _some_layers([n for n in linear if n in called])
    if target is None:
        names = [n for n in linear if n in called]
        if not names:
            raise ValueError(
                "lora needs linear layers outside the classifier that the model calls, and there are none; use "
                "freeze='backbone' or layer_decay for such a model"
            )
        return names
    names = []
    for one in target:
        hits = [n for n in linear if fnmatch.fnmatch(n, one) or n.endswith(f".{one}")]
        if not hits:
            near = did_you_mean(one, [*{n.rpartition(".")[2] for n in linear}, *linear])
            raise ValueError(f"lora: target {one!r} matches no linear layer{near}. The model has {there}")
        silent = [n for n in hits if n not in called]
        if silent:
            raise ValueError(
                f"lora: the model reads the weights of {silent[0]!r} itself, so that an adapter there (target {one!r}) "
                f"would do nothing. It calls {there}"
            )
        names += hits
    return list(dict.fromkeys(names))


def _some_layers(names: list[str]) -> str:
    """`attn.qkv (12), mlp.fc1 (12)`: names without what differs from block to block."""
    counts = Counter(re.sub(r"^.*\.\d+\.", "", name) for name in names)
    return ", ".join(f"{name} ({count})" for name, count in counts.items()) or "no linear layers outside the classifier"
