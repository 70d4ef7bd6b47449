"""What a layer says of itself: terms that sum to its outputs, sets of features, what is dead, and changes by hand."""

import itertools
import json

import pytest
import torch
from torch import nn

from zoo.layers.tversky import TverskyProjection, TverskySimilarity
from zoo.layers.tversky.data_bank import DataDomainBank
from zoo.layers.tversky.interpretation import (
    FeatureSet,
    asymmetry,
    diagnose,
    explain,
    feature_activations,
    feature_sets,
    prototype_sets,
    read_feature,
    salience,
    set_prototype,
)
from zoo.layers.tversky.options import DIFFERENCES, INTERSECTIONS, MEMBERSHIPS


def _layer(**options):
    torch.manual_seed(0)
    layer = TverskyProjection(6, 4, 9, **options)
    with torch.no_grad():
        for name, value in zip(("theta", "alpha", "beta"), (1.3, 0.7, 0.4), strict=True):
            getattr(layer, name).fill_(value)
    return layer, torch.randn(5, 6)


def _by_hand():
    """Features and measures are coordinates: input (2, 1, 0, -1), prototypes (1, 0, 3, 0) and (-1, -1, -1, 0)."""
    layer = TverskyProjection(4, 2, 4)
    with torch.no_grad():
        layer.feature_bank.weight.copy_(torch.eye(4))
        layer.prototypes.weight.copy_(torch.tensor([[1.0, 0, 3, 0], [-1, -1, -1, 0]]))
    return layer, torch.tensor([2.0, 1, 0, -1])


_EVERY = [
    (intersection, difference, per_feature)
    for intersection, difference, per_feature in itertools.product(INTERSECTIONS, DIFFERENCES, (False, True))
    if per_feature or difference != "substractmatch_common"
]


@pytest.mark.parametrize("similarity", ["contrast", "ratio"])
@pytest.mark.parametrize("membership", MEMBERSHIPS)
@pytest.mark.parametrize(("intersection", "difference", "per_feature"), _EVERY)
def test_terms_sum_to_the_output(similarity, membership, intersection, difference, per_feature):
    options = {"intersection": intersection, "difference": difference, "per_feature": per_feature}
    layer, x = _layer(similarity=similarity, membership=membership, scale=0.5, normalize=True, **options)
    wanted = layer(x)
    for target in range(4):
        explanation = explain(layer, x, target)
        for value in (explanation.terms.sum(-1), explanation.score):
            torch.testing.assert_close(value, wanted[:, target], rtol=0, atol=1e-5)
        if similarity == "ratio":
            parts = (explanation.common - explanation.ours - explanation.theirs).sum(-1)
            torch.testing.assert_close(parts + 0.5 / explanation.denominator, torch.full((5,), 0.5))
        shorter = explain(layer, x, target, topk=3)
        torch.testing.assert_close(shorter.terms.sum(-1) + shorter.rest, wanted[:, target], rtol=0, atol=1e-5)


def test_terms_of_the_default_are_those_of_the_equation():
    layer, x = _by_hand()
    explanation = explain(layer, x, 0)
    assert explanation.common.tolist() == [2, 0, 0, 0]
    assert explanation.ours.tolist() == [0, -0.5, 0, 0]
    assert explanation.theirs.tolist() == [0, 0, -1.5, 0]
    assert explanation.score.item() == 0
    assert explanation.input_measures.tolist() == [2, 1, 0, -1]
    assert explanation.prototype_measures.tolist() == [1, 0, 3, 0]


@pytest.mark.parametrize(
    ("intersection", "wanted"),
    [("min", [0.5, 1, 0]), ("max", [2, 0.25, 0]), ("mean", [1.25, 0.625, 0]), ("product", [1, 0.25, 0])],
)
def test_sums_are_shared_out_by_the_side_that_counts(intersection, wanted):
    """Input (2, 0.25, 1) and prototype (0.5, 1, 0): sums over the common features 2.25 and 1.5."""
    layer = TverskyProjection(3, 1, 3, intersection=intersection)
    with torch.no_grad():
        layer.feature_bank.weight.copy_(torch.eye(3))
        layer.prototypes.weight.copy_(torch.tensor([[0.5, 1, 0]]))
    explanation = explain(layer, torch.tensor([2, 0.25, 1]))
    assert explanation.common.tolist() == wanted
    assert explanation.ours.tolist() == [0, 0, -0.5]


def test_softmin_of_nothing_is_spread_evenly():
    layer, x = _by_hand()
    layer.intersection = "softmin"
    explanation = explain(layer, x, 1)
    torch.testing.assert_close(explanation.common, torch.full((4,), -torch.tensor(2.0).log().item() / 4))


def test_the_target_is_the_largest_output_or_one_a_row():
    layer, x = _layer()
    outputs = layer(x)
    assert explain(layer, x).target.tolist() == outputs.argmax(1).tolist()
    torch.testing.assert_close(explain(layer, x).score, outputs.amax(1))
    each = torch.tensor([3, 0, 1, 2, 0])
    torch.testing.assert_close(explain(layer, x, each).score, outputs.gather(1, each[:, None])[:, 0])
    cube = explain(layer, x.view(5, 1, 6))
    torch.testing.assert_close(cube.score[:, 0], outputs.amax(1))


def test_top_features_are_those_of_the_largest_parts():
    layer, x = _layer(difference="substractmatch")
    whole, top = explain(layer, x[0]), explain(layer, x[0], topk=4)
    sizes = whole.common.abs() + whole.ours.abs() + whole.theirs.abs()
    assert top.features.tolist() == sizes.sort(descending=True, stable=True).indices[:4].tolist()
    assert torch.equal(top.terms, whole.terms[top.features])
    assert whole.features.tolist() == list(range(9))
    assert explain(layer, x[0], topk=50).features.numel() == 9


def test_explanation_as_text_and_numbers():
    layer, x = _by_hand()
    explanation = explain(layer, x, 0)
    lines = str(explanation).splitlines()
    assert lines[0] == "output 0: 0.0000 (contrast model)"
    assert lines[2].split() == ["0", "2.0000", "1.0000", "2.0000", "0.0000", "0.0000", "2.0000"]
    assert str(explanation.top(1)).splitlines()[-1].split() == ["3", "others", "-2.0000"]
    values = json.loads(json.dumps(explanation.to_dict()))
    assert values["terms"] == [2, -0.5, -1.5, 0]
    assert values["target"] == 0
    both = explain(layer, torch.stack([x, -x]))
    assert len(both) == 2
    assert str(both).count("contrast model") == 2
    assert both[1].to_dict() == explain(layer, -x).to_dict()


def test_explanation_in_half_precision_is_of_the_rounded_measures():
    layer, x = _layer(dtype=torch.float32)
    layer, x = layer.bfloat16(), x.bfloat16()
    explanation = explain(layer, x, 1)
    assert explanation.score.dtype == torch.float32
    torch.testing.assert_close(explanation.score, layer(x)[:, 1].float(), rtol=0.02, atol=0.05)


def test_activations_and_salience():
    layer, x = _layer()
    measures = x @ layer.feature_bank.weight.T
    torch.testing.assert_close(feature_activations(layer, x), measures.relu())
    torch.testing.assert_close(salience(layer, x), measures.relu().sum(1))
    (gradient,) = torch.autograd.grad(salience(layer, x).sum(), layer.feature_bank.weight)
    torch.testing.assert_close(gradient, (measures > 0).float().T @ x)
    pairs = TverskySimilarity(6, 9, normalize=True, feature_bank=layer)
    torch.testing.assert_close(salience(pairs, x), salience(layer, x) / x.norm(dim=1))
    soft, x = _layer(membership="soft")
    measures = x @ soft.feature_bank.weight.T
    torch.testing.assert_close(feature_activations(soft, x), measures * (1 + torch.tanh(13 * measures)) / 2)


def test_sets_obey_the_algebra_of_sets():
    layer, x = _layer()
    sets, prototypes = feature_sets(layer, x), prototype_sets(layer)
    assert torch.equal(sets.present, x @ layer.feature_bank.weight.T > 0)
    a, b, c = (set(s.indices()) for s in (sets[0], sets[1], prototypes[0]))
    everything = set(range(9))
    A, B, C = sets[0], sets[1], prototypes[0]
    for made, wanted in [
        (A & B - C, (a & b) - c),
        ((A & B) - C, (a & b) - c),
        (A | B, a | b),
        (A ^ B, a ^ b),
        (~A, everything - a),
        (A - B, a - b),
    ]:
        assert set(made.indices()) == wanted
        assert len(made) == int(made.count()) == len(wanted)
    assert [k in A for k in range(9)] == [k in a for k in range(9)]
    assert A.jaccard(B).item() == pytest.approx(len(a & b) / len(a | b))
    assert (A - A).jaccard(B - B).item() == 1
    assert torch.equal((sets & C).count(), torch.stack([(sets[i] & C).count() for i in range(5)]))
    assert len(sets) == 5
    assert str(FeatureSet(torch.tensor([True, False, True]))) == "{0, 2} of 3 features"


def test_sets_of_different_layers_do_not_mix():
    with pytest.raises(ValueError, match="sets of 3 and of 2 features"):
        FeatureSet(torch.ones(3, dtype=torch.bool)) & FeatureSet(torch.ones(2, dtype=torch.bool))
    with pytest.raises(TypeError):
        FeatureSet(torch.ones(3, dtype=torch.bool)) & {1}  # pyright: ignore[reportOperatorIssue]
    with pytest.raises(ValueError, match=r"indices\(\) is of one set"):
        FeatureSet(torch.ones(2, 3, dtype=torch.bool)).indices()


def test_diagnosis_finds_what_gets_no_gradient():
    layer, _ = _by_hand()
    x = torch.tensor([[2.0, 1, 0, -1], [1, -1, 0, -1]])
    found = diagnose(layer, x)
    assert found.dead_prototypes == [1]
    assert found.dead_features == [2, 3]
    assert found.unused_features == [1, 3]
    assert found.lost_features == [3]
    assert found.always_on_features == [0]
    assert (found.features_per_input, found.features_per_prototype) == (1.5, 1)
    outputs = layer(x)
    assert found.logit_mean == pytest.approx(outputs.mean().item())
    assert found.logit_std == pytest.approx(outputs.std(correction=0).item())
    outputs.square().sum().backward()
    assert not layer.prototypes.weight.grad[1].any()
    assert layer.prototypes.weight.grad[0].any()
    lost = layer.feature_bank.weight.grad.abs().sum(1) == 0
    assert lost.nonzero().flatten().tolist() == found.lost_features
    text = str(found)
    assert "dead prototypes (no feature present): 1\n" in text
    assert "membership='ste'" in text
    assert json.loads(json.dumps(found.to_dict()))["lost_features"] == [3]


def test_diagnosis_advises_on_a_start_that_explodes():
    torch.manual_seed(0)
    layer = TverskyProjection(64, 10, 32, init="uniform")
    with torch.no_grad():
        layer.alpha.fill_(-0.1)
    tips = " ".join(diagnose(layer, torch.rand(20, 64)).advice())
    assert "every input" in tips
    assert "too far for a softmax" in tips
    assert "alpha fell below 0" in tips
    healthy = TverskyProjection(64, 10, 32)
    assert diagnose(healthy, torch.randn(200, 64)).advice() == []


def test_asymmetry_is_of_salience():
    """With the same intersection both ways it is (beta - alpha) times the difference of the two differences."""
    layer, _ = _layer()
    got = asymmetry(layer)
    s = salience(layer, layer.prototypes.weight).detach()
    q = feature_activations(layer, layer.prototypes.weight).detach()
    in_q = (q > 0).float()
    ours = s[:, None] - q @ in_q.T
    torch.testing.assert_close(got, (layer.beta - layer.alpha).detach() * (ours - ours.T))


def test_setting_a_prototype_makes_it_that_input():
    layer, x = _layer()
    others = layer.prototypes.weight[[0, 1, 3]].clone()
    set_prototype(layer, 2, x[0])
    assert torch.equal(layer.prototypes.weight[2], x[0])
    assert torch.equal(layer.prototypes.weight[[0, 1, 3]], others)
    embedding = nn.Embedding(4, 6)
    set_prototype(TverskyProjection(6, 4, 9, prototypes=embedding), 1, x[1])
    assert torch.equal(embedding.weight[1], x[1])
    image = torch.arange(4.0).view(2, 2)
    bank = DataDomainBank(nn.Sequential(nn.Flatten(), nn.Linear(4, 6)), 4, (2, 2))
    reader = TverskyProjection(6, 4, 9, prototypes=bank)
    set_prototype(TverskyProjection(6, 4, 9, prototypes=reader), 3, image)
    assert torch.equal(bank.inputs[3], image)


def test_reading_a_feature_gives_a_copy():
    layer, _ = _layer()
    row = read_feature(layer, 3)
    assert torch.equal(row, layer.feature_bank.weight[3])
    row.zero_()
    assert layer.feature_bank.weight[3].any()


def test_refusals():
    layer, x = _layer()
    with pytest.raises(ValueError, match=r"target must be in 0\.\.3, got 4"):
        explain(layer, x, 4)
    with pytest.raises(ValueError, match=r"target must be one number or \(5,\)"):
        explain(layer, x, torch.tensor([0, 1]))
    with pytest.raises(TypeError, match=r"number of an output, got torch\.float32"):
        explain(layer, x, torch.ones(5))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        explain(layer, x, topk=0)
    with pytest.raises(ValueError, match="must be equally wide"):
        explain(layer, torch.randn(2, 5))
    with pytest.raises(ValueError, match="must be equally wide"):
        salience(layer, torch.randn(2, 5))
    with pytest.raises(TypeError, match="TverskySimilarity has no prototypes"):
        explain(TverskySimilarity(6, 9), x)
    with pytest.raises(TypeError, match="one row, not a batch"):
        explain(layer, x[0])[0]
    with pytest.raises(ValueError, match="at least one input"):
        diagnose(layer, x[:0])
    with pytest.raises(IndexError, match=r"prototype must be in 0\.\.3, got -1"):
        set_prototype(layer, -1, x[0])
    with pytest.raises(ValueError, match=r"prototype must be \(6,\), got \(5, 6\)"):
        set_prototype(layer, 0, x)
    with pytest.raises(IndexError, match=r"feature must be in 0\.\.8, got 9"):
        read_feature(layer, 9)
    low_rank = nn.utils.parametrizations.weight_norm(nn.Linear(6, 4))
    with pytest.raises(TypeError, match="computed by ParametrizedLinear"):
        set_prototype(TverskyProjection(6, 4, 9, prototypes=low_rank), 0, x[0])
