"""How a circuit is simulated and differentiated, by names and numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.naming import check_keywords, did_you_mean
from zoo.quantum.integers import integer
from zoo.quantum.noise.model import NoiseModel
from zoo.quantum.running.shift import METHODS as SHIFTS
from zoo.quantum.shots import Reading, check_shots

NOISY = ("density", "trajectories")
WIDE = ("lightcone", "mps")
METHODS = ("auto", "statevector", "reference", *NOISY, *WIDE)
DIFF_METHODS = ("auto", "adjoint", "backprop", *SHIFTS)


@dataclass(frozen=True)
class Options:
    """How a circuit is simulated and differentiated.

    Args:
        method: "statevector" (all amplitudes, compiled), "reference" (the same, gate after gate), "density" (exact
            noise, up to about 10 wires), "trajectories" (pure states with noise drawn), "lightcone" (expectations from
            the gates that each depends on), "mps" (matrix product state); "auto": the fastest that fits into memory.
        diff_method: "adjoint", "backprop" (through every operation), "parameter_shift", "finite_diff", "spsa"; "auto":
            the fastest exact one, parameter shift with shots.
        shots: runs a basis of measurement; None for exact results.
        noise: a `NoiseModel`: channels after gates, error of the readout.
        generator: what draws samples, trajectories and directions.
        trajectories: of how many trajectories the mean is taken, without shots.
        max_bond: the widest bond of a matrix product state.
        report: is told the weight that a matrix product state discarded, (B,).
        max_memory: bytes that states may take, at least 1; by default 80 % of what is free. Of a matrix product state
            nothing is known beforehand but its start and the size of the result.
        directions: of how many directions "spsa" takes the mean.
        step: how far "finite_diff" and "spsa" move the angles; by default the cube root of the type's precision, 0.1
            with shots.
    """

    method: str = "auto"
    diff_method: str = "auto"
    shots: int | None = None
    noise: NoiseModel | None = None
    generator: torch.Generator | None = None
    trajectories: int = 128
    max_bond: int = 64
    report: Callable[[Tensor], Any] | None = None
    max_memory: int | None = None
    directions: int = 1
    step: float | None = None

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("method", self.method, METHODS),
            ("diff_method", self.diff_method, DIFF_METHODS),
        ):
            if value not in allowed:
                hint = did_you_mean(str(value), allowed)
                raise ValueError(f"{name} is one of {', '.join(map(repr, allowed))}, got {value!r}{hint}")
        for name in ("trajectories", "max_bond", "directions"):
            integer(name, getattr(self, name))
        for name, value, kind, what in (
            ("noise", self.noise, NoiseModel, "a NoiseModel; NoiseModel.from_dict makes one of a dict"),
            ("generator", self.generator, torch.Generator, "a torch.Generator"),
        ):
            if value is not None and not isinstance(value, kind):
                raise TypeError(f"{name} is {what}; got {value!r}")
        if self.report is not None and not callable(self.report):
            raise TypeError(f"report is a function of what was discarded; got {self.report!r}")
        if self.step is not None and not self.step > 0:
            raise ValueError(f"step must be above 0, got {self.step}")
        if self.max_memory is not None and not self.max_memory >= 1:
            raise ValueError(f"max_memory must be at least 1 byte, got {self.max_memory}")
        if self.shots is not None:
            check_shots(self.shots, self.diff_method)

    @property
    def reading(self) -> Reading:
        """How outcomes are read."""
        return Reading(self.shots, None if self.noise is None else self.noise.readout, self.generator)

    @staticmethod
    def of(given: dict[str, Any]) -> "Options":
        if not given:
            return _PLAIN
        check_keywords(given, Options.__dataclass_fields__, "a simulation")
        return Options(**given)

    @staticmethod
    def of_states(given: dict[str, Any]) -> "Options":
        """Options for what no device gives: amplitudes and density matrices.

        Raises:
            ValueError: shots, or a way to a gradient that goes by measurements.
        """
        options = Options.of(given)
        if options.shots is not None or options.diff_method in SHIFTS:
            raise ValueError(
                "states are computed, not measured: no shots, and diff_method='auto', 'adjoint' or 'backprop'; "
                f"got shots={options.shots}, diff_method={options.diff_method!r}"
            )
        return options


_PLAIN = Options()
