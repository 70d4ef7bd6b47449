"""Immune repertoires as bags of sequences: a convolution embeds each, attention says which of them count.

Source: Widrich et al., "Modern Hopfield Networks and Attention for Immune Repertoire Classification" (2020,
arXiv 2007.13505).
"""

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from zoo.layers.hopfield.maps import masked_softmax
from zoo.layers.hopfield.options import positive_int
from zoo.models.no_image import NO_IMAGE, described

#: The letters of amino acids, in the order of their numbers.
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
_POSITION = 3
#: Sequences that are embedded at a time where no gradient is wanted: on a CPU what stays in its cache.
_BLOCK_CPU, _BLOCK_DEVICE = 4_096, 50_000


class DeepRC(nn.Module):
    """y = W sum_i softmax(a(z))_i z_i + b,   z_i = max over positions of SELU(conv(s_i)),   a an MLP of SELUs

    of the sequences s_i that a ranks highest: the others are left out before gradients are computed. A position is the
    one-hot code of its amino acid, scaled by the logarithm of how often the sequence was seen, and three numbers that
    say how near the start, the end and the middle it is; all divided by their standard deviation over the bag. The
    pooling is a Hopfield association with one learned state.

    Shapes: (B, N, L) integers, -1 behind a sequence's end -> (B, num_classes); ragged (rows, L) with offsets -> the
    same.

    Args:
        num_classes: outputs.
        num_tokens: amino acids.
        num_kernels, kernel_size: of the convolution.
        attention_dims: hidden widths of a.
        keep: share of a bag's sequences, rounded down but at least one, that are used.
        official: as the authors' code: padding counts in the standard deviation and in the maximum, and a sequence that
            was seen once is erased by its logarithm of 0, where ours has 1 + log(count).

    Raises:
        ValueError: a size or share out of range; in the call, another rank, offsets that do not end with the rows.
    """

    #: Of an instance: a sequence of any length.
    instance_shape: ClassVar[tuple[None]] = (None,)

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
        sequences: Int[Tensor, "..."],
        padding_mask: Bool[Tensor, "bags instances"] | None = None,
        counts: Int[Tensor, "..."] | None = None,
        *,
        offsets: Int[Tensor, "..."] | Sequence[int] | None = None,
    ) -> Float[Tensor, "bags classes"]:
        """Logits.

        Args:
            sequences: amino acids as numbers from 0, and -1 behind the end; (B, N, L), or with offsets (rows, L).
            padding_mask: (B, N), True = no sequence.
            counts: how often each sequence was seen, (B, N) or (rows,); 1 if None.
            offsets: where each ragged bag starts and the last one ends, (B + 1,).
        """
        weights, z, _, _ = self._attend(sequences, padding_mask, counts, offsets)
        return self.head((weights.unsqueeze(-1) * z).sum(1))

    def association(
        self,
        sequences: Int[Tensor, "..."],
        padding_mask: Bool[Tensor, "bags instances"] | None = None,
        counts: Int[Tensor, "..."] | None = None,
        *,
        offsets: Int[Tensor, "..."] | Sequence[int] | None = None,
    ) -> Float[Tensor, "bags 1 1 instances"]:
        """How much the answer took from every sequence, (B, 1, 1, N): 0 for those left out."""
        weights, _, kept, most = self._attend(sequences, padding_mask, counts, offsets)
        whole = weights.new_zeros(weights.shape[0], most).scatter(1, kept, weights)
        return whole[:, None, None]

    def _attend(
        self,
        sequences: Tensor,
        padding_mask: Tensor | None,
        counts: Tensor | None,
        offsets: Tensor | Sequence[int] | None,
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """Attention (B, K) of the sequences kept, falling, their embeddings, their numbers in the bag (B, K), and N."""
        rows, place, real = _laid_out(sequences, padding_mask, offsets)
        rows = F.pad(rows, (0, max(self.conv.kernel_size[0] - rows.shape[1], 0)), value=-1)
        code, deviation = self._scales(rows, None if counts is None else counts.flatten(), place, real)
        instances, block = place.shape[1], _BLOCK_CPU if rows.device.type == "cpu" else _BLOCK_DEVICE
        with torch.no_grad():
            scores = [
                self.attention(self._embed(*(part[i : i + block] for part in (rows, code, deviation))))
                for i in range(0, rows.shape[0], block)
            ]
            ranks = torch.cat(scores)[:, 0][place].masked_fill(~real, -torch.inf)
            most = max(int(instances * self.keep), 1)
            kept = ranks.topk(most, 1).indices
            wanted = (real.sum(1, keepdim=True) * self.keep).floor().clamp_min(1)
            left_out = (torch.arange(most, device=kept.device) >= wanted) | ~real.gather(1, kept)
        chosen = place.gather(1, kept).flatten()
        z = self._embed(rows[chosen], code[chosen], deviation[chosen])
        scores = self.attention(z).view(kept.shape).masked_fill(left_out, -torch.inf)
        return masked_softmax(scores), z.unflatten(0, kept.shape), kept, instances

    def _scales(self, rows: Tensor, counts: Tensor | None, place: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """What the one-hot code of every row is, and what all of it is divided by, its bag's deviation, (rows,) both.

        The deviation is computed from sums over sequences, so that no bag is ever held as one-hot codes.
        """
        wide = torch.float64 if rows.device.type != "mps" else torch.float32
        length = (rows >= 0).sum(-1)
        code = torch.ones(length.shape, dtype=wide, device=rows.device)
        if counts is not None:
            logarithm = counts.clamp_min(1).to(wide).log()
            code = logarithm if self.official else 1 + logarithm
        table = _positions(rows.shape[1], rows.device).to(wide)

        def over_bag(of_rows: Tensor) -> Tensor:
            return (of_rows[place] * real).sum(1)

        total = over_bag(length * code + table.sum((1, 2))[length])
        squares = over_bag(length * code.square() + table.square().sum((1, 2))[length])
        places = real.sum(1) * rows.shape[1] if self.official else over_bag(length)
        numbers = places * (self.num_tokens + _POSITION)
        variance = (squares - total.square() / numbers.clamp_min(1)) / (numbers - 1).clamp_min(1)
        deviation = torch.where(variance > 0, variance, 1.0).sqrt()
        # Every row takes its bag's; what is in no bag is written behind the last row.
        behind = place.where(real, rows.shape[0])
        by_row = torch.ones(rows.shape[0] + 1, dtype=wide, device=rows.device)
        by_row = by_row.scatter(0, behind.flatten(), deviation.repeat_interleave(place.shape[1]))[:-1]
        like = self.conv.weight.dtype
        return (code / by_row).to(like), by_row.to(like)

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


def _laid_out(
    sequences: Tensor, padding_mask: Tensor | None, offsets: Tensor | Sequence[int] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The sequences as rows (R, L), for every bag and place the number of the row there (B, N), and whether it is one.

    Raises:
        ValueError: another rank, a mask beside offsets, offsets that do not rise from 0 to the number of rows.
    """
    device = sequences.device
    if sequences.ndim != (3 if offsets is None else 2):
        wanted = "(bags, sequences, positions)" if offsets is None else "(rows, positions) with offsets"
        raise ValueError(f"expected sequences {wanted}, got {tuple(sequences.shape)}")
    if offsets is None:
        bags, instances = sequences.shape[:2]
        place = torch.arange(bags * instances, device=device).view(bags, instances)
        real = torch.ones_like(place, dtype=torch.bool) if padding_mask is None else ~padding_mask
        return sequences.flatten(0, 1), place, real
    if padding_mask is not None:
        raise ValueError("ragged bags come without a padding mask")
    ends = torch.as_tensor(offsets, device=device)
    sizes = ends.diff()
    if ends.ndim != 1 or ends[0] != 0 or ends[-1] != sequences.shape[0] or (sizes < 0).any():
        raise ValueError(f"offsets must rise from 0 to the {sequences.shape[0]} rows, got {ends.tolist()}")
    inside = torch.arange(max(int(sizes.max()), 1), device=device)
    real = inside < sizes.unsqueeze(1)
    return sequences, torch.where(real, ends[:-1].unsqueeze(1) + inside, 0), real


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
