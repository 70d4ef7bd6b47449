"""What MedViTV2 refuses: every message names the value, the limit and a way out."""

import pytest
import torch

import zoo
from zoo.models.medvit2 import MedViT2


def build(**options):
    return zoo.create_model("medvit2_kan_nano", **options)


def call(shape, *, name="medvit2_kan_nano", dtype=torch.float32, train=False, **options):
    model = zoo.create_model(name, device="meta", num_classes=2, **options).train(train)
    return model(torch.zeros(shape, dtype=dtype, device="meta"))


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda: build(dims=(32, 64, 64)), ["dims", "four", "(32, 64, 64)"]),
        (lambda: build(depths=(1, 2, 0, 1)), ["depths", "at least 1", "(1, 2, 0, 1)"]),
        (lambda: build(depths=(1, 2, 4, 1)), ["depths[2]", "multiple of 3", "4", "use 3"]),
        (lambda: build(dims=(32, 60, 64, 64)), ["60", "head_dim", "32", "use 64"]),
        (lambda: build(dims=(32, 64, 64, 64), mix_block_ratio=0.75), ["64", "0.75", "0 convolution", "lower"]),
        (lambda: build(kernel_sizes=(1, 3, 3, 3)), ["kernel_size", "1", "2"]),
        (lambda: build(kernel_sizes=(3, 4, 3, 3)), ["kernel_sizes", "odd", "stage 2", "4", "use 3 or 5"]),
        (lambda: build(dilations=(0, 1, 1, 1)), ["dilations", "at least 1", "(0, 1, 1, 1)"]),
        (lambda: build(dilations=(1, 1)), ["dilations", "four", "(1, 1)"]),
        (lambda: build(token_order="scrambled"), ["token_order", "'memory'", "'spatial'", "'scrambled'"]),
        (lambda: build(stem_chs=(16, 16)), ["stem_chs", "three", "(16, 16)"]),
        (lambda: build(attn_backend="gpu"), ["backend", "'gpu'", "tiles"]),
        (lambda: build(kan_backend="gpu"), ["backend", "'gpu'", "'reference'"]),
        (lambda: build(global_pool="mean"), ["global_pool", "'mean'", "'avg'", "'max'"]),
        (lambda: call((1, 3, 32, 32), global_pool=""), ["global_pool=''", "reset_classifier"]),
        (lambda: MedViT2(num_classes=-1), ["num_classes", "≥ 0", "-1"]),
        (lambda: MedViT2(in_chans=0), ["in_chans", "≥ 1", "0"]),
        (lambda: build().reset_classifier(-2), ["num_classes", "≥ 0", "-2"]),
        (lambda: build().reset_classifier(2, "mean"), ["global_pool", "'mean'"]),
        (lambda: call((3, 32, 32)), ["(batch, 3, height, width)", "3 dimensions", "(3, 32, 32)", "x[None]"]),
        (lambda: call((1, 1, 32, 32)), ["3 channels", "got 1", "in_chans=1"]),
        (lambda: call((2, 3, 96, 96), name="medvit2_kan_tiny"), ["96×96", "stage 3", "6×6", "7", "height", "97"]),
        (lambda: call((2, 3, 224, 90), name="medvit2_kan_tiny"), ["224×90", "stage 3", "14×6", "width", "97"]),
        (
            lambda: call((2, 3, 220, 220), name="medvit2_dina_tiny"),
            ["220×220", "stage 1", "55×55", "kernel_size 7 · dilation 8 = 56", "221"],
        ),
        (lambda: call((2, 3, 16, 16)), ["16×16", "stage 3", "2×2", "17"]),
        (lambda: call((2, 3, 32, 32), sr_ratios=(1, 9, 1, 1)), ["stage 2", "8×8", "81", "33"]),
        (
            lambda: call((1, 3, 32, 32), train=True, sr_ratios=(1, 8, 1, 1)),
            ["more than one value per channel", "32×32", "pooled key", "stage 2", "larger batch", "eval()"],
        ),
        (lambda: build().forward_intermediates(torch.zeros(1, 3, 32, 32), 5), ["indices", "between 1 and 4", "5"]),
        (lambda: build().forward_intermediates(torch.zeros(1, 3, 32, 32), [4]), ["indices", "-4", "3", "[4]"]),
        (
            lambda: build().forward_intermediates(torch.zeros(1, 3, 32, 32), output_fmt="NLC"),
            ["output_fmt", "'NCHW'", "'NLC'"],
        ),
    ],
)
def test_refused(action, words, unchecked):
    with pytest.raises(ValueError, match=r"\w") as caught:
        action()
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_integer_images(dtype, unchecked):
    with pytest.raises(TypeError, match=r"floating point in the normalised range.*x\.float\(\) / 255") as caught:
        call((1, 3, 32, 32), dtype=dtype)
    assert str(dtype) in str(caught.value)


def test_smallest_sides_work():
    assert call((1, 3, 97, 97), name="medvit2_kan_tiny").shape == (1, 2)
    assert call((1, 3, 221, 221), name="medvit2_dina_tiny").shape == (1, 2)
    assert call((1, 3, 17, 17)).shape == (1, 2)
    for name in ("medvit2_kan_tiny", "medvit2_dina_tiny", "medvit2_kan_nano"):
        side = zoo.create_model(name, device="meta").pretrained_cfg["min_input_size"][-1]
        with pytest.raises(ValueError, match=f"the smallest side is {side}"):
            call((1, 3, side - 1, side - 1), name=name)


def test_unknown_option_is_refused_with_near_names():
    with pytest.raises(TypeError, match="token_order"):
        build(token_orders="memory")
