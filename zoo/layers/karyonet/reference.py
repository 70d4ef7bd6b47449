"""KaryoNet's modules as the official algorithm runs them: slow, plain, and what the fast forms must equal."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from zoo.layers.karyonet.assignment import KaryotypeAssignment
from zoo.layers.karyonet.encoder import EncoderLayer
from zoo.layers.karyonet.interaction import CaseInteraction
from zoo.layers.karyonet.pair_map import PairMap


def plain_assignment(module: KaryotypeAssignment, logits: Float[Tensor, "n classes"]) -> Float[Tensor, "n classes"]:
    """Four calls of `torch.nn.GRU` over one sequence each, batch 1, and two linear layers."""
    count, classes = logits.shape
    x = logits.reshape(-1, 1, 1)
    for name in ("lstm_row", "lstm_col", "lstm_row2", "lstm_col2"):
        gru = module.get_submodule(name)
        if "col" in name:
            columns = x.view(count, classes, -1).transpose(0, 1).reshape(count * classes, 1, -1)
            x = gru(columns)[0].view(classes, count, -1).transpose(0, 1).reshape(count * classes, 1, -1)
        else:
            x = gru(x)[0]
    return module.hidden2tag_3(module.hidden2tag_1(x)).view(count, classes)


def plain_pair_map(module: PairMap, x: Float[Tensor, "n dim"]) -> Float[Tensor, "n n 2"]:
    """Logits of all pairs from the map of pairs, [1, 2 dim, N, N]."""
    count = len(x)
    pairs = torch.cat([x[None].expand(count, -1, -1), x[:, None].expand(-1, count, -1)], dim=-1)
    y = module.bn0(pairs.permute(2, 0, 1)[None])
    y = functional.relu(module.conv10(y))
    y = functional.relu(module.bn1(module.conv11(y)))
    y = functional.relu(module.conv20(y))
    y = functional.relu(module.bn2(module.conv21(y)))
    y = functional.relu(module.bn3(module.conv3(y)))
    y = functional.relu(module.bn4(module.conv4(y)))
    return module.conv5(y)[0].permute(1, 2, 0)


def plain_interaction(
    module: CaseInteraction, features: Float[Tensor, "n dim"]
) -> tuple[Float[Tensor, "n dim"], Float[Tensor, "n n 2"]]:
    """Features and logits of pairs; the attention is softmaxed, multiplied by P and divided by the sums of its rows."""
    logits = plain_pair_map(module.pair_map, features)
    weights = logits.softmax(-1)[..., 0]
    x = features
    for layer in module.encoder.layers:
        assert isinstance(layer, EncoderLayer)
        attention = layer.self_attn
        parts = functional.linear(x, attention.in_proj_weight, attention.in_proj_bias)
        query, key, value = (p.unflatten(-1, (attention.num_heads, -1)).transpose(0, 1) for p in parts.chunk(3, dim=-1))
        scores = (query @ key.transpose(1, 2) / query.shape[-1] ** 0.5).softmax(-1) * weights
        scores = scores / scores.sum(-1, keepdim=True)
        found = attention.out_proj((scores @ value).transpose(0, 1).flatten(1))
        x = layer.norm1(x + layer.dropout(found))
        x = layer.norm2(x + layer.dropout(layer.linear2(layer.dropout(functional.relu(layer.linear1(x))))))
    return x, logits
