"""Kolmogorov-Arnold networks as classifiers, of small images for one.

Source: Liu et al., "KAN: Kolmogorov-Arnold Networks" (2024, arXiv 2404.19756), with the layers of efficient-kan,
fast-kan (2024, arXiv 2405.06721) and faster-kan.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.kan import KAN, BSplineBasis, KANLinear
from zoo.layers.kan.options import check_choice, check_count

LAYERS: dict[str, Callable[..., KANLinear]] = {
    "efficient": KANLinear.efficient,
    "fast": KANLinear.fast,
    "faster": KANLinear.faster,
    "chebyshev": KANLinear.chebyshev,
}


class KANModel(nn.Module):
    """A KAN in timm's words: its last layer is the classifier, what the others make are the features.

    Args:
        in_features: width of the first layer.
        num_classes: outputs; 0 for none, the features.
        hidden_sizes: widths between the layers.
        layer: "efficient" (B-splines), "fast" (Gaussians), "faster" (switches) or "chebyshev", see `KANLinear`.
        layer_options: further options of every layer, such as {"grid_size": 10}.
        own_knots, masked: numbers of the layers whose inputs have knots of their own (after `KAN.update_grid`), and of
            those with masked edges (after `KAN.prune`). What a saved model says of itself.

    Attributes:
        kan: the network, a `KAN`: what grids are refined of, edges are pruned of and curves are drawn of.

    Raises:
        ValueError, TypeError: as `KANLinear`; an unknown layer, fewer classes than 0.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        hidden_sizes: Sequence[int],
        layer: str,
        layer_options: Mapping[str, Any] | None,
        own_knots: Sequence[int],
        masked: Sequence[int],
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = check_count("num_classes", num_classes, least=0)
        self._layer = check_choice("layer", layer, LAYERS)
        # A saved config has lists where Python has tuples.
        given = (layer_options or {}).items()
        self._layer_options = {name: tuple(value) if isinstance(value, list) else value for name, value in given}
        self._options: dict[str, Any] = {}
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        sizes = [in_features, *hidden_sizes, num_classes or 1]
        self.kan = KAN(sizes, layer=LAYERS[layer], **self._layer_options, **place)
        self._last = f"kan.layers.{len(self.kan.layers) - 1}"
        self._classifier: str | list[str] = self._last
        if not num_classes:
            del self.kan.layers[-1]
        for i, made in enumerate(self._layers()):
            if i in own_knots:
                made.basis.knots = made.basis.knots.repeat(made.in_features, 1)
            if i in masked:
                made.mask_edges(torch.ones_like(made.weight[..., 0], dtype=torch.bool))
        self.register_load_state_dict_pre_hook(_drop_rest_of_classifier)

    @property
    def num_features(self) -> int:
        """Width of the features."""
        layers = self.kan.layers
        return int(layers[-1].in_features if self.num_classes else layers[-1].out_features)  # pyright: ignore

    @property
    def head_hidden_size(self) -> int:
        """timm's word for the width of what the classifier is given."""
        return self.num_features

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """timm's configuration."""
        return self._cfg

    @pretrained_cfg.setter
    def pretrained_cfg(self, cfg: Mapping[str, Any]) -> None:  # the depth says which layer is the classifier
        self._cfg = {**cfg, "classifier": self._classifier}

    @property
    def _model_args(self) -> dict[str, Any]:
        """What a saved config holds."""
        return self._network_args()

    @_model_args.setter
    def _model_args(self, options: dict[str, Any]) -> None:  # timm's factory adds what it was given
        self._options = options

    def _network_args(self) -> dict[str, Any]:
        """The options, with widths and grid as they are now."""
        options, layers = dict(self._layer_options), self._layers()
        grids = {layer.basis.grid_size for layer in layers if isinstance(layer.basis, BSplineBasis)}
        if len(grids) == 1:
            options["grid_size"] = grids.pop()
        own = [isinstance(layer.basis, BSplineBasis) and len(layer.basis.knots) > 1 for layer in layers]
        return {
            **self._options,
            "hidden_sizes": [layer.out_features for layer in (layers[:-1] if self.num_classes else layers)],
            "layer": self._layer,
            "layer_options": options,
            "own_knots": [i for i, has in enumerate(own) if has],
            "masked": [i for i, layer in enumerate(layers) if layer.mask is not None],
        }

    def _layers(self) -> list[Any]:
        return list(self.kan.layers)

    def init_weights(self) -> None:
        """Draw every parameter anew, as at construction; completes a model moved off the meta device by `to_empty`."""
        self.kan.reset_parameters()

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns that sort parameters into layers."""
        return {"stem": r"^kan\.layers\.0\.", "blocks": r"^kan\.layers\.(\d+)\."}

    def get_classifier(self) -> nn.Module:
        return self.kan.layers[-1] if self.num_classes else nn.Identity()

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new last layer on the model's device, in its dtype and mode.

        Args:
            num_classes: 0 removes it.
            global_pool: taken for timm; there is no pooling.

        Raises:
            ValueError: fewer classes than 0.
        """
        check_count("num_classes", num_classes, least=0)
        like, width, options = next(self.kan.parameters()), self.num_features, self._model_args["layer_options"]
        if self.num_classes:
            del self.kan.layers[-1]
        if num_classes:
            make = LAYERS[self._layer]
            head = make(width, num_classes, **options, device=like.device, dtype=like.dtype)
            self.kan.layers.append(head.train(self.training))
        self.num_classes = num_classes

    def forward_features(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch features"]:
        """What all layers but the classifier make of the input, (B, num_features)."""
        x = self._rows(x)
        for layer in self._layers()[: -1 if self.num_classes else None]:
            x = layer(x)
        return x

    def forward_head(
        self, x: Float[Tensor, "batch features"], pre_logits: bool = False
    ) -> Float[Tensor, "batch outputs"]:
        """Classify features; with `pre_logits` they are given back."""
        return self.kan.layers[-1](x) if self.num_classes and not pre_logits else x

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch outputs"]:
        return self.forward_head(self.forward_features(x))

    def _rows(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class ImageKAN(KANModel):
    """A KAN whose inputs are the pixels of small images.

    Shapes: (B, in_chans, H, W) -> (B, num_classes).

    Args:
        num_classes: 0 for none, the features.
        in_chans, img_size: of the images, one side or (height, width).
        hidden_sizes, layer, layer_options, own_knots, masked: see `KANModel`.

    Raises:
        ValueError, TypeError: as `KANModel`; in the call, images of another shape or type.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_chans: int = 1,
        *,
        img_size: int | Sequence[int] = 8,
        hidden_sizes: Sequence[int] = (32,),
        layer: str = "efficient",
        layer_options: Mapping[str, Any] | None = None,
        own_knots: Sequence[int] = (),
        masked: Sequence[int] = (),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        shape = [check_count("in_chans", in_chans), check_count("img_size", height), check_count("img_size", width)]
        super().__init__(
            shape[0] * shape[1] * shape[2],
            num_classes,
            hidden_sizes=hidden_sizes,
            layer=layer,
            layer_options=layer_options,
            own_knots=own_knots,
            masked=masked,
            device=device,
            dtype=dtype,
        )
        self.in_chans = in_chans
        self.image_shape = tuple(shape)
        self._traits = {"img_size": self.image_shape[1:]}

    def _rows(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or tuple(x.shape[1:]) != self.image_shape:
            axes = ", ".join(map(str, self.image_shape))
            raise ValueError(
                f"expected images (batch, {axes}), got {tuple(x.shape)}; img_size= and in_chans= set these"
            )
        return x.flatten(1)


def _drop_rest_of_classifier(model: KANModel, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """timm takes `weight` and `bias` of a classifier of other classes out of a state: what else it has goes too."""
    inside = f"{prefix}{model._last}."
    if f"{inside}weight" not in state:
        for key in [key for key in state if key.startswith(inside)]:
            del state[key]
