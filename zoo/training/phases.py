"""Runs in phases: epochs of each, and a schedule that begins anew with every one."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zoo.training.optimise import build_schedule
from zoo.training.options import Options


def shares(epochs: int, parts: Sequence[int]) -> tuple[int, ...]:
    """Epochs of phases whose lengths are as `parts`; each gets one at least, what is left by largest remainder.

    Args:
        epochs: in all, at least as many as phases.
        parts: lengths of the phases, in any unit.
    """
    exact = [epochs * part / sum(parts) for part in parts]
    found = [max(1, int(length)) for length in exact]
    while sum(found) > epochs:  # of those that can give one, the one that has most too much
        found[max(range(len(found)), key=lambda k: (found[k] > 1, found[k] - exact[k]))] -= 1
    while sum(found) < epochs:
        found[max(range(len(found)), key=lambda k: exact[k] - found[k])] += 1
    return tuple(found)


class PhasedSchedule:
    """The schedule of each phase, one after the other.

    Args:
        optimiser: its groups get their rates.
        options: of the run; of the warm-up, counted in epochs, each phase has as much.
        lengths: updates of each phase.
        epochs: of each phase.
    """

    def __init__(
        self, optimiser: torch.optim.Optimizer, options: Options, lengths: Sequence[int], epochs: Sequence[int]
    ):
        self.lengths, self.parts = list(lengths), []
        for length, count in zip(lengths, epochs, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = options.lr
            warmup = options.warmup_epochs / max(count, 1)
            self.parts.append(
                build_schedule(
                    optimiser,
                    options.sched,
                    lr=options.lr,
                    min_lr=options.min_lr,
                    epochs=1,
                    warmup=min(warmup, 1.0),
                    updates=length,
                )
            )

    def step_update(self, update: int) -> None:
        """Set the learning rate of an update of the run, counted from 0."""
        for length, part in zip(self.lengths[:-1], self.parts[:-1], strict=True):
            if update < length:
                return part.step_update(update)
            update -= length
        return self.parts[-1].step_update(update)
