"""A circuit compiled: which matrices are made of which angles, and the steps that apply them."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from zoo.quantum.engine.pulled import made
from zoo.quantum.engine.steps import BlockStep, Step, Tensors
from zoo.quantum.engine.tables import Affine, Chains, OpMatrix, Table, kronecker, outer
from zoo.quantum.engine.whole import SMALL, Whole
from zoo.weight_cache import WeightCache

#: The name of the matrices on all wires of a small circuit.
WHOLE = "whole"


@dataclass(frozen=True)
class Kind:
    """What a program is compiled for.

    Args:
        own_weights: each sample has weights of its own.
        own_inputs: each sample has inputs of its own.
        lead: states have their batch first, where that is of use.
        given: the initial state is given; else every wire starts in 0.
    """

    own_weights: bool
    own_inputs: bool
    lead: bool
    given: bool


@dataclass
class Vectors:
    """The angles' numbers: (N,) of what all samples share, (N, batch) of each sample's own."""

    shared: Tensor
    own: Tensor


@dataclass
class Start(Table):
    """The product state that the first turns make of 0: a vector a wire, those of samples' own angles first."""

    own: Chains | None
    shared: Chains | None
    order: Tensor
    straight: bool

    @property
    def single(self) -> bool:
        """Whether every wire's vector is a real turn by an angle of the sample's own."""
        return self.shared is None and self.straight and self.own is not None and self.own.single

    @property
    def angles(self) -> Affine:
        """Those of the turns, where it is `single`."""
        assert self.own is not None
        assert self.own.turns is not None
        return self.own.turns.theta

    def make(self, vector: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(2^n, batch), where it is `single`; the wires' vectors, and the products of the first of them."""
        angles = self.angles(vector)
        rows = torch.stack([angles.cos(), angles.sin()], dim=1)
        parts = rows.unbind()
        products = [parts[0]]
        for part in parts[1:]:
            products.append((products[-1].unsqueeze(1) * part).flatten(0, 1))
        return products[-1], (rows, *products[:-1])

    def pull(self, vector: Tensor, kept: tuple[Tensor, ...], gradient: Tensor) -> Tensor:
        rows, *products = kept
        grown: list[Tensor] = []
        for part, before in zip(reversed(rows.unbind()), reversed([None, *products]), strict=True):
            if before is None:
                grown.append(gradient)
            else:
                view = gradient.view(len(before), 2, -1)
                grown.append((view * before.unsqueeze(1)).sum(0))
                gradient = (view * part).sum(1)
        slopes = torch.stack(grown[::-1])
        return self.angles.pull(slopes[:, 1] * rows[:, 0] - slopes[:, 0] * rows[:, 1], vector)


@dataclass
class Bank(Table):
    """(N, 2^k, 2^k) matrices on k wires, from a table of 2 x 2 ones."""

    slots: str
    index: Tensor
    alone: bool


@dataclass
class Program(Table):
    """Steps, and the tables that they read.

    Args:
        n: the number of wires.
        kind: what it was compiled for.
        real: the amplitudes are real.
        mixed: some angle of a sample's own stands beside a shared one, so that both are read as the sample's own.
        lead: states have their batch first.
        spreads: samples' own angles come in only after a start that all share.
        single: few wires start with a real turn of the sample's own each.
        cache: the matrices on all wires of a small circuit, while its weights stay, where no gradients are recorded.
    """

    n: int
    kind: Kind
    real: bool = True
    mixed: bool = False
    start: Start | None = None
    slots: dict[str, Chains] = field(default_factory=dict)
    banks: dict[str, Bank] = field(default_factory=dict)
    phases: dict[str, Affine] = field(default_factory=dict)
    dense: dict[str, OpMatrix] = field(default_factory=dict)
    whole: Whole | None = None
    constants: dict[str, Tensor] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    lead: bool = False
    spreads: bool = False
    single: bool = False
    cache: WeightCache = field(default_factory=WeightCache)

    def settle(self) -> None:
        """Say what follows from the steps and tables."""
        # One matrix is all there is: its product is with long rows.
        alone = self.n <= SMALL and all(isinstance(step, BlockStep) for step in self.steps)
        self.lead = self.kind.lead and not alone
        late = any(name.startswith("own") for name in (*self.slots, *self.phases, *self.dense))
        self.spreads = late and (self.start is None or self.start.own is None)
        self.single = self.n <= SMALL and self.start is not None and self.start.single

    def vectors(self, weights: Tensor, inputs: Tensor, batch: int) -> Vectors:
        """Weights (W,) or (batch, W) and inputs (I,) or (batch, I) as the tables read them."""
        kind = self.kind
        shared = [part for part, own in ((weights, kind.own_weights), (inputs, kind.own_inputs)) if not own]
        if self.mixed:
            own = [part.expand(batch, part.shape[-1]) for part in (weights, inputs)]
        else:
            own = [part for part, own in ((weights, kind.own_weights), (inputs, kind.own_inputs)) if own]
        return Vectors(_joined(shared, weights), _joined(own, weights).t())

    def variables(self, vectors: Vectors, compose: bool) -> Tensors:
        """The tensors that carry gradients, by name.

        Args:
            vectors: the angles.
            compose: only by operations that autograd follows.
        """
        found: Tensors = {}
        tables = {
            name: chains(vectors.own if name.startswith("own") else vectors.shared)
            for name, chains in self.slots.items()
        }
        for name, bank in self.banks.items():
            table = tables[bank.slots]
            count, k = bank.index.shape
            whole = bank.alone and count * k == len(table)
            chosen = table if whole else table.index_select(0, bank.index.flatten())
            if name.startswith("own"):
                chosen = chosen.permute(3, 0, 1, 2).reshape(-1, k, 2, 2)
                found[name] = kronecker(chosen).unflatten(0, (-1, count))
            else:
                found[name] = kronecker(chosen.unflatten(0, (count, k)))
        found |= {name: table for name, table in tables.items() if name.startswith("own turns")}
        if self.whole is not None:
            found[WHOLE] = self._matrices(self.whole, vectors.shared, compose)
        for name, affine in self.phases.items():
            found[name] = affine(vectors.own if name.startswith("own") else vectors.shared)
        for name, matrix in self.dense.items():
            found[name] = matrix(vectors.own if name.startswith("own") else vectors.shared)
        return found

    def _matrices(self, whole: Whole, shared: Tensor, compose: bool) -> Tensor:
        if compose or torch.is_grad_enabled():
            return whole(shared) if compose else made(whole, shared)
        (matrices,) = self.cache.get((shared,), lambda: (whole(shared),))
        assert matrices is not None
        return matrices

    def first(self, vectors: Vectors, batch: int, compose: bool) -> Tensor:
        """(L, 2^n, T): the state that the first turns make of 0; arguments as `variables`."""
        start = self.start
        assert start is not None
        if self.single and not compose:
            state = made(start, vectors.own)
            state = state.t().unsqueeze(2) if self.lead else state.unsqueeze(0)
            return state if self.real else torch.complex(state, torch.zeros_like(state))
        parts = []
        if start.own is not None:
            parts.append(start.own(vectors.own)[:, :, 0])
        if start.shared is not None:
            shared = start.shared(vectors.shared)
            parts.append(shared.expand(-1, -1, batch) if parts else shared)
        table = parts[0] if len(parts) == 1 else torch.cat(parts)
        wires = table if start.straight else table.index_select(0, start.order)  # (n, 2, batch)
        wires = wires.transpose(1, 2).unsqueeze(3).contiguous() if self.lead else wires.unsqueeze(1)
        # Complex before it is large.
        return outer(wires if self.real or wires.is_complex() else torch.complex(wires, torch.zeros_like(wires)))


def _joined(parts: list[Tensor], like: Tensor) -> Tensor:
    parts = [part for part in parts if part.shape[-1]]
    if len(parts) == 1:
        return parts[0]
    return torch.cat(parts, dim=-1) if parts else like.new_zeros(1)
