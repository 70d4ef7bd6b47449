"""Writes our model entries into timm's registry, so that `timm.create_model("medvit2_kan_tiny")` works."""

from __future__ import annotations

import sys
import warnings
from types import ModuleType
from typing import Any

from timm.models import generate_default_cfgs, get_pretrained_cfg, is_model, model_entrypoint, register_model
from torch import nn

from zoo.errors import RegistrationError
from zoo.models.build import build_model
from zoo.models.stitching.images import image_cfg
from zoo.registry import Entry, WeightsEntry, default_registry

# timm files a model under the last part of its function's module path; ours are filed under their family, in modules
# of this prefix, which name no file.
_PREFIX = "zoo.timm_models"
#: Fields of timm's `pretrained_cfg` that a backbone decides, whatever its weights.
OF_THE_IMAGE = (
    "input_size",
    "test_input_size",
    "min_input_size",
    "fixed_input_size",
    "pool_size",
    "test_pool_size",
    "interpolation",
    "crop_pct",
    "test_crop_pct",
    "crop_mode",
    "mean",
    "std",
    "num_classes",
    "first_conv",
    "classifier",
)


def pretrained_cfg(entry: Entry, weights: WeightsEntry | None = None) -> dict[str, Any]:
    """Fields of timm's `pretrained_cfg` for an entry, and for one of its checkpoints when given."""
    cfg: dict[str, Any] = {**_base_cfg(entry), **entry.family.cfg, **entry.cfg}
    if entry.input_size:
        cfg["input_size"] = tuple(entry.input_size)
    if entry.family.arxiv:
        cfg["paper_ids"] = f"arXiv:{entry.family.arxiv}"
        cfg["paper_name"] = entry.family.paper
    if weights is not None:
        cfg |= {
            "file": str(weights.path) if weights.path else None,
            "hf_hub_id": (f"{weights.repo}@{weights.revision}" if weights.revision else weights.repo) or None,
            "num_classes": cfg.get("num_classes") if weights.num_classes is None else weights.num_classes,
            "label_names": list(weights.label_names) or None,
            "license": weights.licence or None,
            **weights.cfg,
        }
    # TOML has lists, timm compares tuples.
    return {k: tuple(v) if isinstance(v, list) and k != "label_names" else v for k, v in cfg.items() if v is not None}


def _base_cfg(entry: Entry) -> dict[str, Any]:
    """A composition sees images as its base does, a stitched network as its anchors do; its weights are its own."""
    if anchors := entry.args.get("anchors"):
        return image_cfg(anchors)
    base = entry.args.get("base")
    if not isinstance(base, str):
        return {}
    if default_registry().is_model(base):
        return pretrained_cfg(default_registry().model(base))
    found = get_pretrained_cfg(base) if is_model(base) else None
    return {k: v for k, v in found.to_dict().items() if k in OF_THE_IMAGE} if found is not None else {}


def _register(name: str, entry: Entry, override: bool) -> None:
    module_name = f"{_PREFIX}.{entry.family.name}"
    if is_model(name) and not override:
        if model_entrypoint(name).__module__.startswith(_PREFIX):
            return
        raise RegistrationError(
            f"timm already has a model named {name!r}; register yours under another name, or pass override=True"
        )

    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return build_model(entry, pretrained, **kwargs)

    create.__name__ = create.__qualname__ = name
    create.__module__ = module_name
    create.__doc__ = entry.summary
    registry = default_registry()
    rows = [row for tag in registry.tags(entry.name) if (row := registry.weights(f"{entry.name}.{tag}"))]
    cfgs = {f"{name}.{row.tag}{'*' if i == 0 else ''}": pretrained_cfg(entry, row) for i, row in enumerate(rows)}
    # timm looks the function's module up to find `default_cfgs`; it needs no more of it than this.
    home = ModuleType(module_name)
    home.default_cfgs = generate_default_cfgs(cfgs or {name: pretrained_cfg(entry)})  # type: ignore[attr-defined]
    sys.modules[module_name] = home
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=f"Overwriting {name} in registry")  # asked for by `override`
            register_model(create)
    finally:
        del sys.modules[module_name]


def mirror(entry: Entry, override: bool = False) -> None:
    """Register one model entry (and its aliases) in timm; what is no model is left alone.

    Raises:
        RegistrationError: timm has a model of that name that is not ours, and `override` is false.
    """
    if entry.kind == "model":
        for name in (entry.name, *entry.aliases):
            _register(name, entry, override)


def mirror_all() -> None:
    """Register every model entry in timm, and those that the program adds later."""
    registry = default_registry()
    for entry in registry.models:
        try:
            mirror(entry)
        except RegistrationError as error:
            # Registered before timm was there to refuse it: `import timm` must not fail for that.
            warnings.warn(str(error), stacklevel=2)
    registry.add_listener(mirror)
