"""Official checkpoints of PCSR and of the networks that it is built on, in our layout.

The names are the same: `encoder.…`, `heavy_sampler.…`, `light_sampler.…` and `classifier.…`; of an original network its
own. A file of the first of the two phases of training has no light network and no classifier; these are drawn anew, of
the published widths, so that the second phase can be trained.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import ConversionError

_MLP = r"(light_sampler|heavy_sampler|classifier|samplers\.\d+)\.imnet\.layers\.\d+\.(weight|bias)"
_NETWORK = (
    r"(head_conv|body_conv|tail_conv|entry|exit|b[123]|c[123]|upsample|conv_first|recon_trunk|upconv[12]|HRconv|conv_last)"
    r"\..*"
)
_KNOWN = re.compile(rf"{_MLP}|(encoder\.)?{_NETWORK}")
_HEAD = re.compile(r"(light_sampler|heavy_sampler|classifier|samplers\.\d+)\.imnet\.layers\.(\d+)\.weight")
_FIRST = re.compile(r"(encoder\.)?(head_conv\.0|entry|conv_first)\.weight")
#: Hidden layers of the heavy network -> those of the light one and of the classifier, as published.
_PUBLISHED = {
    (58,) * 4: ((10,) * 3, ()),
    (74,) * 4: ((20,) * 3, (10, 10)),
    (170,) * 4: ((40,) * 3, (20, 20)),
}
_SHOWN = 10


def convert_official(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Map a state dict of the released code to ours.

    Args:
        state: official names; of `{"model": {"name", "args", "sd"}}` the `sd`.

    Returns:
        The new state dict, and notes for people, a line each.

    Raises:
        ConversionError: names that belong to none of these; at most ten are listed.
    """
    strange = [key for key in state if not _KNOWN.fullmatch(key)]
    if strange:
        more = f" and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
        raise ConversionError(
            f"{len(strange)} of {len(state)} names are not PCSR's, FSRCNN's, CARN's or SRResNet's: "
            f"{', '.join(strange[:_SHOWN])}{more}; is this a checkpoint of another model?"
        )
    new = {**state, **_counters(state)}
    hidden = hidden_layers(new)
    if "heavy_sampler" not in hidden or "light_sampler" in hidden:
        return new, []
    return _with_light(new, hidden["heavy_sampler"])


def _counters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Batch norm's counters of batches, which some savers leave out, and which nothing is computed with here."""
    names = (key.removesuffix("running_mean") + "num_batches_tracked" for key in state if key.endswith("running_mean"))
    return {name: torch.tensor(0) for name in names if name not in state}


def hidden_layers(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Widths of the hidden layers of each network of pixels and of the classifier in a state dict."""
    found: dict[str, dict[int, int]] = {}
    for key, value in state.items():
        match = _HEAD.fullmatch(key)
        if match is not None:
            found.setdefault(match[1], {})[int(match[2])] = value.shape[0]
    return {name: tuple(width for _, width in sorted(layers.items()))[:-1] for name, layers in found.items()}


def _with_light(state: dict[str, Tensor], heavy: tuple[int, ...]) -> tuple[dict[str, Tensor], list[str]]:
    """A checkpoint of phase 0, with a light network and a classifier as torch draws them."""
    if heavy not in _PUBLISHED:
        known = ", ".join(str(list(widths)) for widths in _PUBLISHED)
        raise ConversionError(
            f"this is a checkpoint of the first phase, with a heavy network of hidden layers {list(heavy)} and no "
            f"light one; which belongs to it is known for {known}. Load it with strict=False and train the second phase"
        )
    chans = state["heavy_sampler.imnet.layers.0.weight"].shape[1]
    out = state[f"heavy_sampler.imnet.layers.{2 * len(heavy)}.weight"].shape[0]
    new = dict(state)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, widths, values in zip(("light_sampler", "classifier"), _PUBLISHED[heavy], (out, 2), strict=True):
            sizes = (chans, *widths, values)
            for place, (given, made) in enumerate(itertools.pairwise(sizes)):
                layer = nn.Linear(given, made)
                prefix = f"{name}.imnet.layers.{2 * place}"
                new |= {f"{prefix}.weight": layer.weight.detach(), f"{prefix}.bias": layer.bias.detach()}
    note = (
        "a checkpoint of the first phase of training: light_sampler and classifier are not in it and are drawn anew; "
        "train them (the second of phases=) before policies other than 'heavy' mean anything"
    )
    return new, [note]


def infer_variant(state: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    """Backbone and widths, for the model `pcsr` of any; the others fix them.

    Raises:
        ConversionError: a backbone that is none of ours.
    """
    if name != "pcsr":
        return {}
    hidden = hidden_layers(state)
    names = ("light_sampler", "heavy_sampler")
    if "light_sampler" not in hidden:
        names = tuple(f"samplers.{place}" for place in range(len(hidden) - 1))
    if not hidden:
        raise ConversionError(
            "it is an original network, without networks of pixels; those are fsrcnn_x4, carn_m_x4 and srresnet_x4"
        )
    if not {*names, "classifier"} <= hidden.keys():
        raise ConversionError(
            f"networks of pixels or the classifier are missing; there are {', '.join(sorted(hidden))}"
        )
    return {
        "backbone": _backbone(state),
        "upsamplers": [list(hidden[network]) for network in names],
        "classifier": list(hidden["classifier"]),
    }


def _backbone(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The name and the widths of the encoder."""
    shapes = {key.removeprefix("encoder."): value.shape for key, value in state.items() if key.startswith("encoder.")}
    if "head_conv.0.weight" in shapes:
        convolutions = (key for key, shape in shapes.items() if len(shape) == 4)
        middle = [key for key in convolutions if re.fullmatch(r"body_conv\.\d+\.weight", key)]
        d, s = shapes["head_conv.0.weight"][0], shapes["body_conv.0.0.weight"][0]
        return {"name": "fsrcnn", "d": d, "s": s, "m": len(middle)}
    if "entry.weight" in shapes:
        nf = shapes["entry.weight"][0]
        return {"name": "carn", "nf": nf, "group": nf // shapes["b1.b1.body.0.weight"][1]}
    if "conv_first.weight" in shapes:
        blocks = {key.split(".")[1] for key in shapes if key.startswith("recon_trunk.")}
        return {"name": "srresnet", "nf": shapes["conv_first.weight"][0], "nb": len(blocks)}
    raise ConversionError("the backbone is none of FSRCNN, CARN and SRResNet")


def _channels(state: Mapping[str, Tensor]) -> int | None:
    """Channels of the images, where the first layer is one of ours."""
    return next((value.shape[1] for key, value in state.items() if _FIRST.fullmatch(key)), None)


def explain_mismatch(tensors: Mapping[str, Tensor], model: Any) -> str:
    """Which channels or hidden layers the checkpoint has, and which the model, where they differ."""
    channels, wanted = _channels(tensors), _channels(model.state_dict())
    if channels is not None and wanted is not None and channels != wanted:
        return (
            f"it is for images of {channels} channels, the model for {wanted}: leave in_chans out, for zoo.upscale "
            "takes grey pictures, too, and makes three equal channels of them; a network of other channels begins "
            "without weights"
        )
    found, expected = hidden_layers(tensors), hidden_layers(model.state_dict())
    other = [
        f"{name} has hidden layers {list(found[name])}, {list(expected[name])} were expected"
        for name in expected
        if name in found and found[name] != expected[name]
    ]
    if not found and expected:
        return "it is an original network, without networks of pixels"
    if found and not expected:
        return "it is of PCSR, and the model is an original network"
    return ", ".join(other)
