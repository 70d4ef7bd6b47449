"""What neighbourhood attention refuses: the message says what was given, what is allowed and the way out."""

import jaxtyping
import pytest
import torch

from zoo.layers.neighborhood import (
    NeighborhoodAttention1d,
    NeighborhoodAttention2d,
    neighborhood_attention,
    neighborhood_attention_packed,
)


@pytest.fixture
def without_shape_checks():
    """Let wrong shapes reach the code's own checks, as they do outside of this test session."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


SMALL = torch.zeros(1, 6, 9, 2, 4)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: NeighborhoodAttention2d(64, 2, 1), ValueError, "kernel_size along height must be >= 2, got 1"),
        (lambda: NeighborhoodAttention2d(64, 2, 3.0), TypeError, "kernel_size must be an int or a sequence of 2"),
        (lambda: NeighborhoodAttention2d(64, 2, (3, True)), TypeError, "kernel_size along width must be an int"),
        (lambda: NeighborhoodAttention2d(64, 2, (3, 3, 3)), ValueError, r"kernel_size has 3 values \(3, 3, 3\) for 2"),
        (lambda: NeighborhoodAttention1d(64, 2, 3, 0), ValueError, "dilation along length must be >= 1, got 0"),
        (lambda: NeighborhoodAttention2d(64, 2, 3, causal="no"), TypeError, "causal must be a bool"),
        (lambda: NeighborhoodAttention2d(65, 2, 3), ValueError, "got dim 65 and num_heads 2"),
        (lambda: NeighborhoodAttention2d(64, 0, 3), ValueError, "got dim 64 and num_heads 0"),
        (lambda: NeighborhoodAttention2d(64, 2, 3, attn_drop=1.5), ValueError, "attn_drop must be .* got 1.5"),
        (lambda: NeighborhoodAttention2d(64, 2, 3, backend="fast"), ValueError, "one of auto, tiles, .* got 'fast'"),
        (
            lambda: NeighborhoodAttention2d(64, 2, 3, causal=True, rel_pos_bias=True),
            ValueError,
            "position bias is not defined for causal windows",
        ),
        (lambda: NeighborhoodAttention2d(64, 2, 3, is_causal=True), TypeError, "is_causal"),
        (
            lambda: NeighborhoodAttention2d(8, 2, 7, 2)(torch.zeros(1, 14, 13, 8)),
            ValueError,
            r"along width: kernel_size 7 x dilation 2 = 14 > 13 positions; "
            r"use a map with width >= 14 or kernel_size <= 6 or dilation <= 1",
        ),
        (
            lambda: NeighborhoodAttention2d(8, 2, 7)(torch.zeros(1, 3, 9, 8)),
            ValueError,
            "along height: .* = 7 > 3 positions; use a map with height >= 7 or kernel_size <= 3$",
        ),
        (lambda: NeighborhoodAttention2d(8, 2, 3)(torch.zeros(1, 9, 9, 8).long()), TypeError, r"int64.*\.float\("),
        (
            lambda: NeighborhoodAttention2d(8, 2, 3)(torch.zeros(1, 8, 9, 9)),
            ValueError,
            r"must be \(batch, height, width, 8\), channels last, got \(1, 8, 9, 9\)",
        ),
        (lambda: NeighborhoodAttention1d(8, 2, 3)(torch.zeros(1, 9, 9, 8)), ValueError, r"\(batch, length, 8\)"),
        (lambda: neighborhood_attention(SMALL[0, 0], SMALL[0, 0], SMALL[0, 0], 3), ValueError, "got 3 dimensions"),
        (lambda: neighborhood_attention(SMALL, SMALL[:, 1:], SMALL, 3), ValueError, "k must have the shape of q"),
        (lambda: neighborhood_attention(SMALL, SMALL, SMALL[:, 1:], 3), ValueError, "v must have the shape of q"),
        (lambda: neighborhood_attention(SMALL, SMALL.double(), SMALL, 3), TypeError, "one dtype, got .*float64"),
        (lambda: neighborhood_attention(SMALL.long(), SMALL, SMALL, 3), TypeError, "q must be a floating-point"),
        (
            lambda: neighborhood_attention(SMALL, SMALL, SMALL, 3, bias=torch.zeros(2, 5, 4)),
            ValueError,
            r"bias must have the shape .* = \(2, 5, 5\) .* got \(2, 5, 4\)",
        ),
        (
            lambda: neighborhood_attention(SMALL, SMALL, SMALL, 3, 1, (True, False), torch.zeros(2, 5, 5)),
            ValueError,
            "not defined for causal windows",
        ),
        (lambda: neighborhood_attention(SMALL, SMALL, SMALL, 3, dropout_p=1.0), ValueError, "dropout_p .* got 1.0"),
        (lambda: neighborhood_attention(SMALL, SMALL, SMALL, 3, backend="flex"), ValueError, "flex.*CUDA only"),
        (lambda: neighborhood_attention(SMALL, SMALL, SMALL, 3, backend="natten"), ValueError, "natten.*CUDA only"),
        (lambda: neighborhood_attention_packed(torch.zeros(1, 6, 25), 4, 3), ValueError, "got 25 for num_heads 4"),
        (lambda: neighborhood_attention_packed(torch.zeros(6, 24), 4, 3), ValueError, "got 2 dimensions"),
    ],
)  # fmt: skip
def test_refused(call, error, text, without_shape_checks):
    with pytest.raises(error, match=text):
        call()
