"""Classifiers of bags of instances: each instance is embedded, Hopfield pooling asks the bag, a linear layer answers.

Source: Ramsauer et al., "Hopfield Networks is All You Need" (2021, arXiv 2008.02217), its multiple instance learning
and the examples of the authors' code.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from zoo.layers.hopfield import HopfieldPooling
from zoo.layers.hopfield.options import positive_int
from zoo.models.no_image import NO_IMAGE, described


class HopfieldBagClassifier(nn.Module):
    """y = W act(pool(embed(x_1), ..., embed(x_N))) + b

    Shapes: (B, N, *instance_shape) -> (B, num_classes); ragged (rows, *instance_shape) with offsets -> the same.

    Args:
        embed: makes a vector of every instance, (rows, *instance_shape) -> (rows, width of the pool's tokens).
        pool: its state asks which instances matter.
        num_classes: outputs; 0 for none, the pooled features.
        instance_shape: of one instance.
        act: after the pooling.

    Raises:
        ValueError: in the call, instances of another shape.
        TypeError: in the call, integer instances.
    """

    def __init__(
        self,
        embed: nn.Module,
        pool: HopfieldPooling,
        num_classes: int,
        *,
        instance_shape: Sequence[int],
        act: nn.Module,
    ) -> None:
        super().__init__()
        self.instance_shape = tuple(instance_shape)
        self.num_features = self.head_hidden_size = pool.out_features
        self.embed = embed
        self.pool = pool
        self.act = act
        self.head: nn.Module = nn.Identity()
        self.reset_classifier(num_classes)

    def init_weights(self) -> None:
        """Draw every parameter anew, as at construction; completes a model moved off the meta device by `to_empty`."""
        for module in (*self.embed.modules(), self.pool, self.head):
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()  # pyright: ignore[reportCallIssue]

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new linear classifier on the model's device, in its dtype and mode.

        Args:
            num_classes: 0 removes it.
            global_pool: taken for timm; the pooling stays.

        Raises:
            ValueError: fewer classes than 0.
        """
        if num_classes < 0:
            raise ValueError(f"num_classes must be an int ≥ 0, got {num_classes}")
        like = self.pool.state_patterns
        self.num_classes = num_classes
        linear = (
            nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype) if num_classes else None
        )
        self.head = (linear or nn.Identity()).train(self.training)
        self.pretrained_cfg = {**getattr(self, "pretrained_cfg", NO_IMAGE), "num_classes": num_classes}

    def forward(
        self,
        x: Float[Tensor, "..."],
        padding_mask: Bool[Tensor, "bags instances"] | None = None,
        *,
        offsets: Int[Tensor, "..."] | Sequence[int] | None = None,
    ) -> Float[Tensor, "_ classes"]:
        """Logits.

        Args:
            x: the bags, (B, N, *instance_shape); or, with offsets, all instances, bag behind bag.
            padding_mask: (B, N), True = no instance.
            offsets: where each ragged bag starts and the last one ends, (B + 1,).
        """
        return self.forward_head(self.forward_features(x, padding_mask, offsets=offsets))

    def forward_features(
        self,
        x: Float[Tensor, "..."],
        padding_mask: Bool[Tensor, "bags instances"] | None = None,
        *,
        offsets: Int[Tensor, "..."] | Sequence[int] | None = None,
    ) -> Float[Tensor, "_ features"]:
        """The pooled bags, (B, num_features); as `forward`."""
        return self.pool(self._embedded(x, offsets), padding_mask, offsets=offsets)

    def forward_head(self, x: Float[Tensor, "bags features"], pre_logits: bool = False) -> Float[Tensor, "bags _"]:
        """Classify pooled bags; with `pre_logits` only the activation."""
        x = self.act(x)
        return x if pre_logits else self.head(x)

    def association(
        self,
        x: Float[Tensor, "..."],
        padding_mask: Bool[Tensor, "bags instances"] | None = None,
        *,
        offsets: Int[Tensor, "..."] | Sequence[int] | None = None,
    ) -> Float[Tensor, "_ heads quantity instances_"]:
        """How much the answer took from every instance, (B, heads, quantity, N): 0 where there is none."""
        return self.pool.association(self._embedded(x, offsets), padding_mask, offsets=offsets)

    def _embedded(self, x: Tensor, offsets: Any) -> Tensor:
        lead = 1 if offsets is not None else 2
        if x.ndim != lead + len(self.instance_shape) or x.shape[lead:] != self.instance_shape:
            axes = ", ".join(map(str, self.instance_shape))
            wanted = f"(rows, {axes}) with offsets" if lead == 1 else f"(bags, instances, {axes})"
            raise ValueError(f"expected instances {wanted}, got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise TypeError(f"instances must be floating point, got {x.dtype}")
        return self.embed(x.flatten(0, lead - 1)).unflatten(0, x.shape[:lead])


def hopfield_mil(
    num_classes: int = 2,
    *,
    dim: int = 512,
    embed_dim: int = 128,
    embed_layers: int = 1,
    num_heads: int = 8,
    head_dim: int = 32,
    quantity: int = 1,
    beta: float = 0.1,
    num_updates: int = 1,
    attn_drop: float = 0.0,
    drop_rate: float = 0.0,
    pooling: Mapping[str, Any] | None = None,
    pretrained_cfg: Any = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> HopfieldBagClassifier:
    """Bags of feature vectors: linear layers with ReLU, Hopfield pooling, ReLU, a linear classifier.

    Args:
        num_classes: outputs.
        dim: width of an instance.
        embed_dim, embed_layers: width and number of the layers that embed it; the paper has 32 to 2,048, and 1 to 3.
        num_heads, head_dim, quantity, beta, num_updates: of the pooling; the paper has 8 to 32 heads of 16 to 64, and
            beta of 0.1, 1 or 10.
        attn_drop: share of the association that is dropped in training, the paper's bag dropout (0 or 0.75).
        drop_rate: dropout of the pooled features.
        pooling: further options of `HopfieldPooling`, such as {"association": "sparsemax"}.

    Raises:
        ValueError, TypeError: as `HopfieldPooling`; sizes below 1.
    """
    place: dict[str, Any] = {"device": device, "dtype": dtype}
    layers: list[nn.Module] = []
    for layer in range(positive_int("embed_layers", embed_layers)):
        before = embed_dim if layer else positive_int("dim", dim)
        layers += [nn.Linear(before, positive_int("embed_dim", embed_dim), **place), nn.ReLU()]
    options = {"num_heads": num_heads, "head_dim": head_dim, "quantity": quantity, "num_updates": num_updates}
    pool = HopfieldPooling(embed_dim, beta=beta, dropout=attn_drop, **{**options, **(pooling or {}), **place})
    act = nn.Sequential(nn.ReLU(), nn.Dropout(drop_rate)) if drop_rate else nn.ReLU()
    model = HopfieldBagClassifier(nn.Sequential(*layers), pool, num_classes, instance_shape=(dim,), act=act)
    return described(model, pretrained_cfg)


def hopfield_mnist_bags(
    num_classes: int = 1,
    in_chans: int = 1,
    *,
    attn_drop: float = 0.1,
    num_updates: int = 1,
    pretrained_cfg: Any = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> HopfieldBagClassifier:
    """Bags of 28x28 images: two convolutions and a linear layer embed each, Hopfield pooling, a linear classifier.

    Args:
        num_classes: outputs; the authors' one is positive for a bag that contains what is looked for.
        in_chans: channels of an image.
        attn_drop: dropout on the association.
        num_updates: of the pooling.

    Raises:
        ValueError, TypeError: as `HopfieldPooling`.
    """
    place: dict[str, Any] = {"device": device, "dtype": dtype}
    embed = nn.Sequential(
        nn.Conv2d(positive_int("in_chans", in_chans), 20, 5, **place),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5, **place),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(800, 500, **place),
        nn.ReLU(),
    )
    pool = HopfieldPooling(500, head_dim=32, dropout=attn_drop, num_updates=num_updates, **place)
    shape = (in_chans, 28, 28)
    model = HopfieldBagClassifier(embed, pool, num_classes, instance_shape=shape, act=nn.Identity())
    return described(model, pretrained_cfg, "hopfield_mnist_bags")


def hopfield_bit_pattern(
    num_classes: int = 1,
    *,
    dim: int = 8,
    num_heads: int = 8,
    head_dim: int = 8,
    num_updates: int = 4,
    beta: float = 0.25,
    attn_drop: float = 0.5,
    pretrained_cfg: Any = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> HopfieldBagClassifier:
    """Bags of bit patterns: Hopfield pooling of the patterns as they are, a linear classifier.

    Args:
        num_classes: outputs.
        dim: bits of a pattern.
        num_heads, head_dim, num_updates, beta, attn_drop: of the pooling, as the authors adapt it to the task.

    Raises:
        ValueError, TypeError: as `HopfieldPooling`.
    """
    options: dict[str, Any] = {"num_heads": num_heads, "head_dim": head_dim, "num_updates": num_updates, "beta": beta}
    pool = HopfieldPooling(dim, dropout=attn_drop, device=device, dtype=dtype, **options)
    model = HopfieldBagClassifier(nn.Identity(), pool, num_classes, instance_shape=(dim,), act=nn.Identity())
    return described(model, pretrained_cfg)
