"""Banks that can be looked at: rows that an encoder makes of learned inputs, such as images."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.modes import evaluating
from zoo.layers.tversky.options import check_size
from zoo.weight_cache import WeightCache


class DataDomainBank(nn.Module):
    """A bank whose rows are encoder(inputs), the inputs being what is learned.

    Given as `feature_bank` or `prototypes` of a layer that stands on the same encoder, each feature or prototype is
    an image that can be looked at. State dict: `inputs` (num, *input_shape).

    The encoder stays its owner's: it is not among the bank's parameters nor in its state dict, yet it gets the
    bank's gradient. It runs in evaluation mode for the bank, so that batch norm neither counts the inputs in its
    statistics nor mixes them with the batch. Every reading of `weight` is one pass over all inputs; in evaluation
    without gradients the rows are kept until a parameter or buffer of the encoder, or an input, changes.

    Prototypes as images, from an image of each class, learn about as well as vectors do; those that start as noise
    stay noise to the eye. Features as images learn less easily, for they grow with the encoder's outputs: take
    normalize=True and a small learning rate. A small CNN on 8 x 8 digits, one run each: vectors 97.4 % correct,
    prototypes as images 97.0, features as images 95.2, both 94.3.

    Args:
        encoder: from inputs (n, *input_shape) to rows (n, d): a module, or the method of one.
        num: rows.
        input_shape: of one input, without the batch.
        init: inputs to start from, (num, *input_shape), such as images of the training set; None for normal noise.
        device, dtype: of the inputs; those of the encoder's parameters if None.

    Raises:
        ValueError: a size below 1, `init` of another shape, an encoder that makes no rows.
        TypeError: an encoder that cannot be called, an integer `init`.

    Source: the view of features as inputs is of "Tversky Neural Networks: Psychologically Plausible Deep Learning
    with Differentiable Tversky Similarity" (2025, arXiv 2506.11035).
    """

    makes_bank = True

    def __init__(
        self,
        encoder: Callable[[Tensor], Tensor],
        num: int,
        input_shape: Sequence[int],
        *,
        init: Tensor | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_size("num", num)
        if not callable(encoder):
            raise TypeError(f"encoder must be a module or a function, got {type(encoder).__name__}")
        size = (num, *input_shape)
        if init is not None and tuple(init.shape) != size:
            raise ValueError(f"init must be (num, *input_shape) = {size}, got {tuple(init.shape)}")
        if init is not None and not init.is_floating_point():
            raise TypeError(f"init must be as the encoder takes it, of a floating type; got {init.dtype}")
        # In a tuple, so that it does not become a part of this module.
        self._encoder = (encoder,)
        self._start = None if init is None else init.detach()
        self._width: int | None = None
        self._cache = WeightCache()
        like = next((p for module in self._modules_run() for p in module.parameters()), None)
        if like is not None:
            device = like.device if device is None else device
            dtype = like.dtype if dtype is None else dtype
        self.inputs = nn.Parameter(torch.empty(size, device=device, dtype=dtype))
        self.reset_parameters()

    @property
    def weight(self) -> Float[Tensor, "num width"]:
        """The rows, (num, d), with gradient to the inputs and to the encoder."""
        modules = self._modules_run()
        if self.training or not modules:
            return self._encode(self.inputs)
        tensors = (self.inputs, *(t for m in modules for t in (*m.parameters(), *m.buffers())))
        (rows,) = self._cache.get(tensors, lambda: (self._encode(self.inputs),))
        assert rows is not None
        return rows

    @property
    def shape(self) -> tuple[int, int]:
        if self._width is None:
            with torch.no_grad():
                self._width = self._encode(self.inputs[:1]).shape[1]
        return self.inputs.shape[0], self._width

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Back to the inputs given at the start, or to new noise."""
        if self._start is None:
            nn.init.normal_(self.inputs)
        else:
            self.inputs.copy_(self._start)

    def extra_repr(self) -> str:
        encoder = self._encoder[0]
        name = type(encoder).__name__ if isinstance(encoder, nn.Module) else getattr(encoder, "__name__", "function")
        return f"{tuple(self.inputs.shape)} through {name}"

    def _modules_run(self) -> list[nn.Module]:
        """The module that the encoder is, or whose method it is."""
        encoder: Any = self._encoder[0]
        return [m for m in (encoder, getattr(encoder, "__self__", None)) if isinstance(m, nn.Module)]

    def _encode(self, inputs: Tensor) -> Tensor:
        with evaluating(*self._modules_run()):
            rows = self._encoder[0](inputs)
        if rows.ndim != 2 or rows.shape[0] != inputs.shape[0]:
            raise ValueError(
                f"the encoder must make one row of each input, ({inputs.shape[0]}, d); it made {tuple(rows.shape)}"
            )
        return rows
