"""Linear layers give way to Tversky projections: the right ones, where they were, as they were kept."""

import pytest
import torch
from torch import nn

from zoo.layers.tversky import TverskyProjection
from zoo.layers.tversky.banks import SharedBank
from zoo.layers.tversky.replacing import replace_linear


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2)
        self.fc1 = nn.Linear(8, 16)
        self.fc2 = nn.Linear(16, 8)

    def forward(self, x):
        x = x + self.attn(x, x, x)[0]
        return x + self.fc2(self.fc1(x).relu())


def _model():
    torch.manual_seed(0)
    return nn.Sequential(Block(), Block(), nn.LayerNorm(8), nn.Linear(8, 3))


def _kinds(model):
    return {name for name, module in model.named_modules() if isinstance(module, TverskyProjection)}


def test_replaces_what_is_named():
    model = _model()
    assert replace_linear(model, "3", 5, difference="substractmatch") == ["3"]
    assert _kinds(model) == {"3"}
    head = model[3]
    assert (head.in_features, head.out_features, head.num_features, head.difference) == (8, 3, 5, "substractmatch")
    x = torch.randn(4, 2, 8)
    torch.testing.assert_close(model(x), head(model[:3](x)))


def test_patterns_take_the_linear_layers_they_match():
    model = _model()
    assert replace_linear(model, ["3", "*.fc?"], 5) == ["0.fc1", "0.fc2", "1.fc1", "1.fc2", "3"]
    model = _model()
    assert replace_linear(model, "0.*", 5) == ["0.fc1", "0.fc2"]
    model(torch.randn(4, 2, 8)).sum().backward()
    assert model[0].fc1.prototypes.weight.grad.any()
    assert replace_linear(_model(), [], 5) == []


def test_one_bank_for_all_of_the_same_width():
    model = _model()
    replace_linear(model, "*", 5, share_bank=True)
    narrow = [model[0].fc1, model[1].fc1, model[3]]
    assert [isinstance(layer.feature_bank, SharedBank) for layer in narrow] == [False, True, True]
    assert {id(layer.feature_bank.weight) for layer in narrow} == {id(model[0].fc1.feature_bank.weight)}
    assert model[1].fc2.feature_bank.weight is model[0].fc2.feature_bank.weight
    assert model[0].fc2.feature_bank.weight.shape == (5, 16)
    banks = [name for name in model.state_dict() if "feature_bank" in name]
    assert banks == ["0.fc1.feature_bank.weight", "0.fc2.feature_bank.weight"]


def test_keeps_dtype_and_mode():
    model = _model().double()
    model[0].eval()
    replace_linear(model, "*", 5)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert not model[0].fc1.training
    assert not model[0].fc1.feature_bank.training
    assert model[1].fc1.training
    with torch.device("meta"):
        lazy = _model()
    replace_linear(lazy, "3", 5)
    assert lazy[3].prototypes.weight.is_meta


def test_a_layer_of_two_names_stays_one():
    shared = nn.Linear(8, 8)
    model = nn.ModuleDict({"a": shared, "b": nn.ModuleDict({"c": shared}), "d": nn.Linear(8, 8)})
    assert replace_linear(model, "b.c", 5) == ["a", "b.c"]
    assert model["a"] is model["b"]["c"]
    assert isinstance(model["a"], TverskyProjection)
    assert isinstance(model["d"], nn.Linear)


def test_conv1d_of_transformers():
    conv = pytest.importorskip("transformers.pytorch_utils").Conv1D
    model = nn.Sequential(conv(12, 8))
    assert replace_linear(model, "0", 5) == ["0"]
    assert model(torch.randn(2, 8)).shape == (2, 12)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("0.fc3", r"'0\.fc3' names no linear layer of the model; did you mean '0\.fc1'"),
        ("2", "'2' is a LayerNorm, no linear layer"),
        ("0.attn.out_proj", r"nn\.MultiheadAttention, which reads its weight without calling it"),
        (["3", "*.zzz"], r"'\*\.zzz' names no linear layer of the model; it has 0\.fc1, 0\.fc2"),
    ],
)
def test_refuses_other_names_and_changes_nothing(names, message):
    model = _model()
    with pytest.raises(ValueError, match=message):
        replace_linear(model, names, 5)
    assert not _kinds(model)


def test_refuses_what_cannot_be():
    with pytest.raises(ValueError, match="itself a linear layer"):
        replace_linear(nn.Linear(2, 2), "*", 5)
    with pytest.raises(ValueError, match="it has none"):
        replace_linear(nn.Sequential(nn.ReLU()), "*", 5)
    model = _model()
    with pytest.raises(ValueError, match="give it or feature_bank, not both"):
        replace_linear(model, "*", 5, share_bank=True, feature_bank=nn.Embedding(5, 8))
    with pytest.raises(ValueError, match="did you mean 'min'"):
        replace_linear(model, "*", 5, intersection="minn")
    assert not _kinds(model)


def test_torchs_encoder_works_in_inference_too():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    encoder = nn.TransformerEncoder(layer, 2)
    replace_linear(encoder, "*linear?", 4)
    x, padding = torch.randn(2, 3, 8), torch.tensor([[False, False, True]] * 2)
    wanted = encoder(x, src_key_padding_mask=padding)
    encoder.eval()
    with torch.no_grad():
        torch.testing.assert_close(encoder(x, src_key_padding_mask=padding), wanted)


def test_a_tied_head_is_told_of():
    model = nn.ModuleDict({"embed": nn.Embedding(7, 4), "head": nn.Linear(4, 7, bias=False)})
    model["head"].weight = model["embed"].weight
    with pytest.warns(UserWarning, match=r"head shares its weight with embed.*prototypes=model\.embed"):
        replace_linear(model, "head", 3)
    model["head"] = nn.Linear(4, 7, bias=False)
    model["head"].weight = model["embed"].weight
    replace_linear(model, "head", 3, prototypes=model["embed"])
    assert model["head"].prototypes.weight is model["embed"].weight
