"""The plain layers compute what timm's do, and take over the parameters of those that they replace."""

import copy

import pytest
import timm
import torch
from timm.layers import Attention as TimmAttention
from timm.layers import AttentionRope, NormMlpClassifierHead
from timm.layers import Mlp as TimmMlp
from timm.layers.pos_embed_sincos import RotaryEmbeddingCat
from timm.models.eva import EvaAttention
from torch import nn

import zoo
from zoo.layers.plain import Attention, AveragePool, Linear, Mlp


def same_after_imitation(layer: nn.Module, reference: nn.Module, inputs: torch.Tensor) -> None:
    reference.eval()
    assert layer.imitate(reference, inputs)
    torch.testing.assert_close(layer.eval()(inputs), reference(inputs))


def unchanged_after_imitation(layer: nn.Module, reference: nn.Module, inputs: torch.Tensor) -> None:
    before = copy.deepcopy(layer.state_dict())
    assert not layer.imitate(reference, inputs)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def tokens(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_linear_takes_a_linear_layer_of_its_sizes():
    x = tokens(7, 6)
    same_after_imitation(Linear(6, 4), nn.Linear(6, 4), x)
    same_after_imitation(Linear(6, 4), nn.Linear(6, 4, bias=False), x)
    unchanged_after_imitation(Linear(6, 4, bias=False), nn.Linear(6, 4), x)
    unchanged_after_imitation(Linear(6, 4), nn.Linear(6, 5), x)
    unchanged_after_imitation(Linear(6, 4), nn.Sequential(nn.Linear(6, 4)), x)


def test_linear_does_not_take_what_only_looks_like_a_linear_layer():
    class Normed(nn.Linear):
        def forward(self, x):
            return nn.functional.linear(x, nn.functional.normalize(self.weight), self.bias)

    unchanged_after_imitation(Linear(6, 4), Normed(6, 4), tokens(7, 6))


def test_imitation_keeps_dtype_modes_and_gradients_as_they_are():
    layer, reference = Linear(6, 4, dtype=torch.bfloat16), nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5))[0]
    assert layer.imitate(reference.to(torch.bfloat16), tokens(7, 6).bfloat16())
    assert layer.weight.dtype == torch.bfloat16
    assert layer.weight.requires_grad
    assert layer.weight.grad_fn is None
    mlp, reference = Mlp(6, drop=0.5), TimmMlp(6, drop=0.5)
    assert mlp.imitate(reference, tokens(7, 6))
    assert mlp.training
    assert reference.drop1.training
    assert mlp.drop1.p == 0.5


@pytest.mark.parametrize("act", [None, nn.SiLU, "relu", "gelu_tanh"])
def test_mlp_is_timms(act):
    chosen = {None: nn.GELU, "relu": nn.ReLU, "gelu_tanh": lambda: nn.GELU(approximate="tanh")}.get(act, act)
    same_after_imitation(Mlp(6, 10, 4, act_layer=act), TimmMlp(6, 10, 4, act_layer=chosen), tokens(2, 3, 6))
    same_after_imitation(Mlp(6, act_layer=act), TimmMlp(6, act_layer=chosen), tokens(7, 6))


def test_mlp_refuses_another_activation_or_shape():
    x = tokens(7, 6)
    unchanged_after_imitation(Mlp(6, 10), TimmMlp(6, 10, act_layer=nn.ReLU), x)
    unchanged_after_imitation(Mlp(6, 10), TimmMlp(6, 11), x)
    unchanged_after_imitation(Mlp(6, 10), TimmMlp(6, 10, norm_layer=nn.LayerNorm), x)
    unchanged_after_imitation(Mlp(6, 10), NormMlpClassifierHead(6, 6), x)
    with pytest.raises(ValueError, match=r"no activation 'geluu'; did you mean 'gelu'"):
        Mlp(6, act_layer="geluu")


def test_mlp_with_a_learned_activation_resets_it():
    mlp = Mlp(6, act_layer=nn.PReLU)
    nn.init.ones_(mlp.act.weight)
    mlp.reset_parameters()
    assert mlp.act.weight.tolist() == [0.25]


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_attention_is_timms_with_masks(qkv_bias):
    torch.manual_seed(0)
    x = tokens(3, 5, 16)
    ours, theirs = Attention(16, 4, qkv_bias=qkv_bias), TimmAttention(16, 4, qkv_bias=qkv_bias)
    same_after_imitation(ours, theirs, x)
    allowed = torch.ones(5, 5, dtype=torch.bool).tril()
    scores = tokens(3, 1, 5, 5)
    for mask in (allowed, scores, scores.double()):
        expected = theirs(x, attn_mask=mask.float() if mask.dtype == torch.float64 else mask)
        torch.testing.assert_close(ours(x, attn_mask=mask), expected)


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("prefix", [0, 1, 3])
@pytest.mark.parametrize("fused", [True, False])
def test_attention_turns_all_but_the_prefix_tokens_as_timm(fused, prefix, half):
    torch.manual_seed(0)
    rope = RotaryEmbeddingCat(8, in_pixels=False, feat_shape=[3, 4], rotate_half=half).get_embed()
    x = tokens(2, prefix + 12, 16)
    ours = Attention(16, 2, rotate_half=half)
    for theirs in (
        AttentionRope(16, 2, qkv_fused=fused, num_prefix_tokens=prefix, rotate_half=half),
        EvaAttention(16, 2, qkv_fused=fused, num_prefix_tokens=prefix, scale_norm=False, rotate_half=half),
    ):
        for parameter in theirs.parameters():
            nn.init.normal_(parameter, std=0.3)
        same_after_imitation(ours, theirs, x)
        torch.testing.assert_close(ours(x, rope=rope), theirs(x, rope=rope), atol=1e-5, rtol=1e-5)
        assert not torch.allclose(ours(x, rope=rope), ours(x), atol=1e-2)


def test_attention_refuses_what_it_cannot_compute():
    x = tokens(2, 5, 16)
    unchanged_after_imitation(Attention(16, 4), TimmAttention(16, 2), x)
    unchanged_after_imitation(Attention(16, 4), AttentionRope(16, 4, rotate_half=True), x)
    unchanged_after_imitation(
        Attention(16, 4), TimmAttention(16, 4, qk_norm=True, norm_layer=nn.LayerNorm, qkv_bias=True), x
    )
    unchanged_after_imitation(Attention(16, 4, qkv_bias=False), TimmAttention(16, 4, qkv_bias=True), x)
    unchanged_after_imitation(Attention(16, 4), nn.Linear(16, 16), x)
    cosine = timm.create_model("swinv2_tiny_window8_256").layers[0].blocks[0].attn
    unchanged_after_imitation(Attention(96, 3), cosine, tokens(2, 64, 96))
    with pytest.raises(ValueError, match="multiple of num_heads, got dim 10 and num_heads 4"):
        Attention(10, 4)


def test_attention_takes_the_projections_beside_a_position_bias():
    torch.manual_seed(0)
    window = timm.create_model("swin_tiny_patch4_window7_224").layers[0].blocks[0].attn.eval()
    nn.init.normal_(window.relative_position_bias_table)
    layer, x = Attention(96, 3).eval(), tokens(2, 49, 96)
    before = (layer(x) - window(x)).norm()
    assert layer.imitate(window, x)
    assert torch.equal(layer.qkv.weight, window.qkv.weight)
    assert (layer(x) - window(x)).norm() < before
    nn.init.zeros_(window.relative_position_bias_table)
    torch.testing.assert_close(layer(x), window(x))


def test_attention_drops_weights_and_output_in_training_only():
    torch.manual_seed(0)
    x = tokens(2, 50, 16)
    layer = Attention(16, 2, attn_drop=0.5)
    assert not torch.allclose(layer(x), layer(x))
    dropped = Attention(16, 2, proj_drop=0.5)(x) == 0
    assert 0.4 < float(dropped.float().mean()) < 0.6
    assert torch.equal(layer.eval()(x), layer(x))


def test_average_pool_is_the_mean():
    x = tokens(2, 5, 3)
    pool = AveragePool(3)
    torch.testing.assert_close(pool(x), sum(x[:, i] for i in range(5)) / 5)
    assert pool.imitate(nn.Sequential(nn.Flatten(2), _Mean()), x)
    assert not pool.imitate(_First(), x)


class _Mean(nn.Module):
    def forward(self, x):
        return x.mean(dim=1)


class _First(nn.Module):
    def forward(self, x):
        return x[:, 0]


@pytest.mark.parametrize("name", zoo.list_modules("act/*"))
def test_activations_are_torchs_and_say_what_they_compute(name):
    x = torch.linspace(-4, 4, 9)
    y = zoo.create_module(name)(x).detach()
    formula = {
        "act/relu": x.clamp(min=0),
        "act/gelu": x * torch.special.ndtr(x),
        "act/silu": x * x.sigmoid(),
        "act/mish": x * torch.log1p(x.exp()).tanh(),
        "act/hardswish": x * (x + 3).clamp(0, 6) / 6,
        "act/tanh": x.tanh(),
        "act/elu": torch.where(x > 0, x, x.expm1()),
        "act/leaky_relu": torch.where(x > 0, x, 0.01 * x),
        "act/softplus": torch.log1p(x.exp()),
        "act/prelu": torch.where(x > 0, x, 0.25 * x),
    }
    if name in formula:
        torch.testing.assert_close(y, formula[name], atol=1e-6, rtol=1e-5)
