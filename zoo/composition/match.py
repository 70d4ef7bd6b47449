"""Warm start: a new module begins as a copy of what it replaces, as well as it can imitate it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from zoo.composition.composed import Composition
from zoo.composition.pools import TOKEN_POOL
from zoo.composition.probe import evaluating, example_input
from zoo.composition.slots import Places, Slot
from zoo.composition.spec import Choice
from zoo.composition.specialise import original_class
from zoo.errors import UnsupportedSurgery

ROWS = 4096
HELD_OUT = 512
ENOUGH = 2048
_IMAGES = 32


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
        self._old: dict[str, tuple[Slot, Choice, nn.Module]] = {}
        self._inputs: dict[str, list[Tensor]] = {}
        for slot, places in plan.items():
            choice = choices[slot]
            able = callable(getattr(choice.target, "imitate", None))
            if choice.init == "match" and not able:
                raise UnsupportedSurgery(f"{choice.name} cannot imitate what it replaces: leave init='match' out")
            if not able or choice.init == "own" or (choice.init is None and not pretrained):
                continue
            for place in places.slots:
                if place.path != TOKEN_POOL:  # a model that pools by arithmetic has no module to imitate
                    self._old[place.path] = (place, choice, model.get_submodule(place.path))

    @torch.no_grad()
    def watch(self) -> None:
        """Run the model and keep samples of what the old modules are given."""
        if not self._old:
            return
        handles = []
        for path, (place, _, old) in self._old.items():

            def keep(module: nn.Module, args: tuple[Any, ...], path: str = path, place: Slot = place) -> None:
                rows = as_rows(args[0], place)
                self._inputs.setdefault(path, []).append(rows.detach())

            handles.append(old.register_forward_pre_hook(keep))
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
            if change.path not in self._old or change.path not in self._inputs:
                continue
            place, choice, old = self._old[change.path]
            new = self._model.get_submodule(change.path)
            rows = _sample(torch.cat(self._inputs.pop(change.path)))
            held_out = max(1, min(HELD_OUT // _tokens(rows), len(rows) // 5))
            reference = _OnRows(old) if place.layout == "NCHW" and rows.ndim == 2 else old
            with _unadapted(new):
                fitted = new.imitate(reference, _enough(rows[held_out:]))  # type: ignore[operator]
            if not fitted:
                if choice.init == "match":
                    raise UnsupportedSurgery(
                        f"{choice.name} cannot imitate the {original_class(old).__name__} at {change.path!r}: leave "
                        f"init='match' out"
                    )
                continue
            with evaluating(new), evaluating(old), _unadapted(new):
                wanted, got = reference(rows[:held_out]), new(rows[:held_out])
            spread = (wanted - wanted.mean(dim=0)).norm()
            change.init = "match"
            change.error = float((got - wanted).norm() / spread.clamp_min(1e-12))


class _OnRows(nn.Module):
    """A module for maps, on rows; its own parts can be looked at through it."""

    def __init__(self, old: nn.Module):
        super().__init__()
        self.old = old

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._modules["old"], name)

    def forward(self, rows: Tensor) -> Tensor:
        return self.old(rows[:, :, None, None])[:, :, 0, 0]


def as_rows(x: Tensor, place: Slot) -> Tensor:
    """The inputs of a place in the form of the contract: rows for heads and MLPs, sequences or maps for mixers."""
    if place.layout == "NCHW":
        x = x.movedim(1, -1)
    return x if "num_heads" in place.wishes else x.reshape(-1, x.shape[-1])


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


def _sample(rows: Tensor) -> Tensor:
    """At most `ROWS` rows, an even choice of all."""
    limit = max(8, ROWS // _tokens(rows))
    if len(rows) <= limit:
        return rows
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(rows), generator=generator)[:limit]
    return rows[chosen.to(rows.device)]


def _enough(rows: Tensor) -> Tensor:
    """The rows, and as many normal ones of their mean and spread as a fit wants: a head sees but one row an image."""
    missing = ENOUGH - len(rows)
    if rows.ndim > 2 or missing <= 0 or len(rows) < 2:
        return rows
    noise = torch.randn(missing, rows.shape[1], generator=torch.Generator().manual_seed(0)).to(rows)
    return torch.cat((rows, rows.mean(dim=0) + rows.std(dim=0) * noise))


def _images(model: nn.Module, batches: Any) -> Iterator[Tensor]:
    example = example_input(model, 1)
    if batches is None:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(_IMAGES, *example.shape[1:], generator=generator)
        batches = images.split(8)
    elif isinstance(batches, Tensor):
        batches = [batches]
    for batch in batches:
        images = batch[0] if isinstance(batch, tuple | list) else batch
        yield images.to(device=example.device, dtype=example.dtype)
