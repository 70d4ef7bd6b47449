"""Immune repertoires as bags of sequences: a convolution embeds each, attention says which of them count.

Source: Widrich et al., "Modern Hopfield Networks and Attention for Immune Repertoire Classification" (2020,
arXiv 2007.13505).
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from zoo.layers.hopfield.maps import masked_softmax
from zoo.layers.hopfield.options import positive_int
from zoo.models.hopfield_bags import NO_IMAGE, described

_POSITION = 3
#: Sequences that are embedded at a time where no gradient is wanted.
_BLOCK = 50_000


class DeepRC(nn.Module):
    """y = W sum_i softmax(a(z))_i z_i + b,   z_i = max over positions of SELU(conv(s_i)),   a an MLP of SELUs

    of the sequences s_i that a ranks highest: the others are left out before gradients are computed. A position is the
    one-hot code of its amino acid, scaled by the logarithm of how often the sequence was seen, and three numbers that
    say how near the start, the end and the middle it is; all divided by their standard deviation over the bag. The
    pooling is a Hopfield association with one learned state.

    Shapes: (B, N, L) integers, -1 behind a sequence's end -> (B, num_classes).

    Args:
        num_classes: outputs.
        num_tokens: amino acids.
        num_kernels, kernel_size: of the convolution.
        attention_dims: hidden widths of a.
        keep: share of a bag's sequences, rounded down but at least one, that are used.
        official: as the authors' code: padding counts in the standard deviation and in the maximum, and a sequence that
            was seen once is erased by its logarithm of 0, where ours has 1 + log(count).

    Raises:
        ValueError: a size or share out of range; in the call, another rank.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        num_tokens: int,
        num_kernels: int,
        kernel_size: int,
        attention_dims: Sequence[int],
        keep: float,
        official: bool,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not 0 < keep <= 1:
            raise ValueError(f"keep must be above 0 and at most 1, got {keep}")
        if num_classes < 1:
            raise ValueError(f"num_classes must be an int ≥ 1, got {num_classes}")
        place = {"device": device, "dtype": dtype}
        self.num_tokens, self.keep, self.official = positive_int("num_tokens", num_tokens), keep, official
        self.num_classes, self.num_features = num_classes, num_kernels
        self.conv = nn.Conv1d(num_tokens + _POSITION, num_kernels, positive_int("kernel_size", kernel_size), **place)
        widths = [num_kernels, *attention_dims]
        hidden = [(nn.Linear(a, b, **place), nn.SELU()) for a, b in itertools.pairwise(widths)]
        self.attention = nn.Sequential(*(part for pair in hidden for part in pair), nn.Linear(widths[-1], 1, **place))
        self.head = nn.Linear(num_kernels, num_classes, **place)
        self.pretrained_cfg = {**NO_IMAGE, "num_classes": num_classes}
        self.init_weights()

    def init_weights(self) -> None:
        """Weights from a normal distribution whose variance is 1 over their number; biases 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.normal_(module.weight, std=module.weight.numel() ** -0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(
        self,
        sequences: Int[Tensor, "bags instances positions"],
        padding_mask: Bool[Tensor, "bags instances"] | None = None,
        counts: Int[Tensor, "bags instances"] | None = None,
    ) -> Float[Tensor, "bags classes"]:
        """Logits.

        Args:
            sequences: amino acids as numbers from 0, and -1 behind the end.
            padding_mask: (B, N), True = no sequence.
            counts: how often each sequence was seen; 1 if None.
        """
        weights, z, _ = self._attend(sequences, padding_mask, counts)
        return self.head((weights.unsqueeze(-1) * z).sum(1))

    def association(
        self,
        sequences: Int[Tensor, "bags instances positions"],
        padding_mask: Bool[Tensor, "bags instances"] | None = None,
        counts: Int[Tensor, "bags instances"] | None = None,
    ) -> Float[Tensor, "bags 1 1 instances"]:
        """How much the answer took from every sequence, (B, 1, 1, N): 0 for those left out."""
        weights, _, kept = self._attend(sequences, padding_mask, counts)
        whole = weights.new_zeros(sequences.shape[:2]).scatter(1, kept, weights)
        return whole[:, None, None]

    def _attend(
        self, sequences: Tensor, padding_mask: Tensor | None, counts: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attention (B, K) of the sequences kept, falling, their embeddings (B, K, num_kernels) and numbers (B, K)."""
        sequences = F.pad(sequences, (0, max(self.conv.kernel_size[0] - sequences.shape[2], 0)), value=-1)
        real = torch.ones_like(sequences[..., 0], dtype=torch.bool) if padding_mask is None else ~padding_mask
        scales = self._scales(sequences, counts, real)
        bags, instances = real.shape
        with torch.no_grad():
            rows, scaled = sequences.flatten(0, 1), (scales[0].flatten(), scales[1].expand_as(scales[0]).flatten())
            scores = [
                self.attention(self._embed(rows[i : i + _BLOCK], *(s[i : i + _BLOCK] for s in scaled)))
                for i in range(0, bags * instances, _BLOCK)
            ]
            ranks = torch.cat(scores).view(bags, instances).masked_fill(~real, -torch.inf)
            most = max(int(instances * self.keep), 1)
            kept = ranks.topk(most, 1).indices
            wanted = (real.sum(1, keepdim=True) * self.keep).floor().clamp_min(1)
            left_out = (torch.arange(most, device=kept.device) >= wanted) | ~real.gather(1, kept)
        chosen = sequences.gather(1, kept.unsqueeze(-1).expand(-1, -1, sequences.shape[2]))
        scale = scales[0].gather(1, kept)
        z = self._embed(chosen.flatten(0, 1), scale.flatten(), scales[1].expand_as(scale).flatten())
        scores = self.attention(z).view(bags, most).masked_fill(left_out, -torch.inf)
        return masked_softmax(scores), z.view(bags, most, -1), kept

    def _scales(self, sequences: Tensor, counts: Tensor | None, real: Tensor) -> tuple[Tensor, Tensor]:
        """What the one-hot code of every sequence is, (B, N), and what all of a bag is divided by, (B, 1).

        The deviation is computed from sums over sequences, so that no bag is ever held as one-hot codes.
        """
        wide = torch.float64 if sequences.device.type != "mps" else torch.float32
        length = (sequences >= 0).sum(-1) * real
        code = torch.ones(real.shape, dtype=wide, device=real.device)
        if counts is not None:
            logarithm = counts.clamp_min(1).to(wide).log()
            code = logarithm if self.official else 1 + logarithm
        table = _positions(sequences.shape[2], sequences.device).to(wide)
        total = (length * code + table.sum((1, 2))[length]).sum(1, keepdim=True)
        squares = (length * code.square() + table.square().sum((1, 2))[length]).sum(1, keepdim=True)
        places = real.sum(1, keepdim=True) * sequences.shape[2] if self.official else length.sum(1, keepdim=True)
        numbers = places * (self.num_tokens + _POSITION)
        variance = (squares - total.square() / numbers.clamp_min(1)) / (numbers - 1).clamp_min(1)
        deviation = torch.where(variance > 0, variance, 1.0).sqrt()
        like = self.conv.weight.dtype
        return (code / deviation).to(like), deviation.to(like)

    def _embed(self, sequences: Tensor, code: Tensor, deviation: Tensor) -> Tensor:
        """(R, L) sequences -> (R, num_kernels)."""
        inside = sequences >= 0
        length = inside.sum(-1)
        one_hot = F.one_hot(sequences.clamp_min(0).long(), self.num_tokens) * inside.unsqueeze(-1)
        place = _positions(sequences.shape[1], sequences.device)[length].to(code.dtype) / deviation[:, None, None]
        features = torch.cat([one_hot * code[:, None, None], place], -1)
        found = F.selu(self.conv(features.transpose(1, 2)))
        if not self.official:
            # A window that reaches behind the end sees padding; the first one serves for what is shorter than a window.
            last = (length - self.conv.kernel_size[0]).clamp_min(0)
            beyond = torch.arange(found.shape[2], device=found.device) > last.unsqueeze(1)
            found = found.masked_fill(beyond.unsqueeze(1), -torch.inf)
        return found.amax(2)


def _positions(longest: int, device: torch.device) -> Tensor:
    """For each length 0 to `longest`, (length, position, 3): nearness to the start, to the end, and to the middle.

    From 1 at an end falling to 0 at the middle, and 1 minus that; rounded to half precision as published.
    """
    length = torch.arange(longest + 1, device=device)[:, None]
    place = torch.arange(longest, device=device)[None]
    inside = place < length
    fallen = 1 - place / (length - 1).clamp_min(1).double()
    outward = (2 * (0.5 - fallen.float()).abs()).half().float()
    first = place < (length + 1) // 2
    parts = (outward * first, outward * ~first, (1 - outward).half().float())
    return torch.stack(parts, -1) * inside.unsqueeze(-1)


def deeprc_cnn(
    num_classes: int = 1,
    *,
    num_kernels: int = 32,
    kernel_size: int = 9,
    attention_dims: Sequence[int] = (32, 32),
    keep: float = 0.1,
    official: bool = False,
    pretrained_cfg: Any = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> DeepRC:
    """`DeepRC` for sequences of the 20 amino acids, in the sizes of the paper."""
    model = DeepRC(
        num_classes,
        num_tokens=20,
        num_kernels=num_kernels,
        kernel_size=kernel_size,
        attention_dims=attention_dims,
        keep=keep,
        official=official,
        device=device,
        dtype=dtype,
    )
    return described(model, pretrained_cfg)
