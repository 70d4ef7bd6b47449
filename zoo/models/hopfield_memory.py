"""A memory of labelled images: it names an image by those it recalls, and completes what is hidden of it.

Source: Ramsauer et al., "Hopfield Networks is All You Need" (2021, arXiv 2008.02217); Millidge et al., "Universal
Hopfield Networks" (2022, arXiv 2202.04557), whose distances recall images that dot products confuse.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from zoo.errors import MismatchError
from zoo.layers.hopfield.memory import HopfieldMemory, association, retrieve
from zoo.layers.hopfield.options import positive_int

#: Added to the weight of every class, so that one that is not recalled has a logarithm too.
_FLOOR = 1e-6


class HopfieldImageMemory(nn.Module):
    """y_c = log sum_{i of class c} p_i,   p = the map of the scaled similarities beta s(X, x) with the stored images X

    Storing is the training: `store(images, labels)`. The defaults compare squared distances and let every image but
    the nearest ones have the weight 0 (sparsemax), so that a stored image is recalled exactly from any part that tells
    it from the others.

    Shapes: (B, in_chans, H, W) -> (B, num_classes), or (B, in_chans * H * W), the recalled image, without classes.

    Args:
        num_classes: 0 for none.
        in_chans, img_size: of the images, one side or (height, width).
        beta, num_updates, similarity, association, alpha: of the memory, see `HopfieldMemory`. A higher beta recalls
            more exactly; a lower one averages over more images, which tells classes apart better than it completes.
        num_patterns: random images to begin with, one class after the other; only sensible if they are learned.
        learnable: the stored images are parameters, for fine-tuning, which wants a map with gradients everywhere:
            association="softmax" and a beta of about 2.

    Raises:
        ValueError, TypeError: as `HopfieldMemory`; in the call, nothing is stored, images of another shape or type.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_chans: int = 1,
        *,
        img_size: int | Sequence[int] = 8,
        beta: float | str = 32.0,
        num_updates: int = 1,
        similarity: str = "neg_sq_l2",
        association: str = "sparsemax",
        alpha: float | None = None,
        num_patterns: int = 0,
        learnable: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.in_chans = positive_int("in_chans", in_chans)
        self.image_shape = (in_chans, positive_int("img_size", height), positive_int("img_size", width))
        self.num_features = in_chans * height * width
        self._options: dict[str, Any] = {}
        self.memory = HopfieldMemory(
            self.num_features,
            num_patterns=num_patterns,
            beta=beta,
            num_updates=num_updates,
            similarity=similarity,
            association=association,
            alpha=alpha,
            learnable=learnable,
            device=device,
            dtype=dtype,
        )
        self.num_classes = _checked(num_classes)
        self.memory.labels = self._dealt(self.memory.labels)
        self._traits = {"img_size": self.image_shape[1:]}
        self.register_state_dict_post_hook(_hide_empty)
        self.register_load_state_dict_pre_hook(_take_any_number)

    def init_weights(self) -> None:
        """Forget everything but the random images that the model begins with, which are drawn anew."""
        self.memory.reset_parameters()
        self.memory.labels = self._dealt(self.memory.labels)

    def _dealt(self, labels: Tensor) -> Tensor:
        """One class after the other, as many labels as there are."""
        return torch.arange(len(labels), device=labels.device) % self.num_classes if self.num_classes else labels

    def other_labels(self, labels: Tensor) -> Tensor:
        """In place of labels of other classes: none, or, where images are learned, one class after the other."""
        if self.memory.learnable:
            return self._dealt(labels)
        if not labels.is_meta and self.num_classes and bool((labels >= 0).any()):
            warnings.warn(
                f"the labels of {len(labels)} stored images are dropped, as {self.num_classes} other classes were "
                "asked for: store(images, labels) stores images of these",
                stacklevel=3,
            )
        return torch.full_like(labels, -1)

    @property
    def _model_args(self) -> dict[str, Any]:
        """What a saved config holds: as many images as there are now."""
        return {**self._options, "num_patterns": len(self.memory)}

    @_model_args.setter
    def _model_args(self, options: dict[str, Any]) -> None:  # timm's factory adds what it was given
        self._options = options

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Other classes: the stored images stay, and lose their labels; learned ones stand for one class after another.

        Args:
            num_classes: 0 for none.
            global_pool: taken for timm; there is no pooling.

        Raises:
            ValueError: fewer classes than 0.
        """
        self.num_classes = _checked(num_classes)
        self.memory.labels = self.other_labels(self.memory.labels)

    def store(
        self,
        images: Float[Tensor, "n chans height width"],
        labels: Int[Tensor, " n"] | Sequence[int] | None = None,
    ) -> None:
        """Store images behind those that are there.

        Args:
            images: (n, in_chans, H, W).
            labels: their classes; None for images that are completed, but stand for no class.

        Raises:
            ValueError: images of another shape, NaN or infinity; labels that are no classes.
        """
        if labels is not None and len(labels):
            given = torch.as_tensor(labels)
            if not 0 <= int(given.min()) <= int(given.max()) < self.num_classes:
                raise ValueError(
                    f"labels must be from 0 to {self.num_classes - 1}, got {int(given.min())} to {int(given.max())}"
                )
        self.memory.add(self._states(images), labels=labels)

    def forward(self, x: Float[Tensor, "batch chans height width"]) -> Float[Tensor, "batch out"]:
        """Logarithms of the weights of the classes at the last update; without classes the images recalled, flat."""
        states, memory = self._states(x), self.memory
        if not self.num_classes:
            return memory(states)
        labels = memory.labels.unsqueeze(1)
        of_class = (labels == torch.arange(self.num_classes, device=labels.device)).to(memory.patterns.dtype)
        options = {**self._how(), "num_updates": memory.num_updates, "feature_map": memory.feature_map}
        weights = retrieve(states, memory.patterns, of_class, **options)
        return (weights.clamp_min(0) + _FLOOR).log()

    def recall(
        self, images: Float[Tensor, "batch chans height width"], known: Bool[Tensor, "..."] | None = None
    ) -> Float[Tensor, "batch chans height width"]:
        """Complete images.

        The first update compares the known pixels alone, and what it recalls is a whole image; further updates go on
        from there.

        Args:
            images: (B, in_chans, H, W); what is not known may have any value.
            known: True where a pixel is known, of a shape that broadcasts to the images', such as (H, W); None for all.

        Returns:
            What is recalled, known pixels too.

        Raises:
            ValueError: images or a mask of another shape, an image of which nothing is known, an empty memory.
            TypeError: a mask that is not boolean.
        """
        memory, states = self.memory, self._states(images)
        found = torch.empty_like(states)
        for rows, pixels, feature_map in self._parts(images, known):
            patterns = memory.patterns
            options = {**self._how(), "feature_map": feature_map}
            found[rows] = retrieve(states[rows][:, pixels], patterns[:, pixels], patterns, **options)
        if memory.num_updates > 1:
            options = {**self._how(), "feature_map": memory.feature_map}
            found = retrieve(found, memory.patterns, num_updates=memory.num_updates - 1, **options)
        return found.reshape(images.shape)

    def association(
        self, images: Float[Tensor, "batch chans height width"], known: Bool[Tensor, "..."] | None = None
    ) -> Float[Tensor, "batch patterns"]:
        """Weights of the stored images at the first update, (B, N); arguments and errors as `recall`."""
        memory, states = self.memory, self._states(images)
        found = states.new_empty(len(states), len(memory))
        for rows, pixels, feature_map in self._parts(images, known):
            options = {**self._how(), "feature_map": feature_map}
            found[rows] = association(states[rows][:, pixels], memory.patterns[:, pixels], **options)
        return found

    def _how(self) -> dict[str, Any]:
        memory = self.memory
        chosen = {"association": memory.separation.association, "alpha": memory.separation.alpha}
        return {"beta": memory.inverse_temperature(), "similarity": memory.similarity, **chosen}

    def _parts(self, images: Tensor, known: Tensor | None) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Images that know the same pixels: their rows, these pixels, and the part of the feature map for them."""
        if known is None:
            known = torch.ones((), dtype=torch.bool, device=images.device)
        if known.dtype != torch.bool:
            raise TypeError(f"known must be boolean, True where a pixel is known, got {known.dtype}")
        try:
            masks = known.expand(images.shape).flatten(1)
        except RuntimeError as error:
            raise ValueError(
                f"known must broadcast to the images {tuple(images.shape)}, got {tuple(known.shape)}"
            ) from error
        if not bool(masks.any(1).all()):
            raise ValueError(f"nothing is known of image {int((~masks.any(1)).nonzero()[0])}: give it a pixel")
        distinct, which = masks.unique(dim=0, return_inverse=True)
        learned = self.memory.feature_map
        for number, mask in enumerate(distinct):
            yield which == number, mask, None if learned is None else learned[:, mask]

    def _states(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or tuple(x.shape[1:]) != self.image_shape:
            axes = ", ".join(map(str, self.image_shape))
            raise ValueError(
                f"expected images (batch, {axes}), got {tuple(x.shape)}; img_size= and in_chans= set these"
            )
        if not x.is_floating_point():
            raise TypeError(f"images must be floating point, as they are stored, got {x.dtype}; x.float() / 255")
        return x.flatten(1)


def _checked(num_classes: int) -> int:
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 0:
        raise ValueError(f"num_classes must be an int ≥ 0, got {num_classes!r}")
    return num_classes


def _hide_empty(model: HopfieldImageMemory, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """An empty memory has no state of its own, and takes any."""
    if not len(model.memory):
        for name in ("patterns", "labels"):
            del state[f"{prefix}memory.{name}"]


def _take_any_number(model: HopfieldImageMemory, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Fill in what an empty memory left out, refuse images of another size, and replace labels of other classes.

    Raises:
        MismatchError: images of another size.
    """
    names = [f"{prefix}memory.{name}" for name in ("patterns", "labels")]
    for name in names:
        if name not in state and not len(model.memory):
            state[name] = getattr(model.memory, name.rpartition(".")[2])
    patterns, labels = (state.get(name) for name in names)
    if patterns is not None and patterns.shape[1] != model.num_features:
        axes = "×".join(map(str, model.image_shape))
        raise MismatchError(f"images of {patterns.shape[1]} values are stored, the model takes {axes}")
    if labels is not None and not labels.is_meta and bool((labels >= model.num_classes).any()):
        state[names[1]] = model.other_labels(labels)
