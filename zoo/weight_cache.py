"""What follows from parameters alone, kept while they stay as they are."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from zoo.eager import autocasts, must_compose

Values = tuple[Tensor | None, ...]


class _Kept(NamedTuple):
    """What was computed, and from what.

    Args:
        key: what tells the tensors from others, and from themselves after an edit.
        samples: a few numbers of each.
        values: what follows from them.
        alive: their memory: given up, it could become that of a successor, so it is held here.
    """

    key: tuple[Any, ...]
    samples: list[Tensor]
    values: Values
    alive: list[Any]


class WeightCache:
    """Keeps the tensors that were last computed from some parameters, until one of those changes.

    A change is another tensor, an edit in place, another dtype, device or shape, another autocast, and any step of an
    optimizer: torch's fused optimizers edit without a trace. So do edits through `tensor.data`: they are seen where
    they change one of 64 numbers spread over a tensor, as a moving average of parameters does; `clear()` after an
    edit of single numbers. (Frozen, and while a CUDA graph is captured, these numbers are not looked at.)

    Nothing is kept where gradients are recorded, under compilation, export and `torch.func` transforms, and for
    tensors made in inference mode, whose edits leave no trace either, unless the cache is frozen. Copies and pickles
    are empty.
    """

    _steps: ClassVar[int] = 0
    _watches: ClassVar[bool] = False

    def __init__(self) -> None:
        self.frozen = False
        self.dtype: torch.dtype | None = None
        self._kept: _Kept | None = None

    def get(self, tensors: tuple[Tensor, ...], build: Callable[[], Values]) -> Values:
        """What `build` makes of the tensors: kept from an earlier call, or made now.

        Args:
            tensors: everything that `build` reads.
            build: called without arguments.
        """
        if must_compose(*tensors):
            return build()
        if torch.is_grad_enabled():
            self.clear()
            return build()
        if any(tensor.is_meta for tensor in tensors):  # there is nothing to look at
            return build()
        if not self.frozen and any(tensor.is_inference() for tensor in tensors):
            return build()
        key = (WeightCache._steps, *(_state(tensor) for tensor in tensors))
        kept = self._kept
        if kept is None or key != kept.key or not self._same(tensors, kept.samples):
            self.clear()
            self._watch_optimizers()
            values = tuple(None if value is None else value.to(self.dtype or value.dtype) for value in build())
            alive = [tensor.untyped_storage() for tensor in tensors]
            # In one step: threads may ask for what follows from other weights.
            self._kept = kept = _Kept(key, [_sample(tensor).clone() for tensor in tensors], values, alive)
        return kept.values

    def clear(self) -> None:
        """Forget what was kept."""
        self._kept = None

    def freeze(self, dtype: torch.dtype | None = None) -> None:
        """Keep values of tensors made in inference mode too, and all values in `dtype`, if given, until `thaw`.

        Raises:
            TypeError: no floating type.
        """
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise TypeError(f"dtype must be a floating type such as torch.bfloat16, got {dtype!r}")
        self.clear()
        self.frozen, self.dtype = True, dtype

    def thaw(self) -> None:
        """Undo `freeze`."""
        self.clear()
        self.frozen, self.dtype = False, None

    def _same(self, tensors: tuple[Tensor, ...], samples: list[Tensor]) -> bool:
        """Whether a few numbers of each tensor are what they were."""
        if self.frozen or (tensors[0].is_cuda and torch.cuda.is_current_stream_capturing()):
            return True
        return all(torch.equal(_sample(t), kept) for t, kept in zip(tensors, samples, strict=True))

    @classmethod
    def _watch_optimizers(cls) -> None:
        if not cls._watches:
            register_optimizer_step_post_hook(_count_step)
            cls._watches = True

    def __getstate__(self) -> dict[str, Any]:
        return {"frozen": self.frozen, "dtype": self.dtype}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()
        self.frozen, self.dtype = state["frozen"], state["dtype"]


def _count_step(*_: Any) -> None:
    WeightCache._steps += 1


def _sample(tensor: Tensor) -> Tensor:
    """64 numbers or fewer, spread over a tensor."""
    if tensor.numel() <= 64:
        return tensor.detach()
    if not tensor.is_contiguous():
        return tensor.detach()[..., :1].flatten()[:64]
    numbers = tensor.detach().view(-1)
    return numbers[:: max(numbers.numel() // 64, 1)][:64]


def _state(tensor: Tensor) -> tuple[Any, ...]:
    version = None if tensor.is_inference() else tensor._version
    cast = torch.get_autocast_dtype(tensor.device.type) if autocasts(tensor) else None
    return tensor.data_ptr(), version, tensor.dtype, tensor.device, tensor.shape, tensor.stride(), cast
