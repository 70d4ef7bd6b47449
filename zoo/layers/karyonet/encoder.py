"""A transformer encoder whose attention is weighed by a probability for every pair."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class WeighedAttention(nn.Module):
    """softmax(Q K' / sqrt(d)) P, every row divided by its sum: attention with log P added to its logits.

    Args:
        dim: of the tokens.
        num_heads: all weighed alike.
        dropout: of the weights, in training.
        device, dtype: of the parameters.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        dropout: float | int = 0.0,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"dim must be a multiple of num_heads, got {dim} and {num_heads}")
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        self.num_heads, self.dropout = num_heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim, **options))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim, **options))
        self.out_proj = nn.Linear(dim, dim, **options)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier's weights, as DETR's encoder draws them, and biases of 0."""
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.in_proj_bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, x: Float[Tensor, "cases n dim"], log_weights: Float[Tensor, "cases n n"]
    ) -> Float[Tensor, "cases n dim"]:
        """Attend to token j from token i with log P(i, j) at [:, i, j]; -inf for a token that is none."""
        parts = functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = parts.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=log_weights[:, None].to(query.dtype),
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out_proj(found.transpose(1, 2).flatten(2))


# Parameters are named as in torch's own `TransformerEncoderLayer`, which cannot stand here: it wants the weights of
# pairs once for every head, and without gradients, in evaluation, takes a path that gives NaN for weights that are not
# truth values.
class EncoderLayer(nn.Module):
    """x = norm(x + attention(x)), then x = norm(x + linear(relu(linear(x)))): norms come last, there are no positions.

    Args:
        dim, num_heads, dropout: as of `WeighedAttention`.
        ff_dim: between the two linear layers.
        device, dtype: of the parameters.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        ff_dim: int = 2048,
        dropout: float | int = 0.1,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        self.self_attn = WeighedAttention(dim, num_heads, dropout, **options)
        self.linear1 = nn.Linear(dim, ff_dim, **options)
        self.linear2 = nn.Linear(ff_dim, dim, **options)
        self.norm1 = nn.LayerNorm(dim, **options)
        self.norm2 = nn.LayerNorm(dim, **options)
        self.dropout = nn.Dropout(dropout)
        self._xavier()

    def reset_parameters(self) -> None:
        """Draw new parameters: Xavier's weights, biases as torch draws them."""
        for layer in (self.self_attn, self.linear1, self.linear2, self.norm1, self.norm2):
            layer.reset_parameters()
        self._xavier()

    def _xavier(self) -> None:
        for layer in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(layer.weight)

    def forward(
        self, x: Float[Tensor, "cases n dim"], log_weights: Float[Tensor, "cases n n"]
    ) -> Float[Tensor, "cases n dim"]:
        """Arguments as of `WeighedAttention.forward`."""
        x = self.norm1(x + self.dropout(self.self_attn(x, log_weights)))
        return self.norm2(x + self.dropout(self.linear2(self.dropout(functional.relu(self.linear1(x))))))


class Encoder(nn.Module):
    """Layers one after another, all with the same weights of pairs.

    Args:
        dim, num_heads, ff_dim, dropout, device, dtype: as of `EncoderLayer`.
        num_layers: how many.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        ff_dim: int = 2048,
        num_layers: int = 3,
        dropout: float | int = 0.1,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        self.layers = nn.ModuleList(EncoderLayer(dim, num_heads, ff_dim, dropout, **options) for _ in range(num_layers))

    def forward(
        self, x: Float[Tensor, "cases n dim"], log_weights: Float[Tensor, "cases n n"]
    ) -> Float[Tensor, "cases n dim"]:
        """Arguments as of `WeighedAttention.forward`."""
        for layer in self.layers:
            x = layer(x, log_weights)
        return x
