"""zoo: the model zoo for layers that have a paper but no library.

`import zoo` is cheap: torch, timm and the Hub client are imported when first needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zoo._version import __version__
from zoo.models.timm_hook import install as _install_timm_hook

if TYPE_CHECKING:
    from zoo import explain, karyotype, layers, quantum, registry, testing, weights
    from zoo import tabular as tabular  # not in __all__: it needs scikit-learn
    from zoo.composition.naming import register_spec
    from zoo.composition.summary import summary
    from zoo.errors import ZooError
    from zoo.explain.pareto import pareto, plot_pareto
    from zoo.exporting import export
    from zoo.factory import compose, create_model, create_module
    from zoo.models.data_config import data_config, set_data_config
    from zoo.models.stitching.anchors import AnchorSpec
    from zoo.models.stitching.exporting import recalibrate_bn
    from zoo.models.stitching.profile import profile_stitches
    from zoo.models.super_resolution.pcsr import PCSR
    from zoo.publish import from_pretrained, push_to_hub, save_pretrained
    from zoo.registry import (
        is_model,
        list_models,
        list_modules,
        list_pretrained,
        module_info,
        register_model,
        register_module,
    )
    from zoo.serving import app
    from zoo.stitching import stitch
    from zoo.training import compare, evaluate, finetune, predict
    from zoo.training.lora import merge_lora
    from zoo.training.reporting import report
    from zoo.training.stitches import evaluate_stitches
    from zoo.upscaling import upscale, upscale_files
    from zoo.verifying import verify
    from zoo.weights import load_weights

_HOME = {
    "AnchorSpec": "zoo.models.stitching.anchors",
    "PCSR": "zoo.models.super_resolution.pcsr",
    "ZooError": "zoo.errors",
    "app": "zoo.serving",
    "compare": "zoo.training",
    "compose": "zoo.factory",
    "create_model": "zoo.factory",
    "create_module": "zoo.factory",
    "data_config": "zoo.models.data_config",
    "evaluate": "zoo.training",
    "evaluate_stitches": "zoo.training.stitches",
    "export": "zoo.exporting",
    "finetune": "zoo.training",
    "from_pretrained": "zoo.publish",
    "is_model": "zoo.registry",
    "list_models": "zoo.registry",
    "list_modules": "zoo.registry",
    "list_pretrained": "zoo.registry",
    "load_weights": "zoo.weights",
    "merge_lora": "zoo.training.lora",
    "module_info": "zoo.registry",
    "pareto": "zoo.explain.pareto",
    "plot_pareto": "zoo.explain.pareto",
    "predict": "zoo.training",
    "profile_stitches": "zoo.models.stitching.profile",
    "push_to_hub": "zoo.publish",
    "recalibrate_bn": "zoo.models.stitching.exporting",
    "register_model": "zoo.registry",
    "register_module": "zoo.registry",
    "register_spec": "zoo.composition.naming",
    "report": "zoo.training.reporting",
    "save_pretrained": "zoo.publish",
    "set_data_config": "zoo.models.data_config",
    "stitch": "zoo.stitching",
    "summary": "zoo.composition.summary",
    "upscale": "zoo.upscaling",
    "upscale_files": "zoo.upscaling",
    "verify": "zoo.verifying",
}
_SUBMODULES = ("errors", "explain", "karyotype", "layers", "quantum", "registry", "tabular", "testing", "weights")

__all__ = [
    "PCSR",
    "AnchorSpec",
    "ZooError",
    "__version__",
    "app",
    "compare",
    "compose",
    "create_model",
    "create_module",
    "data_config",
    "evaluate",
    "evaluate_stitches",
    "explain",
    "export",
    "finetune",
    "from_pretrained",
    "is_model",
    "karyotype",
    "layers",
    "list_models",
    "list_modules",
    "list_pretrained",
    "load_weights",
    "merge_lora",
    "module_info",
    "pareto",
    "plot_pareto",
    "predict",
    "profile_stitches",
    "push_to_hub",
    "quantum",
    "recalibrate_bn",
    "register_model",
    "register_module",
    "register_spec",
    "registry",
    "report",
    "save_pretrained",
    "set_data_config",
    "stitch",
    "summary",
    "testing",
    "upscale",
    "upscale_files",
    "verify",
    "weights",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"zoo.{name}")
    from zoo.naming import did_you_mean

    raise AttributeError(f"module 'zoo' has no attribute {name!r}{did_you_mean(name, __all__)}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_SUBMODULES])


_install_timm_hook()
