"""What a stitched network is built from, as it is now: names and options that JSON can hold."""

from collections.abc import Mapping
from typing import Any

from timm.models._input import _get_global_pool
from torch import nn

from zoo.errors import ConfigError

#: Options that all anchors have in common, and the network keeps.
SHARED = ("num_classes", "in_chans", "img_size")
_RATES = ("drop_path_rate", "drop_block_rate")


class Rebuildable(nn.Module):
    """The part of a stitched network that knows its own arguments.

    Attributes:
        anchor_names: what the anchors were asked for by.
    """

    anchors: nn.ModuleList
    anchor_names: tuple[str, ...]
    num_classes: int
    in_chans: int
    stitch_norm: bool
    lora_rank: int
    allow_empty_end: bool
    top1: Mapping[int, float]
    _rules: dict[str, Any]
    _stitch: int
    _pools: tuple[str | None, ...]

    @property
    def _model_args(self) -> dict[str, Any]:
        """timm's record of the arguments that make a model; here of those that make it as it is."""
        args: dict[str, Any] = {
            "anchors": [self._anchor_args(a) for a in range(len(self.anchors))],
            **self._rules,
            "stitch_norm": self.stitch_norm,
            "lora_rank": self.lora_rank,
            "allow_empty_end": self.allow_empty_end,
            "stitch": self._stitch,
            "num_classes": self.num_classes,
            "in_chans": self.in_chans,
        }
        if self.top1:
            args["top1"] = {str(number): value for number, value in self.top1.items()}
        if size := (getattr(self, "_traits", None) or {}).get("img_size"):
            args["img_size"] = size
        return args

    @_model_args.setter
    def _model_args(self, given: Mapping[str, Any]) -> None:
        """timm notes here what a model was made with and resized to, which this one knows by itself."""

    def _anchor_args(self, number: int) -> Any:
        """An anchor as a name, or as a mapping of a name and options."""
        return anchor_args(self.anchors[number], self.anchor_names[number], number, self._pools[number])


def anchor_args(model: nn.Module, name: str, number: int, pool: str | None) -> Any:
    """What makes an anchor: a name, a mapping of a name and options, or what refuses to be saved.

    Args:
        model: the anchor.
        name: what it was asked for by.
        number: which of a network's it is.
        pool: how it pooled when it was made.
    """
    spec = getattr(model, "zoo_spec", None)
    if spec is not None:
        options = {k: v for k, v in spec.items() if k not in SHARED}
        return {"name": "zoo_composite", **options}
    cfg = getattr(model, "pretrained_cfg", None)
    if not isinstance(cfg, Mapping) or not cfg.get("architecture"):
        return Nameless(number, type(model).__name__)
    made = getattr(model, "_model_args", None) or {}
    kept = [k for k in made if k not in (*SHARED, *_RATES) and not k.endswith("drop_rate")]
    options = {k: made[k] for k in kept if made[k] is not None}
    now = _get_global_pool(model)
    if now is not None and now != pool:
        options["global_pool"] = now
    return {"name": name, **options} if options else name


class Nameless:
    """An anchor that no name stands for.

    Args:
        number: which.
        kind: its class.
    """

    def __init__(self, number: int, kind: str) -> None:
        self.number, self.kind = number, kind

    def __repr__(self) -> str:
        return f"a {self.kind} without a name"

    def to_dict(self) -> dict[str, Any]:
        """What saving asks for.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"anchor {self.number} is a {self.kind} that no name stands for, so no one could rebuild the network: "
            "register what makes it with @zoo.register_model, and stitch it by that name; or save the weights alone "
            "with zoo.weights.save_safetensors(net.state_dict(), path)"
        )
