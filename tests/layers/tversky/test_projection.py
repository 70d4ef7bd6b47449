"""The layer: what it keeps for inference, how it starts, its weights theta, alpha and beta, and its warnings."""

import math
import warnings

import pytest
import torch
from torch import nn

from zoo.layers import TverskyProjection, tversky_similarity
from zoo.layers.tversky import projection
from zoo.layers.tversky.inference import lifted_weight

X = torch.linspace(-2, 2, 24).view(3, 8)


def fresh(layer, x=X):
    """The similarities, computed from the parameters as they are."""
    return tversky_similarity(x, layer.prototypes.weight, layer.feature_bank.weight, **layer.similarity_options())


def step(layer):
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.5)
    layer(X).square().sum().backward()
    optimizer.step()


def edit(layer):
    with torch.no_grad():
        layer.feature_bank.weight[0] *= -2
        layer.prototypes.weight[1] += 1


def scalar(layer):
    with torch.no_grad():
        layer.stored_scalars()[1].add_(0.7)


def load(layer):
    torch.manual_seed(9)
    layer.load_state_dict(type(layer)(8, 4, 5, nonnegative=layer.nonnegative).state_dict())


def assign(layer):
    torch.manual_seed(9)
    layer.load_state_dict(type(layer)(8, 4, 5, nonnegative=layer.nonnegative).state_dict(), assign=True)


def redraw(layer):
    layer.reset_parameters()


KEPT = [
    {},
    {"intersection": "mean"},
    {"nonnegative": True},
    {"normalize": True},
    {"difference": "substractmatch"},
    {"intersection": "min", "difference": "substractmatch", "per_feature": True},
    {"similarity": "ratio"},
]


@pytest.mark.parametrize("change", [step, edit, scalar, load, assign, redraw])
@pytest.mark.parametrize("options", KEPT, ids=str)
def test_what_is_kept_follows_every_change(options, change):
    torch.manual_seed(0)
    layer = TverskyProjection(8, 4, 5, **options).eval()
    with torch.no_grad():
        before = layer(X)
        assert torch.equal(layer(X), before)  # from what the first call kept
    change(layer)
    with torch.no_grad():
        torch.testing.assert_close(layer(X), fresh(layer))
        assert not torch.allclose(layer(X), before)


@pytest.fixture(autouse=True)
def small_sizes_too(monkeypatch):
    monkeypatch.setattr(projection, "_WORTH", 0)


@pytest.fixture
def made(monkeypatch):
    """How often the measures of the prototypes were computed."""
    calls = []

    def counted(*args):
        calls.append(args)
        return lifted_weight(*args)

    monkeypatch.setattr(projection, "lifted_weight", counted)
    return calls


def test_the_second_call_does_not_touch_the_prototypes(made):
    layer = TverskyProjection(8, 4, 5).eval()
    with torch.no_grad():
        layer(X)
        layer(X)
        assert len(made) == 1
        layer.train().eval()
        layer(X)
        assert len(made) == 2


def test_too_much_is_kept_only_when_asked(monkeypatch, made):
    monkeypatch.setattr(projection, "_KEPT", 39)  # two numbers for each of 4 x 5 are 40
    layer = TverskyProjection(8, 4, 5).eval()
    with torch.no_grad():
        layer(X)
        assert not made
        layer.freeze()
        layer(X)
        layer(X)
        assert len(made) == 1
        layer.thaw()
        layer(X)
        assert len(made) == 1


def test_a_moving_average_through_data_is_seen():
    """Such an edit leaves no trace but the numbers themselves."""
    torch.manual_seed(0)
    student, teacher = TverskyProjection(64, 40, 32), TverskyProjection(64, 40, 32).eval()
    x = torch.randn(3, 64)
    with torch.no_grad():
        teacher(x)
        for ours, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
            ours.data.mul_(0.9).add_(theirs.data, alpha=0.1)
        torch.testing.assert_close(teacher(x), fresh(teacher, x))


def test_training_forgets_what_was_kept():
    layer = TverskyProjection(8, 4, 5).eval()
    with torch.no_grad():
        layer(X)
    assert layer._cache._kept
    layer.train()
    assert not layer._cache._kept


@pytest.mark.parametrize("difference", ["ignorematch", "substractmatch"])
def test_frozen_in_bfloat16(difference):
    torch.manual_seed(0)
    layer = TverskyProjection(8, 4, 5, difference=difference).eval()
    with torch.no_grad():
        wanted = layer(X)
        got = layer.freeze(torch.bfloat16)(X)
    assert got.dtype == torch.float32
    assert 0 < float((got - wanted).abs().max()) < 0.05


def test_nothing_is_kept_in_training_or_with_gradients():
    layer = TverskyProjection(8, 4, 5)
    with torch.no_grad():
        layer(X)
        layer.prototypes.weight.data.neg_()
        torch.testing.assert_close(layer(X), fresh(layer))
    layer.eval()
    layer(X).sum().backward()
    assert layer.prototypes.weight.grad is not None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"intersection": "mean", "normalize": True, "scale": 0.3},
        {"difference": "substractmatch"},
        {"similarity": "ratio", "intersection": "gmean", "nonnegative": True, "scale": 2.0},
    ],
    ids=str,
)
def test_the_linear_form_is_the_layer(options):
    torch.manual_seed(0)
    layer = TverskyProjection(8, 4, 5, **options)
    form = layer.to_linear()
    torch.testing.assert_close(form(X.view(1, 3, 8)), layer(X).detach().view(1, 3, 4))
    assert not any(value.requires_grad for value in form.state_dict().values())


@pytest.mark.parametrize("options", [{"membership": "soft"}, {"per_feature": True, "intersection": "min"}])
def test_no_linear_form(options):
    with pytest.raises(ValueError, match=r"to_linear\(\) has no matrix products"):
        TverskyProjection(8, 4, 5, **options).to_linear()


def test_starts():
    torch.manual_seed(0)
    bounds = {"uniform": (0.0, 1.0), "symmetric_uniform": (-1.0, 1.0)}
    bounds["scaled_uniform"] = (-math.sqrt(3 / 500), math.sqrt(3 / 500))
    for init, (low, high) in bounds.items():
        layer = TverskyProjection(500, 40, 30, init=init)
        for bank in (layer.feature_bank.weight.detach(), layer.prototypes.weight.detach()):
            assert low <= float(bank.min()) < low + 0.01 * (high - low)
            assert high - 0.01 * (high - low) < float(bank.max()) <= high
    rows = TverskyProjection(50, 40, 30, init="orthogonal").prototypes.weight
    torch.testing.assert_close(rows @ rows.T, torch.eye(40))
    rows = TverskyProjection(500, 400, 30, init="normal").prototypes.weight
    assert abs(float(rows.detach().std()) - 1) < 0.01


def test_theta_alpha_beta_at_the_start():
    for nonnegative in (False, True):
        layer = TverskyProjection(4, 3, nonnegative=nonnegative, dtype=torch.float64)
        torch.testing.assert_close(torch.stack(layer.scalars()), torch.tensor([1.0, 0.5, 0.5], dtype=torch.float64))
    with torch.no_grad():
        layer.raw_alpha.fill_(-3.0)
    assert 0 < layer.scalars()[1].item() < 0.05
    assert {"raw_theta", "raw_alpha", "raw_beta"} < set(layer.state_dict())


def test_state_dicts_of_either_kind_load():
    plain, above = TverskyProjection(4, 3, 2), TverskyProjection(4, 3, 2, nonnegative=True)
    with torch.no_grad():
        plain.alpha.fill_(1.7)
    above.load_state_dict(plain.state_dict())
    torch.testing.assert_close(torch.stack(above.scalars()), torch.tensor([1.0, 1.7, 0.5]))
    other = TverskyProjection(4, 3, 2)
    other.load_state_dict(above.state_dict())
    torch.testing.assert_close(torch.stack(other.scalars()), torch.tensor([1.0, 1.7, 0.5]))


@pytest.mark.parametrize(
    ("learn", "similarity", "learned"),
    [
        (True, "contrast", {"theta", "alpha", "beta"}),
        (False, "contrast", set()),
        (("alpha",), "contrast", {"alpha"}),
        (True, "ratio", {"alpha", "beta"}),
    ],
)
def test_which_are_learned_and_that_all_are_saved(learn, similarity, learned):
    layer = TverskyProjection(4, 3, 2, learn_scalars=learn, similarity=similarity)
    assert {n for n, _ in layer.named_parameters() if "." not in n} == learned
    assert {n for n in layer.state_dict() if "." not in n} == {"theta", "alpha", "beta"}


def test_scale():
    torch.manual_seed(0)
    plain = TverskyProjection(8, 4, 16)
    for scale, factor in ((0.5, 0.5), ("rsqrt_features", 0.25)):
        scaled = TverskyProjection(8, 4, 16, scale=scale)
        scaled.load_state_dict(plain.state_dict())
        torch.testing.assert_close(scaled(X), plain(X) * factor)


def test_features_by_default():
    assert TverskyProjection(20, 3).num_features == 20
    assert TverskyProjection(2000, 3).num_features == 256


def test_warns_of_the_pair_that_does_not_learn():
    with pytest.warns(UserWarning, match="does not learn under a softmax"):
        TverskyProjection(4, 3, intersection="min", difference="substractmatch", init="uniform")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TverskyProjection(4, 3, intersection="min", difference="substractmatch")
        TverskyProjection(4, 3, intersection="min", difference="substractmatch", init="uniform", per_feature=True)


def test_cross_entropy_is_that_of_the_outputs():
    torch.manual_seed(0)
    layer = TverskyProjection(8, 4, 5, scale="rsqrt_features", dtype=torch.float64)
    x, target = X.double().requires_grad_(), torch.tensor([3, -100, 0])
    wanted = nn.functional.cross_entropy(layer(x), target, label_smoothing=0.1)
    got = layer.cross_entropy(x, target, label_smoothing=0.1, chunk_tokens=1)
    torch.testing.assert_close(got, wanted)
    leaves = [x, *layer.parameters()]
    for ours, theirs in zip(torch.autograd.grad(got, leaves), torch.autograd.grad(wanted, leaves), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_layer_says_what_it_sees():
    torch.manual_seed(0)
    layer = TverskyProjection(8, 4, 5)
    measures = X @ layer.feature_bank.weight.T
    torch.testing.assert_close(layer.salience(X), measures.relu().sum(-1))
    assert torch.equal(layer.feature_sets(X).present, measures > 0)
    explanation = layer.explain(X[0], 2)
    torch.testing.assert_close(explanation.score, layer(X)[0, 2].detach())
    assert "alpha" in str(layer.diagnose(X))
    layer.set_prototype(1, X[2])
    assert torch.equal(layer.prototypes.weight[1].detach(), X[2])
