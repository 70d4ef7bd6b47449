"""The decision on both scales: a small network a task on the features of both, as the paper states; widths are ours."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from zoo.models.varifocal.scale import no_bias
from zoo.models.varifocal.tasks import Tasks


class Fusion(nn.Module):
    """Linear, ReLU, dropout, linear for each task; a task without classes has none.

    Args:
        dim: features of both scales together.
        tasks: classes of each task.
        hidden: width between.
        drop_rate: of the dropout.
    """

    def __init__(self, dim: int, tasks: Tasks, hidden: int, drop_rate: float | int, **place: Any) -> None:
        super().__init__()
        if hidden < 1:
            raise ValueError(f"mlp_hidden must be at least 1, got {hidden}")
        self.dim, self.hidden, self.drop_rate = dim, hidden, drop_rate
        # Not "type": that is a method of every module.
        self.mlp_type, self.mlp_polarity = (self._mlp(count, **place) for count in tasks)

    def _mlp(self, count: int, **place: Any) -> nn.Sequential | None:
        if count == 0:
            return None
        first, last = nn.Linear(self.dim, self.hidden, **place), nn.Linear(self.hidden, count, **place)
        return nn.Sequential(no_bias(first), nn.ReLU(), nn.Dropout(self.drop_rate), no_bias(last))

    def forward(self, x: Float[Tensor, "batch dim"]) -> tuple[Tensor | None, Tensor | None]:
        return tuple(None if mlp is None else mlp(x) for mlp in (self.mlp_type, self.mlp_polarity))  # type: ignore
