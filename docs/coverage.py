"""What can be replaced in which of timm's backbones: one model of each of its files, every kind, tried.

`python docs/coverage.py` prints the table; `docs/generate.py` writes it into the page on composition.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import nn

import zoo
from zoo.composition.meta import without_values
from zoo.errors import UnsupportedSurgery

#: The smallest model of each of timm's model files.
BACKBONES = {
    "beit": "beit_base_patch16_224",
    "byoanet": "halonet_h1",
    "byobnet": "test_byobnet",
    "cait": "cait_xxs24_224",
    "coat": "coat_tiny",
    "convit": "convit_tiny",
    "convmixer": "convmixer_768_32",
    "convnext": "test_convnext",
    "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240",
    "csatv2": "csatv2",
    "cspnet": "cs3darknet_focus_s",
    "cspnext": "cspnext_tiny",
    "davit": "davit_tiny",
    "deepseek_vit": "deepseek_vit_412m",
    "deit": "deit_tiny_patch16_224",
    "densenet": "densenet121",
    "dla": "dla46x_c",
    "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small",
    "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0",
    "efficientnet": "test_efficientnet",
    "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "eva": "vit_tiny_patch16_dinov3_qkvb",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny",
    "gemma4_vit": "gemma4_vit_167m",
    "ghostnet": "ghostnet_050",
    "hardcorenas": "hardcorenas_b",
    "hgnet": "hgnetv2_b0",
    "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny",
    "hrnet": "hrnet_w18_small",
    "iformer": "iformer_t",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "lcnetv2": "lcnetv2_small",
    "levit": "levit_128s",
    "lowformer": "lowformer_b0",
    "mambaout": "test_mambaout",
    "maxxvit": "test_coatnet",
    "metaformer": "poolformerv2_s12",
    "mlp_mixer": "gmlp_ti16_224",
    "mobilenetv3": "mobilenetv3_small_050",
    "mobilenetv5": "mobilenetv5_base",
    "mobilevit": "mobilevit_xxs",
    "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_parfac_gap",
    "nasnet": "nasnetalarge",
    "nest": "nest_tiny_jx",
    "nextvit": "nextvit_small",
    "nfnet": "test_nfnet",
    "pit": "pit_ti_224",
    "pnasnet": "pnasnet5large",
    "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m",
    "rdnet": "rdnet_tiny",
    "regnet": "regnetx_002",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m1",
    "res2net": "res2next50",
    "resnest": "resnest14d",
    "resnet": "test_resnet",
    "resnetv2": "resnetv2_18",
    "rexnet": "rexnet_100",
    "selecsls": "selecsls42",
    "senet": "legacy_seresnet18",
    "sequencer": "sequencer2d_s",
    "shvit": "shvit_s1",
    "sknet": "skresnet18",
    "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window16_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224",
    "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_legacy_patch16_224",
    "tresnet": "tresnet_m",
    "twins": "twins_svt_small",
    "vgg": "vgg11",
    "visformer": "visformer_tiny",
    "vision_transformer": "test_vit",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "test_vit_relpos",
    "vision_transformer_sam": "samvit_base_patch16_224",
    "vitamin": "vitamin_small_224",
    "volo": "volo_d1_224",
    "vovnet": "ese_vovnet19b_slim_dw",
    "xception": "legacy_xception",
    "xception_aligned": "xception41p",
    "xcit": "xcit_nano_12_p8_224",
}
#: What makes some of them smaller: recurrent layers take a step after another, without memory too.
ARGUMENTS: dict[str, dict[str, Any]] = {"sequencer2d_s": {"layers": (1, 1, 1, 1)}}
#: What is put in the place of each kind of part.
MODULES = {"head": "kan", "mlp": "kan", "mixer": "attention", "pool": "avg", "act": "silu"}


@dataclass(frozen=True)
class Cell:
    """What came of one module in one backbone.

    Attributes:
        places: how many parts were replaced; 0 if it was refused.
        left: how many parts of the kind stayed as they were.
        refusal: the message, if it was refused.
    """

    places: int
    left: int = 0
    refusal: str = ""


def plain_calls(backbone: str) -> dict[str, int]:
    """How often each module of a backbone is called in one forward."""
    with without_values():
        model = timm.create_model(backbone, num_classes=10, **ARGUMENTS.get(backbone, {}))
        return _run(model.eval())[0]


def try_cell(backbone: str, kind: str, wanted: dict[str, int]) -> Cell:
    """Put the module of a kind into a backbone, on the meta device, and see that it works.

    Args:
        backbone: a name of timm's.
        kind: of the module.
        wanted: `plain_calls` of the backbone.

    Raises:
        AssertionError: it was put there and does not work: another output, a module that is called more or less often
            than the old one, or that no gradient reaches.
    """
    with without_values():
        try:
            arguments = {**ARGUMENTS.get(backbone, {}), kind: MODULES[kind]}
            model = zoo.create_model(backbone, num_classes=10, **arguments).eval()
        except UnsupportedSurgery as error:
            return Cell(0, refusal=str(error))
        composition: Any = model.zoo_composition
        paths = [change.path for change in composition.changes]
        assert paths, f"{backbone}: nothing was replaced"
        got, reached = _run(model, set(paths))
    for path in paths:
        if path in wanted:  # a pool may stand where arithmetic was
            assert got[path] == wanted[path], f"{backbone} {kind}: {path} called {got[path]} times, was {wanted[path]}"
        assert got[path] > 0, f"{backbone} {kind}: {path} is never called"
        assert path in reached, f"{backbone} {kind}: no gradient reaches {path}"
        for name, parameter in model.get_submodule(path).named_parameters():
            assert parameter.grad is not None, f"{backbone} {kind}: no gradient reaches {path}.{name}"
    return Cell(len(paths), len(composition.left))


def _run(model: nn.Module, watched: Collection[str] = ()) -> tuple[dict[str, int], set[str]]:
    """Calls by path, and those of the `watched` paths whose output a gradient reached."""
    calls: dict[str, int] = {}
    reached: set[str] = set()
    # Gradients of what stays are of no concern, and take long.
    model.requires_grad_(False)
    for path in watched:
        model.get_submodule(path).requires_grad_(True)

    def watch(path: str) -> Any:
        def record(module: nn.Module, args: Any, out: Any) -> Any:
            calls[path] = calls.get(path, 0) + 1
            if path not in watched:
                return None
            if not out.requires_grad:  # nothing trains up to here: the gradient begins at it
                out = out.detach().requires_grad_().clone()
            out.register_hook(lambda gradient: reached.add(path))
            return out

        return record

    for path, module in model.named_modules():
        module.register_forward_hook(watch(path))
    with torch.set_grad_enabled(bool(watched)):
        out = model(torch.zeros(2, *zoo.data_config(model)["input_size"]))
        assert tuple(out.shape) == (2, 10), f"{type(model).__name__} gives {tuple(out.shape)}"
        if watched:
            out.sum().backward()
    return calls, reached


def rows(backbones: dict[str, str] | None = None) -> Iterator[tuple[str, str, dict[str, Cell]]]:
    """(file, model, kind -> cell) of every backbone."""
    for file, name in (backbones or BACKBONES).items():
        wanted = plain_calls(name)
        yield file, name, {kind: try_cell(name, kind, wanted) for kind in MODULES}


def table(found: list[tuple[str, str, dict[str, Cell]]]) -> str:
    """The table as Markdown, with the sums below."""
    lines = [f"| timm file | model | {' | '.join(MODULES)} |", f"|---|---|{'---:|' * len(MODULES)}"]
    for file, name, cells in found:
        shown = [f"{c.places}{f' (+{c.left})' if c.left else ''}" if c.places else "–" for c in cells.values()]
        lines.append(f"| {file} | `{name}` | {' | '.join(shown)} |")
    works = [sum(bool(cells[kind].places) for _, _, cells in found) for kind in MODULES]
    lines.append(f"| **works in** | **of {len(found)}** | {' | '.join(f'**{n}**' for n in works)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    chosen = {f: n for f, n in BACKBONES.items() if not sys.argv[1:] or f in sys.argv[1:]}
    print(table(list(rows(chosen))))
