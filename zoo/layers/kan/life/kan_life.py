"""What a KAN does with a sample of its inputs, besides learning from it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.eager import no_autocast
from zoo.layers.kan.life import grid
from zoo.layers.kan.life.coverage import coverage
from zoo.layers.kan.life.pruning import Pruned, prune
from zoo.layers.kan.life.regularise import METRICS, sample_regularization
from zoo.layers.kan.life.sample import Stage, sample_rows, visits
from zoo.layers.kan.life.scores import attribution, edge_deviations
from zoo.layers.modes import evaluating

_NOTABLE_CHANGE = 0.3


class KANLife(nn.Module):
    """A KAN layer or network that can be measured on a sample, given finer knots and pruned.

    A training run in the manner of pykan, on a small table x (rows, 4), y (rows, 1):

        kan = KAN([4, 5, 1], grid_size=3)

        def train(steps, strength):
            optimizer = torch.optim.LBFGS(kan.parameters(), line_search_fn="strong_wolfe")

            def loss():
                optimizer.zero_grad()
                value = F.mse_loss(kan(x), y) + strength * kan.sample_regularization(x)
                value.backward()
                return value

            for step in range(steps):
                if step < steps // 2 and step % 5 == 0:
                    kan.update_grid(x)
                optimizer.step(loss)

        train(50, 1e-3)
        kan.prune(x)
        kan.refine(10, x)
        train(50, 0.0)

    Every method runs in evaluation mode and leaves the mode as it was; none draws random numbers. Samples have the
    shape (*, in_features) and must be finite and of two rows or more.
    """

    def stages(self) -> list[Stage]:
        """The layers, each with the nodes behind it or None."""
        raise NotImplementedError(f"{type(self).__name__} does not say of which layers it consists")

    @contextmanager
    def _measured_on(self, x: Tensor, least: int = 2) -> Iterator[tuple[list[Stage], Tensor]]:
        """The stages and the rows of a sample, in evaluation mode and full precision."""
        stages = self.stages()
        rows = sample_rows(x, stages[0][0].in_features, least)
        with evaluating(self), no_autocast(rows):
            yield stages, rows

    @torch.no_grad()
    def update_grid(
        self,
        x: Float[Tensor, "*batch in_features"],
        *,
        grid_eps: float = 0.02,
        rule: str = "efficient",
        margin: float | None = None,
    ) -> None:
        """Lay the knots of B-splines where the inputs of every layer are; the curves keep their values there.

        As nearly as the new knots allow: a warning says so where a layer's outputs change by 30 % of their deviation or
        more, as a single row far out makes them. Layer by layer, each on what the layers before it then give.
        Parameters are changed in place. An input that is the same in all rows keeps its knots.

        Args:
            x: sample.
            grid_eps: 1 for even knots, 0 for quantiles, between them a mixture. (Many descriptions say the reverse.)
            rule: "efficient", as efficient-kan takes quantiles, or "pykan".
            margin: by how much even knots go beyond the data; default 0.01, and 0 for "pykan".

        Raises:
            TypeError: a layer without B-splines.
            ValueError: a value out of range; fewer than two rows, NaN or infinity in x.
        """
        with self._measured_on(x) as (stages, rows):
            for layer, _ in stages:
                grid.spline_basis(layer)
            for i, (layer, inputs) in enumerate(visits(stages, rows)):
                change = grid.update_grid(layer, inputs, grid_eps, rule, margin)
                if change >= _NOTABLE_CHANGE:
                    warnings.warn(
                        f"update_grid changed the outputs of layer {i} by {change:.0%} of their deviation: too few "
                        "intervals are left where most rows lie. Leave out rows of x that are far from the others, or "
                        "take a larger grid",
                        stacklevel=3,
                    )

    @torch.no_grad()
    def refine(self, grid_size: int, x: Float[Tensor, "*batch in_features"]) -> None:
        """More intervals for the B-splines of every layer, between the same ends: the curves stay what they were.

        Exactly so where the new knots have the old ones among them, for a multiple of the grid size; otherwise as
        nearly as may be on the sample. Beyond the ends a curve falls to 0 sooner than before where no sample lies;
        where some lie, it stays and gets no finer: `update_grid` afterwards moves knots there. `weight` becomes a new
        parameter: an optimizer must be made anew.

        Args:
            grid_size: intervals, more than there are.
            x: sample.

        Raises:
            TypeError: a layer without B-splines.
            ValueError: a grid that is not larger; fewer than two rows, NaN or infinity in x.
        """
        with self._measured_on(x) as (stages, rows):
            for layer, _ in stages:
                grid.check_finer(layer, grid_size)
            for layer, inputs in list(visits(stages, rows)):
                grid.refine(layer, grid_size, inputs)

    @torch.no_grad()
    def coverage(self, x: Float[Tensor, "*batch in_features"]) -> list[float]:
        """For each layer, the fraction of its inputs in the range of its basis: see `zoo.layers.kan.life.coverage`.

        Args:
            x: sample, of one row or more.
        """
        with self._measured_on(x, least=1) as (stages, rows):
            return [coverage(layer, inputs) for layer, inputs in visits(stages, rows)]

    @torch.no_grad()
    def edge_deviations(self, x: Float[Tensor, "*batch in_features"]) -> list[Tensor]:
        """For each layer, (out, in): the standard deviation of every edge's curve over the sample.

        Args:
            x: sample.
        """
        with self._measured_on(x) as (stages, rows):
            return [edge_deviations(layer, inputs) for layer, inputs in visits(stages, rows)]

    @torch.no_grad()
    def edge_scores(self, x: Float[Tensor, "*batch in_features"]) -> list[Tensor]:
        """For each layer, (out, in): how much of the outputs' deviation goes over every edge.

        Args:
            x: sample.
        """
        with self._measured_on(x) as measured:
            return attribution(*measured).edges

    @torch.no_grad()
    def node_scores(self, x: Float[Tensor, "*batch in_features"]) -> list[Tensor]:
        """The same for nodes: first of the inputs, which scores features, then of the nodes behind each layer.

        Args:
            x: sample.
        """
        with self._measured_on(x) as measured:
            return attribution(*measured).nodes

    def sample_regularization(
        self,
        x: Float[Tensor, "*batch in_features"],
        *,
        metric: str = METRICS[0],
        l1: float = 1.0,
        entropy: float = 2.0,
        coefficients: float = 0.0,
        differences: float = 0.0,
    ) -> Float[Tensor, ""]:
        """A penalty that makes the network sparse, measured on the sample; differentiable. See `regularise`.

        Args:
            x: sample, such as the batch.
            metric: what is penalised. Of edges: "edge_forward_spline_n", the deviation of a curve over the spread of
                its input; "edge_forward_sum", which is the same here; "edge_forward_spline_u", the deviation;
                "edge_backward", the score. Of nodes: "node_backward", the score.
            l1: weight of their sum.
            entropy: weight of the entropies of their shares in rows and columns.
            coefficients: weight of the sizes of the coefficients.
            differences: weight of the differences between coefficients that follow one another.

        Raises:
            ValueError: an unknown metric; fewer than two rows, NaN or infinity in x.
        """
        with self._measured_on(x) as measured:
            return sample_regularization(*measured, metric, l1, entropy, coefficients, differences)

    def prune(
        self,
        x: Float[Tensor, "*batch in_features"],
        node_threshold: float = 1e-2,
        edge_threshold: float = 3e-2,
    ) -> Pruned:
        """Remove hidden nodes of low score, then mask edges of low score.

        What is left computes what the network would with the nodes' outgoing edges and the masked ones set to 0.
        Layers get smaller, with new parameters: an optimizer must be made anew. A node before a norm, or before a basis
        of one's own, stays where it is and loses its outgoing edges. Where a layer would lose everything, the best
        stays and a warning names the layer.

        Args:
            x: sample.
            node_threshold: nodes whose score is not above it go.
            edge_threshold: the same for edges.

        Returns:
            What was taken out.

        Raises:
            ValueError: a negative threshold; fewer than two rows, NaN or infinity in x; scores that are not finite.
        """
        with self._measured_on(x) as measured:
            return prune(*measured, node_threshold, edge_threshold)
