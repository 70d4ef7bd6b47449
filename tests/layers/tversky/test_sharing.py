"""Layers that read one bank: whose parameters it is among, what is saved, what moves and what is copied."""

import copy
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import zoo
from zoo.layers import TverskyProjection, TverskySimilarity


class Tied(nn.Module):
    """Two layers over one feature bank; the second one's prototypes are the embedding."""

    def __init__(self, **place):
        super().__init__()
        self.embed = nn.Embedding(9, 6, **place)
        self.inner = TverskyProjection(6, 6, 5, **place)
        self.head = TverskyProjection(6, 9, feature_bank=self.inner, prototypes=self.embed, **place)

    def forward(self, tokens):
        return self.head(self.inner(self.embed(tokens)))


OWN = {f"embed.{n}" for n in ("weight",)} | {f"inner.{n}.weight" for n in ("feature_bank", "prototypes")}
OWN |= {f"{layer}.{n}" for layer in ("inner", "head") for n in ("theta", "alpha", "beta")}
TOKENS = torch.tensor([[0, 3], [8, 1]])


def test_parameters_and_state_dict_name_a_shared_bank_once():
    model = Tied()
    assert set(dict(model.named_parameters(remove_duplicate=False))) == OWN
    assert set(model.state_dict()) == OWN
    assert model.head.num_features == 5
    assert model.head.feature_bank.weight is model.inner.feature_bank.weight
    assert "shared feature_bank, shared prototypes" in repr(model)


def test_gradients_add_up_over_the_readers():
    torch.manual_seed(0)
    model = Tied(dtype=torch.float64)
    model(TOKENS).square().sum().backward()
    together = model.inner.feature_bank.weight.grad
    embedded = model.embed.weight.grad
    bank = model.inner.feature_bank.weight.detach().clone().requires_grad_()
    other = bank.detach().clone().requires_grad_()
    words = model.embed.weight.detach().clone().requires_grad_()
    rows = words.detach().clone().requires_grad_()
    hidden = model.inner(nn.functional.embedding(TOKENS, words), feature_bank=bank)
    model.head(hidden, prototypes=rows, feature_bank=other).square().sum().backward()
    torch.testing.assert_close(together, bank.grad + other.grad)
    torch.testing.assert_close(embedded, words.grad + rows.grad)


def test_safetensors_round_trip(tmp_path):
    torch.manual_seed(0)
    model = Tied()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    again = Tied()
    again.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(again(TOKENS), model(TOKENS))
    assigned = Tied(device="meta")
    assigned.load_state_dict(load_file(tmp_path / "model.safetensors"), assign=True)
    torch.testing.assert_close(assigned(TOKENS), model(TOKENS))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_a_copy_of_the_whole_shares_within_itself(copied):
    model = Tied()
    other = copied(model)
    assert torch.equal(other(TOKENS), model(TOKENS))
    with torch.no_grad():
        other.inner.feature_bank.weight.add_(1)
    assert other.head.feature_bank.weight is other.inner.feature_bank.weight
    assert not torch.equal(other.head.feature_bank.weight, model.head.feature_bank.weight)


def test_moves_with_its_owner():
    model = Tied(device="meta").to_empty(device="cpu").double()
    model.inner.reset_parameters()
    model.embed.reset_parameters()
    model.head.reset_parameters()
    assert model.head.feature_bank.weight is model.inner.feature_bank.weight
    assert model(TOKENS).dtype == torch.float64
    assert bool(model(TOKENS).isfinite().all())


def test_reset_leaves_what_is_shared():
    owner = TverskyProjection(6, 4, 5)
    reader = TverskyProjection(6, 3, feature_bank=owner)
    before = owner.feature_bank.weight.clone()
    reader.reset_parameters()
    assert torch.equal(owner.feature_bank.weight, before)


def test_functional_call_reaches_the_reader():
    model = Tied()
    state = {name: value + 0.1 for name, value in model.state_dict().items()}
    got = torch.func.functional_call(model, state, (TOKENS,))
    other = Tied()
    other.load_state_dict(state)
    torch.testing.assert_close(got, other(TOKENS))


def test_a_bare_parameter_and_a_chain_of_readers():
    bank = nn.Parameter(torch.randn(5, 6))
    first = TverskyProjection(6, 4, feature_bank=bank)
    second = TverskySimilarity(6, feature_bank=first)
    assert second.feature_bank.weight is bank
    assert set(first.state_dict()) == {"prototypes.weight", "theta", "alpha", "beta"}
    assert set(second.state_dict()) == {"theta", "alpha", "beta"}


def test_a_similarity_layer_has_no_prototypes_to_share():
    with pytest.raises(TypeError, match="prototypes must be an"):
        TverskyProjection(6, 4, 5, prototypes=TverskySimilarity(6, 5))


def test_zoo_saves_what_is_tied(tmp_path):
    model = Tied()
    zoo.weights.save_safetensors(model.state_dict(), tmp_path / "tied.safetensors")
    assert set(load_file(tmp_path / "tied.safetensors")) == OWN
