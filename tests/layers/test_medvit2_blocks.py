"""MedViTV2's blocks against the official ones, and their parts against plain formulas."""

import copy

import pytest
import torch
import torch.nn.functional as F

from tests.models.medvit2_goldens import golden
from zoo.layers.folding import fold_after, fold_before
from zoo.layers.medvit2_blocks import GFPBlock, LFPBlock
from zoo.layers.medvit2_parts import ChannelGate, PatchEmbed, PooledAttention, round_channels, to_map, to_tokens
from zoo.weights.converters.medvit2 import convert_official

BACKENDS = ["auto", "reference"]


def _load(block, case):
    state, _ = convert_official(case.state())
    block.load_state_dict(state, strict=True)
    return block.train(case.meta["mode"] == "train")


def _local(case, backend="auto"):
    kwargs = case.kwargs
    block = LFPBlock(
        kwargs["in_channels"],
        kwargs["out_channels"],
        stride=kwargs["stride"],
        head_dim=kwargs["head_dim"],
        conv_kernel_size=kwargs["kernel_size"],
        mlp_ratio=kwargs["mlp_ratio"],
        attn_backend=backend,
    )
    return _load(block, case)


def _global(case, backend="auto"):
    kwargs = case.kwargs
    block = GFPBlock(
        kwargs["in_channels"],
        kwargs["out_channels"],
        stride=kwargs["stride"],
        sr_ratio=kwargs["sr_ratio"],
        head_dim=kwargs["head_dim"],
        mix_block_ratio=kwargs["mix_block_ratio"],
        kan_ratio=kwargs["mlp_ratio"],
        kan_backend=backend,
    )
    return _load(block, case)


_CASES = [
    ("lfp_32_64_s2", _local),
    ("lfp_32_32_k7_train", _local),
    ("gfp_64_96_sr4", _global),
    ("gfp_64_64_sr1_identity_projection", _global),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("name", "build"), _CASES)
def test_golden_block(name, build, backend):
    case = golden(name)
    block = build(case, backend)
    x = case.tensors["in.x"].requires_grad_()
    y = block(x)
    case.assert_output(y)
    if "in.cotangent" in case.tensors:
        y.backward(case.tensors["in.cotangent"])
        case.assert_gradients({"x": x.grad, **{k: p.grad for k, p in block.named_parameters()}})
    for key, expected in case.part("out.state").items():
        torch.testing.assert_close(block.state_dict()[key], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("name", "build"), [_CASES[0], _CASES[2], _CASES[3]])
def test_golden_block_fused(name, build):
    case = golden(name)
    block = build(case)
    norms = sum(isinstance(m, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d) for m in block.modules())
    block.fuse()
    with torch.no_grad():
        case.assert_output(block(case.tensors["in.x"]))
    left = [n for n, m in block.named_modules() if isinstance(m, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d)]
    assert len(left) < norms
    # In memory order a token mixes pixels of one channel: its norm cannot move into a linear map.
    assert left == (["norm1", "norm2"] if build is _local else ["norm2"])


@pytest.mark.parametrize("build", [_local, _global])
def test_spatial_order_is_the_same_block_on_permuted_tokens(build):
    case = golden("lfp_32_64_s2" if build is _local else "gfp_64_96_sr4")
    block = build(case)
    memory = block(case.tensors["in.x"])
    block.memory_order = False
    spatial = block(case.tensors["in.x"])
    assert not torch.allclose(memory, spatial, atol=0.1)
    fused = copy.deepcopy(block)
    fused.fuse()
    torch.testing.assert_close(fused(case.tensors["in.x"]), spatial, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("name", "build"), [_CASES[0], _CASES[2]])
def test_memory_format_of_the_input_does_not_matter(name, build):
    case = golden(name)
    block = build(case)
    x = case.tensors["in.x"].to(memory_format=torch.channels_last)
    case.assert_output(block(x).detach())
    case.assert_output(block.to(memory_format=torch.channels_last)(x).detach())


def test_token_orders():
    x = torch.arange(2 * 3 * 4 * 5).float().view(2, 3, 4, 5)
    memory, spatial = to_tokens(x, True), to_tokens(x, False)
    assert memory.shape == spatial.shape == (2, 4, 5, 3)
    assert memory[0, 0, 0].tolist() == [0, 1, 2]  # three pixels of the first channel
    assert spatial[0, 0, 0].tolist() == [0, 20, 40]  # the channels of the first pixel
    last = x.to(memory_format=torch.channels_last)
    for order in (True, False):
        assert torch.equal(to_tokens(last, order), to_tokens(x, order))
        assert torch.equal(to_map(to_tokens(x, order), order), x)


def test_channel_split_of_the_published_widths():
    split = {128: 96, 192: 160, 256: 192, 384: 288, 512: 384, 768: 576, 1024: 768}
    assert {out: round_channels(int(0.75 * out)) for out in split} == split
    assert round_channels(8) == 32
    assert round_channels(47, 16) == 48
    assert round_channels(44, 32) == 64  # 32 would be below nine tenths


def test_patch_embed_averages_what_there_is_at_an_odd_border():
    embed = PatchEmbed(1, 1, 2).eval()
    torch.nn.init.ones_(embed.conv.weight)
    x = torch.arange(9.0).view(1, 1, 3, 3)
    expected = torch.tensor([[2.0, 3.5], [6.5, 8.0]]) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(embed(x)[0, 0], expected)
    assert not PatchEmbed(8, 8).state_dict()


def test_gate_is_the_composed_hard_sigmoid():
    torch.manual_seed(0)
    gate = ChannelGate(6, 2)
    x = 4 * torch.randn(3, 6, 4, 5)
    hidden = F.relu(F.linear(x.mean((2, 3)), gate.fc[0].weight, gate.fc[0].bias))
    factor = F.relu6(F.linear(hidden, gate.fc[2].weight, gate.fc[2].bias) + 3) / 6
    torch.testing.assert_close(gate(x), x * factor[:, :, None, None])


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("tokens", [9, 16, 19])
def test_pooled_attention_averages_whole_groups_and_leaves_the_rest(tokens, fused):
    torch.manual_seed(0)
    attention = PooledAttention(8, head_dim=4, sr_ratio=3).eval()
    attention.fused_attn = fused
    torch.nn.init.normal_(attention.norm.running_mean)
    x = torch.randn(2, tokens, 8)
    keys = torch.stack([x[:, i : i + 9].mean(1) for i in range(0, tokens - 8, 9)], dim=1)
    keys = attention.norm(keys.transpose(1, 2)).transpose(1, 2)
    heads = []
    for h in range(2):
        part = slice(4 * h, 4 * h + 4)
        q, k, v = attention.q(x)[..., part], attention.k(keys)[..., part], attention.v(keys)[..., part]
        heads.append((q @ k.transpose(1, 2) / 2).softmax(-1) @ v)
    torch.testing.assert_close(attention(x), attention.proj(torch.cat(heads, dim=-1)))


def test_folding_is_exact():
    torch.manual_seed(0)
    norm = torch.nn.BatchNorm1d(5).eval()
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        torch.nn.init.normal_(tensor)
    torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    x = torch.randn(7, 5)
    before = torch.nn.Linear(5, 4)
    expected = before(norm(x))
    fold_before(norm, before)
    torch.testing.assert_close(before(x), expected)
    after = torch.nn.Linear(3, 5, bias=False)
    rows = torch.randn(7, 3)
    expected = norm(after(rows))
    fold_after(after, norm)
    torch.testing.assert_close(after(rows), expected)
    with pytest.raises(ValueError, match="running statistics"):
        fold_after(after, torch.nn.BatchNorm1d(5, track_running_stats=False))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: LFPBlock(32, 60), ["60", "head_dim", "32", "use 64 channels"]),
        (lambda: LFPBlock(0, 64), ["in_channels", "0"]),
        (lambda: LFPBlock(32, 64, stride=3), ["stride", "1 or 2", "3"]),
        (lambda: LFPBlock(32, 64, conv_kernel_size=4), ["conv_kernel_size", "odd", "4"]),
        (lambda: LFPBlock(32, 64, token_order="raster"), ["token_order", "'memory'", "'spatial'", "'raster'"]),
        (lambda: LFPBlock(32, 64, kernel_size=1), ["kernel_size", "1"]),
        (lambda: LFPBlock(32, 64, dilation=0), ["dilation", "0"]),
        (lambda: LFPBlock(32, 64, attn_backend="cuda"), ["backend", "'cuda'"]),
        (lambda: GFPBlock(64, 96), ["96", "0.75", "lower mix_block_ratio"]),
        (lambda: GFPBlock(64, 128, sr_ratio=0), ["sr_ratio", "0"]),
        (lambda: GFPBlock(64, 128, kan_backend="x"), ["backend", "'x'"]),
        (lambda: LFPBlock(32, 32)(torch.zeros(2, 32, 6, 9)), ["7", "6"]),
        (lambda: GFPBlock(64, 128, sr_ratio=4)(torch.zeros(2, 64, 3, 5)), ["15 tokens", "16", "smaller sr_ratio"]),
        (lambda: GFPBlock(64, 128, sr_ratio=4)(torch.zeros(1, 64, 4, 5)), ["more than one value", "evaluation mode"]),
    ],
)
def test_bad_arguments_name_the_value_and_the_limit(build, words):
    with pytest.raises(ValueError, match=r"\w") as caught:
        build()
    assert all(word in str(caught.value) for word in words), str(caught.value)
