"""Learned dispatch: GRUs that read the scores of a case row by row and column by column."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from zoo.layers.karyonet.cases import check_case, check_case_mask, random_orders
from zoo.layers.karyonet.gru import run_gru

_ORDER = ("lstm_row", "lstm_col", "lstm_row2", "lstm_col2")


class KaryotypeAssignment(nn.Module):
    """The deep assignment module (DAM) of KaryoNet: the scores of all chromosomes of a case, refined together.

    A bidirectional GRU of two layers runs over the N C scores of a case as one sequence, row after row; a second one
    over what it gives, column after column; two more do the same again; two linear layers, with nothing between, make
    one score of each entry. Any number of chromosomes and of classes will do. The names of the parameters are the
    official code's, in which GRUs are called `lstm`.

    The result depends on the order of the chromosomes: nothing in the module is symmetric in it. `num_orders` > 1
    takes the mean over that many random orders, which run as one batch; all cases of one call have the same ones, so
    that with a `seed` the scores of a case depend neither on its batch nor on padding.

        refine = zoo.layers.KaryotypeAssignment()
        scores = refine(logits)                                # [N, 24], or [cases, N, 24] with mask=
        karyotype = zoo.karyotype.dispatch(scores.log_softmax(-1))

    Xia et al., "KaryoNet: Chromosome Recognition With End-to-End Combinatorial Optimization Network", IEEE TMI 2023.

    Args:
        hidden_dim: width of each direction; the predecessor (MICCAI 2022) has 256, and takes a softmax first.
        head_dim: between the two linear layers.
        num_layers: of each GRU.
        num_orders: random orders of the chromosomes whose results are averaged; 1: the order that is given.
        seed: of the random orders, the same in every call; None: torch's own generator.
        device, dtype: of the parameters.
    """

    def __init__(
        self,
        hidden_dim: int = 64,
        *,
        head_dim: int = 64,
        num_layers: int = 2,
        num_orders: int = 1,
        seed: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, value in (
            ("hidden_dim", hidden_dim),
            ("head_dim", head_dim),
            ("num_layers", num_layers),
            ("num_orders", num_orders),
        ):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.hidden_dim, self.num_orders, self.seed = hidden_dim, num_orders, seed
        options = {"device": device, "dtype": dtype}
        for name in _ORDER:
            width = 1 if name == "lstm_row" else 2 * hidden_dim
            self.add_module(name, nn.GRU(width, hidden_dim, num_layers, bidirectional=True, **options))
        self.hidden2tag_1 = nn.Linear(2 * hidden_dim, head_dim, **options)
        self.hidden2tag_3 = nn.Linear(head_dim, 1, **options)

    def reset_parameters(self) -> None:
        """Draw new parameters, as torch draws those of these layers."""
        for name in _ORDER:
            self.get_submodule(name).reset_parameters()  # pyright: ignore[reportCallIssue]
        self.hidden2tag_1.reset_parameters()
        self.hidden2tag_3.reset_parameters()

    def forward(
        self,
        logits: Float[Tensor, "*cases chromosomes classes"],
        mask: Bool[Tensor, "*cases chromosomes"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "*cases chromosomes classes"]:
        """Refined scores.

        Args:
            logits: of a case [N, C], or of several [B, N, C].
            mask: True where there is a chromosome; the rest is padding, whose scores are 0.
            generator: of the random orders, in place of `seed`; on the CPU.

        Raises:
            TypeError: no tensors of floating point, or of truth values for the mask.
            ValueError: no case or more than one axis of them, a mask of another shape, or a case without chromosomes.
        """
        check_case(logits, "logits")
        mask = check_case_mask(mask, logits.shape[:-1])
        cases = logits.reshape(-1, *logits.shape[-2:])
        there = None if mask is None else mask.reshape(-1, mask.shape[-1])
        if self.num_orders == 1 and there is None:
            return self._refine(cases, None).reshape(logits.shape)
        orders = self._orders(cases, there, generator)  # chromosomes first, padding last
        repeated = cases.repeat(self.num_orders, 1, 1)
        index = orders[..., None].expand_as(repeated)
        sizes = None if there is None else there.sum(-1).repeat(self.num_orders)
        refined = self._refine(repeated.gather(1, index), sizes)
        back = torch.zeros_like(refined).scatter(1, index, refined)
        mean = back.view(self.num_orders, *cases.shape).mean(0)
        return (mean if there is None else mean.where(there[..., None], 0.0)).reshape(logits.shape)

    def _orders(self, cases: Tensor, there: Tensor | None, generator: torch.Generator | None) -> Tensor:
        if self.num_orders == 1:
            assert there is not None
            return (~there).long().argsort(dim=-1, stable=True)
        if generator is None and self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed)
        return random_orders(self.num_orders, cases.shape[:2], there, generator, cases.device)

    def _refine(self, cases: Tensor, sizes: Tensor | None) -> Tensor:
        """Scores of cases whose chromosomes come first."""
        count, rows, classes = cases.shape
        by_column = _column_major(rows, classes, count, sizes, cases.device)
        by_row = by_column.argsort(dim=0)
        lengths = None if sizes is None else sizes * classes
        x = cases.reshape(count, rows * classes).T[..., None]
        for name in _ORDER:
            gru = self.get_submodule(name)
            assert isinstance(gru, nn.GRU)
            if "col" in name:
                x = _reorder(run_gru(gru, _reorder(x, by_column), lengths), by_row)
            else:
                x = run_gru(gru, x, lengths)
        scores = self.hidden2tag_3(self.hidden2tag_1(x))
        return scores[..., 0].T.reshape(cases.shape)

    def extra_repr(self) -> str:
        """What the submodules do not show."""
        seed = "" if self.seed is None else f", seed={self.seed}"
        return f"num_orders={self.num_orders}{seed}"


def _column_major(
    rows: int, classes: int, count: int, sizes: Tensor | None, device: torch.device
) -> Int[Tensor, "steps cases"]:
    """Where each entry of a case in column-major order stands in row-major order; padding stays behind the rest."""
    steps = torch.arange(rows * classes, device=device)[:, None].expand(-1, count)
    filled = torch.full((count,), rows, device=device) if sizes is None else sizes
    return torch.where(steps < filled * classes, steps % filled * classes + steps // filled, steps)


def _reorder(x: Tensor, index: Tensor) -> Tensor:
    return x.gather(0, index[..., None].expand_as(x))
