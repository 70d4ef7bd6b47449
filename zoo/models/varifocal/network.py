"""Varifocal-Net: look at the whole image, find the box that matters, look into it, and decide on both.

"Varifocal-Net: A Chromosome Classification Approach using Deep Convolutional Networks", Qin et al., IEEE Transactions
on Medical Imaging 38 (11), 2019, arXiv:1810.05943. The authors' code is not public. What the paper states: the trunk,
the pools, two tasks, a square box of three numbers, weak supervision of it through the crop, two small networks on the
features of both scales. What is our design, and so an argument: sizes, strides, hidden widths, how the box is decoded
and sampled. (The detector VarifocalNet of 2020 is something else.)
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.models._input import update_model_args, update_model_input_size
from torch import Tensor, nn

from zoo.layers.varifocal.checks import both_sides
from zoo.layers.varifocal.crop import crop_inside
from zoo.models.varifocal.backbone import BackboneLike, saved_backbone
from zoo.models.varifocal.cases import CaseModel
from zoo.models.varifocal.checks import STAGES, TRAINING, check_batch, check_choice, check_temperature
from zoo.models.varifocal.fusion import Fusion
from zoo.models.varifocal.gnet import GNet
from zoo.models.varifocal.lnet import LNet
from zoo.models.varifocal.output import VarifocalOutput
from zoo.models.varifocal.scale import TaskHead
from zoo.models.varifocal.tasks import tasks_of

#: What learns in each stage of training; None for everything.
_LEARNING: dict[str, tuple[str, ...] | None] = {
    "global": ("g_net.trunk", "g_net.head"),
    "localize": ("g_net.loc",),
    "local": ("g_net.loc", "l_net"),
    "fusion": ("fusion",),
    "joint": None,
}
#: How far the network is run in each stage of training.
_RUN = {"global": "global", "localize": "global", "local": "local", "fusion": "fusion", "joint": "fusion"}


class VarifocalNet(CaseModel):
    """G-Net, the crop of its box, L-Net, and the decision on both scales.

    Shapes: (batch, in_chans, height, width) to `VarifocalOutput`.

    Args:
        backbone: trunk of both scales (with weights of their own): None for the paper's, a name of ours or timm's,
            `{"name": ..., **options}`, a composition such as `{"base": "resnet18", "act": "mish"}`, or a module.
        num_classes: (types, polarities), or a number of types alone.
        num_polarities: of the second task, where `num_classes` is one number.
        in_chans: channels of the image.
        img_size: of the images that it is made for, one side or (height, width).
        local_size: of the crop; half the image's if None, as the paper has it.
        stage: how far it is run: "global" (the box is proposed, L-Net is not run), "local", or "fusion".
        head_pool: cells a side that the classifiers see.
        loc_pool: cells a side that the localisation sees.
        loc_hidden: width within the localisation.
        mlp_hidden: width of the networks that decide on both scales.
        drop_rate: of the dropout in these.
        box_mode: "inset" or "clamp", see `decode_region`.
        min_ratio: side of the smallest box, as a fraction of the image's.
        stem, widths, depths, strides: of the paper's trunk.
        temperature: logits of each task are divided by it where probabilities are asked for; see `zoo.karyotype`.
        polarity_names: what the classes of the second task mean, in order.

    Attributes:
        num_classes, num_polarities: of the tasks.
        num_features: width of what `forward_features` gives when both scales are run.

    Raises:
        ValueError: an option out of range, an unknown backbone, or images smaller than a cell of its map.
    """

    def __init__(
        self,
        backbone: BackboneLike = None,
        *,
        num_classes: int | Sequence[int] = (24, 2),
        num_polarities: int | None = None,
        in_chans: int = 1,
        img_size: int | Sequence[int] = 256,
        local_size: int | Sequence[int] | None = None,
        stage: str = "fusion",
        head_pool: int = 4,
        loc_pool: int = 8,
        loc_hidden: int = 256,
        mlp_hidden: int = 512,
        drop_rate: float | int = 0.5,
        box_mode: str = "inset",
        min_ratio: float | int = 0.25,
        stem: int = 16,
        widths: Sequence[int] = (160, 320, 640),
        depths: Sequence[int] = (4, 4, 4),
        strides: Sequence[int] = (2, 2, 2),
        temperature: Sequence[float | int] = (1.0, 1.0),
        polarity_names: Sequence[str] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        tasks = tasks_of(num_classes, num_polarities)
        size = both_sides(img_size, "img_size")
        local = tuple(max(side // 2, 1) for side in size) if local_size is None else local_size
        self.local_size = both_sides(local, "local_size")
        self.num_classes, self.num_polarities = tasks
        self.in_chans, self.stage = in_chans, check_choice("stage", stage, STAGES)
        self._temperature = check_temperature(temperature)
        self._polarity_names = None if polarity_names is None else tuple(polarity_names)
        self._learning: tuple[str, ...] | None = None
        place: Any = {"device": device, "dtype": dtype}
        wide = {"stem": stem, "widths": widths, "depths": depths, "strides": strides}
        shared: Any = {"in_chans": in_chans, "head_pool": head_pool, **wide, **place}
        region: Any = {"loc_pool": loc_pool, "loc_hidden": loc_hidden, "box_mode": box_mode, "min_ratio": min_ratio}
        self.g_net = GNet(backbone, tasks, img_size=size, **region, **shared)
        self.l_net = LNet(backbone, tasks, img_size=self.local_size, **shared)
        self.num_features = self.head_hidden_size = self.g_net.num_features + self.l_net.num_features
        self.fusion = Fusion(self.num_features, tasks, mlp_hidden, drop_rate, **place)
        self._args: dict[str, Any] = {}
        if isinstance(backbone, nn.Module):
            return  # it has no name to be made again by, so the network is not saved with a configuration
        self._model_args = {
            "backbone": backbone,
            "num_polarities": self.num_polarities,
            "local_size": local_size if local_size is None or isinstance(local_size, int) else list(local_size),
            "stage": stage,
            "head_pool": head_pool,
            **region,
            "mlp_hidden": mlp_hidden,
            "drop_rate": drop_rate,
            **({key: value if key == "stem" else list(value) for key, value in wide.items()} if not backbone else {}),
            "temperature": list(self._temperature),
            "polarity_names": None if polarity_names is None else list(polarity_names),
        }
        self._traits = {"first_conv": self._first_convs()}
        update_model_input_size(self, size)

    @property
    def polarity_names(self) -> tuple[str, ...] | None:
        """What the classes of the second task mean, in order, where that is known; saved with the network."""
        return self._polarity_names

    @polarity_names.setter
    def polarity_names(self, value: Sequence[str]) -> None:
        if len(value) != self.num_polarities:
            raise ValueError(f"polarity_names has {len(value)} names, the second task {self.num_polarities} classes")
        self._polarity_names = tuple(value)
        if self._args:
            update_model_args(self, polarity_names=list(value))

    @property
    def _model_args(self) -> dict[str, Any]:
        """What it was made with; timm adds what the caller gave, and reads it when a network is saved."""
        return self._args

    @_model_args.setter
    def _model_args(self, value: dict[str, Any]) -> None:
        self._args = {**value, "backbone": saved_backbone(value.get("backbone"))}

    def forward(self, x: Tensor, stage: str | None = None) -> VarifocalOutput:
        """Logits, the box and the crop.

        Args:
            x: images (batch, in_chans, height, width).
            stage: how far it is run; as it was made (or last frozen) if None.

        Raises:
            ValueError: another rank or number of channels, an image smaller than a cell of the map or with values that
                are not finite, an unknown stage.
            TypeError: whole numbers.
        """
        stage = self.stage if stage is None else check_choice("stage", stage, STAGES)
        check_batch(x, self.in_chans, self.g_net.reduction, training=self.training)
        out = self.g_net(x)
        if stage == "global":
            return out
        assert out.box is not None
        assert out.features is not None
        out.crop = crop_inside(x, out.box, self.local_size)
        local = self.l_net(out.crop)
        assert local.features is not None
        out.l_type, out.l_polarity = local.l_type, local.l_polarity
        out.features = torch.cat([out.features, local.features], 1)
        if stage == "fusion":
            out.type, out.polarity = self.fusion(out.features)
        return out

    def forward_features(self, x: Float[Tensor, "batch chans height width"]) -> Float[Tensor, "batch features"]:
        """Pooled features of the scales that are run, one after the other."""
        features = self.forward(x, "global" if self.stage == "global" else "local").features
        assert features is not None
        return features

    def forward_head(self, features: Float[Tensor, "batch features"]) -> tuple[Tensor | None, Tensor | None]:
        """Logits of both tasks by what `forward_features` gave."""
        return (self.g_net.head if self.stage == "global" else self.fusion)(features)

    def as_logits(self, output: VarifocalOutput) -> Tensor | None:
        """Logits of types by the last stage that was run."""
        return output.logits

    def loss(self, output: VarifocalOutput, target: Tensor) -> Tensor:
        """Cross-entropy of the types, summed over the scales that were run; what training on one label uses.

        Args:
            output: of the network.
            target: class numbers (batch,), or probabilities (batch, types).
        """
        found = [logits for logits in (output.g_type, output.l_type, output.type) if logits is not None]
        return torch.stack([F.cross_entropy(logits, target) for logits in found]).sum()

    def freeze_stage(self, stage: str) -> "VarifocalNet":
        """Let only what a stage of training is about learn; the network is run no further than it needs.

        What does not learn stays in evaluation mode, also after `train()`: batch norms of the trunk must not move while
        the localisation is trained.

        Args:
            stage: "global" (trunk and classifiers of G-Net), "localize" (its localisation), "local" (L-Net, and the
                localisation through the crop), "fusion" (the decision on both scales), or "joint" (everything).

        Returns:
            The network.

        Raises:
            ValueError: an unknown stage.
        """
        self._learning = _LEARNING[check_choice("stage", stage, TRAINING)]
        self.stage = _RUN[stage]
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(parameter.is_floating_point() and self._learns(name))
        return self.train(self.training)

    def _learns(self, name: str) -> bool:
        return self._learning is None or any(f"{name}.".startswith(f"{part}.") for part in self._learning)

    def train(self, mode: bool = True) -> "VarifocalNet":
        """Training or evaluation; what `freeze_stage` froze stays in evaluation."""
        super().train(mode)
        if mode and self._learning is not None:
            for part in ("g_net.trunk", "g_net.head", "g_net.loc", "l_net", "fusion"):
                self.get_submodule(part).train(self._learns(part))
        return self

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute what the trunks computed in the backward pass instead of keeping it."""
        self.g_net.set_grad_checkpointing(enable)
        self.l_net.set_grad_checkpointing(enable)

    def get_classifier(self) -> nn.Module | None:
        """What names the types: the network on both scales."""
        return self.fusion.mlp_type

    def classifier_names(self) -> tuple[str, ...]:
        """Paths of all that has a row a class; the second task as a whole, for it may be left out."""
        fused = "fusion.mlp_type.3" if self.num_classes else "fusion.mlp_type"
        types = ("g_net.head.fc_type", "l_net.head.fc_type", fused)
        return (*types, "g_net.head.fc_polarity", "l_net.head.fc_polarity", "fusion.mlp_polarity")

    def reset_classifier(self, num_classes: int | Sequence[int], global_pool: str | None = None) -> None:
        """New classifiers at both scales and on both, on the network's device, in its dtype and mode.

        Args:
            num_classes: (types, polarities), or a number of types alone; 0 for none.
            global_pool: None; the pools are of the architecture.

        Raises:
            ValueError: a pool, or no numbers of classes.
        """
        if global_pool:
            raise ValueError(f"the pools of a varifocal network are part of it; got global_pool={global_pool!r}")
        tasks = tasks_of(num_classes)
        like = self.g_net.loc.fc1.weight
        place: Any = {"device": like.device, "dtype": like.dtype}
        for net in (self.g_net, self.l_net):
            net.head = TaskHead(net.num_features, tasks, **place).train(net.head.training)
        old = self.fusion
        self.fusion = Fusion(old.dim, tasks, old.hidden, old.drop_rate, **place).train(old.training)
        self.num_classes, self.num_polarities = tasks
        self.uncalibrate()
        if self._polarity_names is not None and len(self._polarity_names) != tasks.polarities:
            self._polarity_names = None
        if self._args:
            names = None if self._polarity_names is None else list(self._polarity_names)
            update_model_args(self, num_classes=tasks.types, num_polarities=tasks.polarities, polarity_names=names)
        cfg = getattr(self, "pretrained_cfg", None)
        if cfg and len(cfg.get("label_names") or ()) != tasks.types:
            self.pretrained_cfg = {key: value for key, value in cfg.items() if not key.startswith("label_")}
        if self._learning is not None:
            for name, parameter in self.named_parameters():
                parameter.requires_grad_(self._learns(name))

    def _first_convs(self) -> tuple[str, ...]:
        """Paths of the layers that see the image or the crop."""
        paths = []
        for name, net in (("g_net", self.g_net), ("l_net", self.l_net)):
            cfg = getattr(net.trunk, "pretrained_cfg", None) or {}
            own = cfg.get("first_conv") if cfg else "stem"
            own = (own,) if isinstance(own, str) else tuple(own or ())
            paths += [f"{name}.trunk.{path}" for path in own]
        return tuple(paths)
