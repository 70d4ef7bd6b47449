"""A classifier of pixels and the networks, from light to heavy, that it chooses between."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from zoo.layers.pixel_adaptive.coordinates import Size
from zoo.layers.pixel_adaptive.mlp import PixelUpsampler, is_widths
from zoo.layers.pixel_adaptive.routing import by_class, values_of_all, without_gradients


class PixelHeads(nn.Module):
    """What stands behind features: M networks that compute pixels, and a classifier with M scores a pixel.

    With two networks the parts are called as in the authors' files, `light_sampler`, `heavy_sampler` and `classifier`;
    with more, `samplers.0`, `samplers.1`, ...

    Args:
        in_chans: channels of the features.
        out_chans: values of a pixel.
        hidden: widths of the hidden layers of each network, from light to heavy.
        classifier: widths of the hidden layers of the classifier.

    Raises:
        ValueError: fewer than two networks, or networks that are not ascending in cost.
        TypeError: widths that are no lists of whole numbers.
    """

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        hidden: Sequence[Sequence[int]],
        classifier: Sequence[int],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        place: Any = {"device": device, "dtype": dtype}
        _check_lists(hidden)
        networks = [PixelUpsampler(in_chans, widths, out_chans, **place) for widths in hidden]
        _check_order(networks)
        if len(networks) == 2:
            self.light_sampler, self.heavy_sampler = networks
        else:
            self.samplers = nn.ModuleList(networks)
        self.classifier = PixelUpsampler(in_chans, classifier, len(networks), **place)
        self.register_load_state_dict_pre_hook(_check_widths)

    @property
    def upsamplers(self) -> list[PixelUpsampler]:
        """The networks, from light to heavy."""
        return [self.get_submodule(name) for name in self._names]  # pyright: ignore[reportReturnType]

    @property
    def _names(self) -> list[str]:
        if "samplers" not in self._modules:
            return ["light_sampler", "heavy_sampler"]
        return [f"samplers.{place}" for place in range(len(self.samplers))]

    def scores(
        self, features: Float[Tensor, "batch in_chans height width"], size: Size
    ) -> Float[Tensor, "batch classes new_height new_width"]:
        """The classifier's logits of every pixel of the enlarged image."""
        return values_of_all(self.classifier, features, size)

    def values(
        self,
        features: Float[Tensor, "batch in_chans height width"],
        classes: UInt8[Tensor, "batch new_height new_width"],
    ) -> Float[Tensor, "batch out_chans new_height new_width"]:
        """Every pixel by the network of its class.

        Args:
            features: of the small image.
            classes: of the pixels of the enlarged one.
        """
        if without_gradients(features, self.upsamplers):
            return by_class(self.upsamplers, features, classes)
        size = (classes.shape[1], classes.shape[2])
        first, *others = self.upsamplers
        found = first.dense(features, size)
        for place, network in enumerate(others, 1):
            found = torch.where((classes == place).unsqueeze(1), network.dense(features, size), found)
        return found

    def blended(
        self, features: Float[Tensor, "batch in_chans height width"], size: Size
    ) -> Float[Tensor, "batch out_chans new_height new_width"]:
        """Every pixel as the mean of all networks, by the probabilities of their classes: what can be learnt from."""
        chances = self.scores(features, size).softmax(1)
        parts = (chances[:, j : j + 1] * network.dense(features, size) for j, network in enumerate(self.upsamplers))
        return sum(parts)  # pyright: ignore[reportReturnType]

    def blended_at(
        self,
        features: Float[Tensor, "batch in_chans height width"],
        coord: Float[Tensor, "batch queries 2"],
        cell: Float[Tensor, "batch queries 2"],
    ) -> tuple[Float[Tensor, "batch queries out_chans"], Float[Tensor, "batch queries classes"]]:
        """`blended` at some places, and the probabilities; see `PixelUpsampler` for places and cells."""
        chances = self.classifier(features, coord, cell).softmax(-1)
        parts = (chances[..., j : j + 1] * u(features, coord, cell) for j, u in enumerate(self.upsamplers))
        return sum(parts), chances  # pyright: ignore[reportReturnType]


def _check_lists(hidden: Any) -> None:
    if not isinstance(hidden, Sequence) or not all(is_widths(widths) for widths in hidden):
        raise TypeError(
            "the networks are given by the widths of their hidden layers, a list of each, from light to heavy, "
            f"[[20, 20], [74, 74, 74]] say; got {hidden!r}"
        )


def _check_order(networks: Sequence[PixelUpsampler]) -> None:
    if len(networks) < 2:
        raise ValueError(f"there must be at least two networks to choose between, got {len(networks)}")
    sizes = [sum(layer.weight.numel() for layer in network.linears) for network in networks]
    for place, (light, heavy) in enumerate(itertools.pairwise(sizes)):
        if light >= heavy:
            raise ValueError(
                f"upsamplers must be given from light to heavy: hidden layers {list(networks[place].hidden)} take "
                f"{light:,} multiplications a pixel, the next {list(networks[place + 1].hidden)} only {heavy:,}"
            )


def _check_widths(heads: PixelHeads, state: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    """Say of a checkpoint of other networks which those are.

    Raises:
        ValueError: with the hidden layers that were expected and found.
    """
    for name in (*heads._names, "classifier"):
        network = heads.get_submodule(name)
        start = f"{prefix}{name}.imnet.layers."
        found = [value.shape[0] for key, value in state.items() if key.startswith(start) and key.endswith(".weight")]
        assert isinstance(network, PixelUpsampler)
        expected = [*network.hidden, network.out_chans]
        if found and found != expected:
            raise ValueError(
                f"the checkpoint has hidden layers {found[:-1]} and {found[-1]} outputs in {prefix}{name}, this "
                f"network {expected[:-1]} and {expected[-1]}"
            )
