"""Warm start: a new module begins as a copy of what it replaces, as well as it can imitate it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from zoo.composition.composed import Composition
from zoo.composition.pools import TOKEN_POOL
from zoo.composition.probe import example_input
from zoo.composition.slots import Places, Slot
from zoo.composition.spec import Choice
from zoo.composition.specialise import original_class
from zoo.errors import UnsupportedSurgery
from zoo.layers.modes import evaluating

ROWS = 4096
HELD_OUT = 512
ENOUGH = 2048
_IMAGES = 32
#: A reference on rows must give what the module gave in the model: else a token's result hangs on other tokens.
_SAME = 1e-2


@dataclass
class _Old:
    """A module that is about to be replaced, and what it was given.

    Attributes:
        place, choice, module: where, by what, and itself.
        rows: inputs and outputs, an even choice of all that came; no more than are used.
        shape: of one input as it came.
        extra: further arguments that are no tensors.
    """

    place: Slot
    choice: Choice
    module: nn.Module
    rows: tuple[Tensor, Tensor] | None = None
    shape: tuple[int, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)
    _keys: Tensor = field(default_factory=lambda: torch.empty(0))
    _generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    @property
    def whole(self) -> bool:
        """Whether the module works on all tokens of an image at once."""
        return self.choice.slot in ("mixer", "pool")

    def keep(self, x: Tensor, out: Tensor) -> None:
        """Take in a call. Every row that ever came is kept with the same probability."""
        new = (as_rows(x.detach(), self), as_rows(out.detach(), self, is_output=True))
        keys = torch.cat((self._keys, torch.rand(len(new[0]), generator=self._generator)))
        rows = new if self.rows is None else tuple(torch.cat(pair) for pair in zip(self.rows, new, strict=True))
        limit = max(8, ROWS // _tokens(new[0]))
        if len(keys) > limit:
            chosen = keys.argsort()[:limit].sort().values
            keys, rows = keys[chosen], tuple(r[chosen.to(r.device)] for r in rows)
        self._keys, self.rows = keys, (rows[0], rows[1])


class Matcher:
    """Keeps the modules that are about to be replaced and samples of their inputs, then fits the new ones.

    Args:
        model: before the replacement, with the weights to be imitated.
        choices: slot -> what will take its place.
        plan: slot -> the places.
        pretrained: whether the weights are worth imitating: then every module that can do so does, unless told
            `init="own"`; otherwise only those told `init="match"`.
        batches: images, or batches of (images, …); normal random images otherwise.
    """

    def __init__(
        self,
        model: nn.Module,
        choices: Mapping[str, Choice],
        plan: Mapping[str, Places],
        *,
        pretrained: bool,
        batches: Any = None,
    ):
        self._model = model
        self._batches = batches
        self._old: dict[str, _Old] = {}
        for slot, places in plan.items():
            choice = choices[slot]
            able = callable(getattr(choice.target, "imitate", None))
            if choice.init == "match" and not able:
                raise UnsupportedSurgery(f"{choice.name} cannot imitate what it replaces: leave init='match' out")
            own = choice.init == "own" or "init" in choice.options  # who says how it draws its values wants them drawn
            if not able or own or (choice.init is None and not pretrained):
                continue
            for place in places.slots:
                if place.path != TOKEN_POOL:
                    self._old[place.path] = _Old(place, choice, model.get_submodule(place.path))
                elif choice.init == "match":
                    raise UnsupportedSurgery(
                        f"this backbone pools by arithmetic, there is no module for {choice.name} to imitate: leave "
                        f"init='match' out"
                    )

    @torch.no_grad()
    def watch(self) -> None:
        """Run the model and keep samples of what the old modules are given and give."""
        if not self._old:
            return
        handles = []
        for old in self._old.values():

            def keep(module: nn.Module, args: tuple[Any, ...], kwargs: Any, out: Tensor, old: _Old = old) -> None:
                if old.whole and old.shape not in ((), tuple(args[0].shape[1:])):
                    return  # one module at several sizes: the first is enough
                old.shape = tuple(args[0].shape[1:])
                names = old.place.facts.get("names", ())
                given = {**dict(zip(names, args[1:], strict=False)), **kwargs}
                old.extra = {k: v for k, v in given.items() if not isinstance(v, Tensor | None) and v is not False}
                old.keep(args[0], out)

            handles.append(old.module.register_forward_hook(keep, with_kwargs=True))
        try:
            with evaluating(self._model):
                for images in _images(self._model, self._batches):
                    self._model(images)
        finally:
            for handle in handles:
                handle.remove()

    @torch.no_grad()
    def fit(self, composition: Composition) -> None:
        """Fit the new modules, and record how near they came."""
        for change in composition.changes:
            old = self._old.pop(change.path, None)
            if old is None or old.rows is None:
                continue
            new = self._model.get_submodule(change.path)
            error = _fit(new, old)
            if error is not None:
                change.init, change.error = "match", error
            elif old.choice.init == "match":
                raise UnsupportedSurgery(
                    f"{old.choice.name} cannot imitate the {original_class(old.module).__name__} at {change.path!r}: "
                    f"leave init='match' out"
                )


def _fit(new: nn.Module, old: _Old) -> float | None:
    """Fit one module; returns its error on rows it was not fitted to, `None` where it cannot imitate."""
    assert old.rows is not None
    rows, outputs = old.rows
    held_out = max(1, min(HELD_OUT // _tokens(rows), len(rows) // 5))
    place = _on_rows(old.module, old)
    with evaluating(old.module):
        try:
            wanted = place(rows[:held_out])
        except Exception:  # it wants more than rows, such as the size of the map
            return None
        if not old.whole and (wanted - outputs[:held_out]).norm() > _SAME * outputs[:held_out].norm():
            return None
        reference, rest = _without_norm(old, rows[held_out:])
    with _unadapted(new):
        if not new.imitate(reference, _enough(rest)):  # type: ignore[operator]
            return None
    with evaluating(new):
        got = _on_rows(new, old)(rows[:held_out])
    spread = (wanted - wanted.mean(dim=0)).norm()
    return float((got - wanted).norm() / spread.clamp_min(1e-12))


def _without_norm(old: _Old, rows: Tensor) -> tuple[nn.Module, Tensor]:
    """The reference and its inputs, less the norm in it that stays where it is."""
    norm = old.place.facts.get("norm")
    if not norm:
        return _on_rows(old.module, old), rows
    bare = copy.copy(old.module)
    bare._modules = {**old.module._modules, norm: nn.Identity()}
    return _on_rows(bare, old), old.module.get_submodule(norm)(rows) if norm == "norm" else rows


class _OnRows(nn.Module):
    """A module in its place, on rows; its own parts can be looked at through it."""

    def __init__(self, module: nn.Module, old: _Old):
        super().__init__()
        self.module, self.old = module, old

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            value = getattr(self._modules["module"], name)
            return _as_linear(value) if isinstance(value, nn.Conv2d) else value

    def forward(self, rows: Tensor) -> Tensor:
        layout = self.old.place.layout
        if not self.old.whole:
            x = rows[:, :, None, None] if layout == "NCHW" else rows
        elif layout == "NCHW":
            x = rows.transpose(1, 2).reshape(-1, *self.old.shape)
        else:
            x = rows.unsqueeze(1) if layout == "BTNC" else rows.reshape(-1, *self.old.shape)
        return as_rows(self.module(x, **self.old.extra), self.old, is_output=True)


def _on_rows(module: nn.Module, old: _Old) -> nn.Module:
    if isinstance(module, nn.Conv2d):
        return _as_linear(module)
    plain = old.place.layout == "NLC" and not old.extra and old.choice.slot != "pool"
    return module if plain else _OnRows(module, old)


def _as_linear(conv: nn.Conv2d) -> nn.Module:
    """A 1 x 1 convolution as the linear layer that it is, of the same values; others as they are."""
    if conv.kernel_size != (1, 1) or conv.groups != 1 or conv.stride != (1, 1) or conv.padding not in (0, (0, 0)):
        return conv
    linear = nn.Linear(conv.in_channels, conv.out_channels, conv.bias is not None, device="meta")
    linear.weight = nn.Parameter(conv.weight.detach().flatten(1), requires_grad=False)
    if conv.bias is not None:
        linear.bias = nn.Parameter(conv.bias.detach(), requires_grad=False)
    return linear.train(conv.training)


def as_rows(x: Tensor, old: _Old, *, is_output: bool = False) -> Tensor:
    """Inputs or outputs of a place in the form of the contract: (n, C) for heads and MLPs, (B, N, C) for mixers and
    pools, (B, C) for what a pool gives.
    """
    layout = old.place.layout
    if not old.whole:
        x = x.movedim(1, -1) if layout == "NCHW" else x
        return x.reshape(-1, x.shape[-1])
    if old.choice.slot == "pool" and is_output:
        return x.flatten(1)
    if layout == "NCHW":
        return x.flatten(2).transpose(1, 2)
    if layout == "NHWC":
        return x.flatten(1, 2)
    return x.flatten(0, 1) if layout == "BTNC" else x


@contextmanager
def _unadapted(module: nn.Module) -> Iterator[None]:
    """The module as the class that it was written as, without what fits it to its place."""
    adapted = module.__class__
    module.__class__ = original_class(module)
    try:
        yield
    finally:
        module.__class__ = adapted


def _tokens(rows: Tensor) -> int:
    return rows[0, ..., 0].numel()


def _enough(rows: Tensor) -> Tensor:
    """The rows, and as many normal ones of their mean and spread as a fit wants: a head sees but one row an image."""
    missing = ENOUGH - len(rows)
    if rows.ndim > 2 or missing <= 0 or len(rows) < 2:
        return rows
    noise = torch.randn(missing, rows.shape[1], generator=torch.Generator().manual_seed(0)).to(rows)
    return torch.cat((rows, rows.mean(dim=0) + rows.std(dim=0) * noise))


def random_images(count: int, shape: Sequence[int]) -> Tensor:
    """Random images with the statistics of photographs: amplitudes fall as 1 / frequency, channels resemble each other.

    Each has mean 0 and spread 1, as normalised photographs have on the average.

    Args:
        count: how many.
        shape: (channels, height, width).
    """
    channels, height, width = shape
    generator = torch.Generator().manual_seed(0)
    grey = torch.randn(count, 1, height, width, generator=generator)
    noise = grey + 0.3 * torch.randn(count, channels, height, width, generator=generator)
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    frequency = torch.hypot(rows, columns).clamp_min(1 / max(height, width))
    images = torch.fft.irfft2(torch.fft.rfft2(noise) / frequency, s=(height, width))
    std, mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True)
    return (images - mean) / std


def _images(model: nn.Module, batches: Any) -> Iterator[Tensor]:
    example = example_input(model, 1)
    if batches is None:
        batches = random_images(_IMAGES, example.shape[1:]).split(8)
    elif isinstance(batches, Tensor):
        batches = [batches]
    elif isinstance(batches, str) or not isinstance(batches, Iterable):
        raise TypeError(f"init_batches must be images or a loader of batches, got {batches!r}")
    seen = 0
    for batch in batches:
        images = batch[0] if isinstance(batch, tuple | list) else batch
        _check_images(images, example)
        yield images.to(device=example.device, dtype=example.dtype)
        seen += len(images)
        if seen >= ROWS:  # a loader may go on for long
            return
    if seen == 0:
        raise ValueError("init_batches holds no images")


def _check_images(images: Any, example: Tensor) -> None:
    want = f"images as the model takes them, normalised floats of shape (n, {', '.join(map(str, example.shape[1:]))})"
    if not isinstance(images, Tensor):
        raise TypeError(f"init_batches must hold {want}, got a {type(images).__name__}")
    if not images.is_floating_point() or images.ndim != 4 or images.shape[1] != example.shape[1]:
        kind = str(images.dtype).removeprefix("torch.")
        raise ValueError(f"init_batches must hold {want}, got {kind} of shape {tuple(images.shape)}")
    if not len(images):
        raise ValueError("init_batches holds no images")
    if not images.isfinite().all():
        raise ValueError("init_batches holds values that are not finite")
