"""The definition in plain loops against the authors' numbers, and the layers against both."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.layers.tversky.goldens import golden, needs_goldens
from tests.layers.tversky.oracle import EVERY, magnitude, problem, similarity
from zoo.layers.tversky import TverskyProjection, TverskySimilarity, set_level, tversky_similarity

STATE = ("prototypes.weight", "feature_bank.weight", "theta", "alpha", "beta")
GRADIENTS = [
    "proj_gmean_positive",
    "proj_mean_ignorematch_normalize_3d",
    "proj_min_substractmatch",
    "proj_product_ignorematch",
    "proj_product_substractmatch",
    "proj_ratio_product_substractmatch",
    "per_feature_grad_min_substractmatch",
    "per_feature_grad_product_substractmatch",
    "per_feature_grad_softmin_ignorematch",
]
BACKENDS = ["auto", "reference"]


def keywords(how: tuple[str, str, str, bool]) -> dict:
    return dict(zip(("similarity", "intersection", "difference", "per_feature"), how, strict=True))


def layer_of(state: dict, how: tuple[str, str, str, bool], **options) -> TverskyProjection:
    """A layer with the tensors of an official state dict, loaded as they are named."""
    features, dim = state["feature_bank.weight"].shape
    layer = TverskyProjection(dim, len(state["prototypes.weight"]), features, **keywords(how), **options)
    own = set(layer.state_dict())
    layer.load_state_dict({k: v.float() for k, v in state.items() if k in own}, strict=True)
    return layer


@needs_goldens
@pytest.mark.parametrize("name", GRADIENTS)
def test_the_loops_and_the_layer_have_the_authors_outputs_and_gradients(name):
    case = golden(name)
    how, normalize = case.how(), case.meta["kwargs"]["normalize"]
    leaves = {k: v.clone().requires_grad_() for k, v in case.part("state").items()}
    x = case.tensors["in.x"].clone().requires_grad_()
    y = similarity(x, *(leaves[k] for k in STATE), how=how, normalize=normalize)
    case.check(y, case.tensors["out.y"], "loops")
    (y * case.tensors["in.cotangent"]).sum().backward()
    found = {"x": x.grad, **{k: v.grad for k, v in leaves.items()}}
    for key, expected in case.part("grad").items():
        case.check(found[key], expected, f"loops: gradient of {key}")
    for backend in BACKENDS:
        layer = layer_of(case.part("state"), how, normalize=normalize, backend=backend)
        x = case.tensors["in.x"].float().requires_grad_()
        y = layer(x)
        case.check(y, case.tensors["out.y"], backend)
        (y * case.tensors["in.cotangent"].float()).sum().backward()
        found = {"x": x.grad, **{k: v.grad for k, v in layer.named_parameters()}}
        for key, expected in case.part("grad").items():
            case.check(found[key], expected, f"{backend}: gradient of {key}")


@needs_goldens
@pytest.mark.parametrize("name", ["proj_all_reductions", "per_feature_all"])
def test_every_combination_has_the_authors_outputs(name):
    case = golden(name)
    outputs = case.part("out")
    assert len(outputs) == (36 if name == "per_feature_all" else 24)
    state = case.part("state")
    for key, expected in outputs.items():
        how = (*key.split("."), name == "per_feature_all")
        case.check(similarity(case.tensors["in.x"], *(state[k] for k in STATE), how=how), expected, f"loops {key}")
        for backend in BACKENDS:
            with torch.no_grad():
                y = layer_of(state, how, backend=backend)(case.tensors["in.x"].float())
            case.check(y, expected, f"{backend} {key}")


@needs_goldens
def test_pairs_with_the_layers_own_weights_and_with_others():
    case = golden("similarity_pairwise")
    x, y, state = case.tensors["in.x"], case.tensors["in.y"], case.part("state")
    for key, expected in case.part("out").items():
        given = {"alpha": 0.9, "beta": 0.1, "theta": 2.0} if key.startswith("override.") else {}
        how = (*key.removeprefix("override.").split("."), False)
        weights = {k: given.get(k, state[k]) for k in ("theta", "alpha", "beta")}
        case.check(similarity(x, y, state["feature_bank.weight"], **weights, how=how), expected, f"loops {key}")
        layer = TverskySimilarity(16, 12, **keywords(how))
        own = set(layer.state_dict())
        layer.load_state_dict({k: v.float() for k, v in state.items() if k in own}, strict=True)
        case.check(layer(x.float(), y.float(), **given), expected, key)


@needs_goldens
def test_two_layers_on_one_bank_and_prototypes_from_elsewhere():
    case = golden("shared_bank_tied_prototypes")
    first, second = case.part("state.a"), case.part("state.b")
    embedding = nn.Embedding.from_pretrained(case.tensors["in.prototypes"].float(), freeze=False)
    a = layer_of(first, case.how(**case.meta["kwargs"]["a"]))
    how = case.how(**case.meta["kwargs"]["b"])
    shared = TverskyProjection(10, 9, feature_bank=a, prototypes=embedding, **keywords(how))
    shared.load_state_dict({k: second[k].float() for k in ("theta", "alpha", "beta")}, strict=True)
    called = layer_of(second, how)
    for b in (lambda x: shared(x), lambda x: called(x, embedding.weight, a.feature_bank.weight)):
        x = case.tensors["in.x"].float().requires_grad_()
        a.zero_grad()
        embedding.zero_grad()
        y, z = a(x), b(x)
        case.check(y, case.tensors["out.y"], "y")
        case.check(z, case.tensors["out.z"], "z")
        (
            (y * case.tensors["in.cotangent_y"].float()).sum() + (z * case.tensors["in.cotangent_z"].float()).sum()
        ).backward()
        case.check(x.grad, case.tensors["grad.x"], "gradient of x")
        case.check(embedding.weight.grad, case.tensors["grad.prototypes"], "gradient of the prototypes")
        bank = a.feature_bank.weight.grad
        case.check(bank, case.tensors["grad.a.feature_bank.weight"], "gradient of the bank")


def gradients(values: dict, function) -> dict:
    """Output of a function of the problem's tensors, and the gradients of its product with the cotangent."""
    leaves = {k: v.detach().clone().requires_grad_(v.requires_grad) for k, v in values.items()}
    y = function(leaves)
    (y * leaves["cotangent"]).sum().backward()
    return {"y": y.detach(), **{k: v.grad for k, v in leaves.items() if k != "cotangent"}}


def agree(found: dict, expected: dict, **tolerance) -> None:
    for key, value in expected.items():
        other = found[key]
        if value is None or other is None:  # theta has no part in the ratio model
            assert not any(g is not None and g.any() for g in (value, other)), key
            continue
        torch.testing.assert_close(other, value, msg=lambda m, k=key: f"{k}: {m}", **tolerance)


def call(leaves: dict, how, **options) -> torch.Tensor:
    return tversky_similarity(
        leaves["x"],
        leaves["prototypes"],
        leaves["bank"],
        theta=leaves["theta"],
        alpha=leaves["alpha"],
        beta=leaves["beta"],
        **keywords(how),
        **options,
    )


def loops(leaves: dict, how, normalize: bool = False) -> torch.Tensor:
    return similarity(*(leaves[k] for k in ("x", "prototypes", "bank", "theta", "alpha", "beta")), how, normalize)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("how", EVERY, ids=lambda how: ".".join(map(str, how)))
def test_outputs_and_gradients_are_those_of_the_loops(how, backend):
    for values, normalize in (
        (problem(), False),
        (problem(3, seed=1, lead=(2,)), True),
        (problem(2, lead=(2, 3)), False),
    ):
        expected = gradients(values, lambda v, n=normalize: loops(v, how, n))
        found = gradients(values, lambda v, n=normalize: call(v, how, normalize=n, backend=backend))
        agree(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("how", EVERY, ids=lambda how: ".".join(map(str, how)))
def test_so_are_those_of_the_ways_that_large_sizes_take(how, monkeypatch):
    monkeypatch.setattr(set_level, "_LARGE", 0)
    values = problem(160, 400, 16, 8, seed=2)
    single = {k: v.detach().float().requires_grad_(v.requires_grad) for k, v in values.items()}
    expected = gradients(values, lambda v: loops(v, how))
    agree(gradients(values, lambda v: call(v, how)), expected, rtol=1e-8, atol=1e-8)
    found = gradients(single, lambda v: call(v, how))
    for key, value in expected.items():
        if value is None or (key == "theta" and how[0] == "ratio"):
            continue
        scale = float(value.abs().max())
        torch.testing.assert_close(
            found[key].double(), value, rtol=1e-3, atol=1e-3 * scale, msg=lambda m, k=key: f"{k}: {m}"
        )


def test_a_shared_bank_and_tied_prototypes_gather_both_layers_gradients():
    first, second = EVERY[0], EVERY[1]
    values = problem()
    bank, embedding = TverskyProjection(12, 7, 10, dtype=torch.float64), nn.Embedding(7, 12, dtype=torch.float64)
    with torch.no_grad():
        bank.feature_bank.weight.copy_(values["bank"])
        embedding.weight.copy_(values["prototypes"])
    other = TverskyProjection(12, 7, feature_bank=bank, prototypes=embedding, dtype=torch.float64, **keywords(second))
    x = values["x"].detach().requires_grad_()
    y = bank(x, prototypes=embedding.weight) - 2 * other(x)
    (y * values["cotangent"]).sum().backward()

    def both(v):
        rest = (v["x"], v["prototypes"], v["bank"], 1.0, 0.5, 0.5)
        return similarity(*rest, first) - 2 * similarity(*rest, second)

    expected = gradients({k: values[k] for k in ("x", "prototypes", "bank", "cotangent")}, both)
    found = {"y": y.detach(), "x": x.grad, "prototypes": embedding.weight.grad, "bank": bank.feature_bank.weight.grad}
    agree(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("how", EVERY[::5], ids=lambda how: ".".join(map(str, how)))
def test_pairs_within_leading_axes(how):
    draw = torch.Generator().manual_seed(3)
    x, y = (torch.randn(2, n, 12, generator=draw, dtype=torch.float64) for n in (3, 4))
    layer = TverskySimilarity(12, 10, dtype=torch.float64, **keywords(how))
    bank = layer.feature_bank.weight
    expected = torch.stack([similarity(a, b, bank, how=how) for a, b in zip(x, y, strict=True)])
    torch.testing.assert_close(layer(x, y), expected)
    torch.testing.assert_close(
        layer(x, y, alpha=0.9, beta=torch.tensor(0.1, dtype=torch.float64), theta=2.0),
        torch.stack([similarity(a, b, bank, 2.0, 0.9, 0.1, how=how) for a, b in zip(x, y, strict=True)]),
    )


@pytest.mark.parametrize(
    "how", [how for how in EVERY if how[0] == "contrast"] + EVERY[12:14], ids=lambda how: ".".join(map(str, how))
)
def test_gradients_in_float64_are_those_of_differences(how):
    values = problem(3, 4, 6, 5, seed=4)
    leaves = [values[k] for k in ("x", "prototypes", "bank", "theta", "alpha", "beta")]

    def function(x, prototypes, bank, theta, alpha, beta):
        weights = {"theta": theta, "alpha": alpha, "beta": beta}
        return tversky_similarity(x, prototypes, bank, **weights, **keywords(how))

    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("how", [how for how in EVERY if how[0] == "contrast"], ids=lambda how: ".".join(map(str, how)))
def test_under_autocast_bfloat16_is_near(how):
    draw = torch.Generator().manual_seed(0)
    x, prototypes, bank = (torch.randn(rows, 64, generator=draw) / scale for rows, scale in ((6, 1), (8, 8), (96, 8)))
    # A measure near the threshold can fall on its other side when it is rounded: a jump, not an error of rounding.
    bank = bank[(torch.cat([x @ bank.T, 8 * prototypes @ bank.T]).abs() > 0.05).all(0)]
    assert len(bank) > 32
    layer = TverskyProjection(64, 8, len(bank), **keywords(how))
    layer.load_state_dict({**layer.state_dict(), "prototypes.weight": prototypes, "feature_bank.weight": bank})
    with torch.no_grad():
        expected = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            found = layer(x)
    error = (found.float() - expected).abs() / magnitude(x, prototypes, bank, 1.0, 0.5, 0.5)
    assert float(error.max()) < 2e-2
