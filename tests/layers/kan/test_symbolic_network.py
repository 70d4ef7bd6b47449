"""A KAN read off as formulas."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import sympy
import torch

from zoo.layers.kan import KAN, KANLinear
from zoo.layers.kan.symbolic import FUNCTIONS, fit_edge, symbolic_network


def _curve_of(layer, out_index, in_index, function, points=400):
    """Set the curve of one edge to a function, as closely as its splines can."""
    low, high = layer.basis.span()
    x = torch.linspace(low, high - 1e-6, points, dtype=layer.weight.dtype)
    bases = layer.basis(x.unsqueeze(-1).expand(-1, layer.in_features))[:, in_index]
    solution = torch.linalg.lstsq(bases, function(x).unsqueeze(-1)).solution.squeeze(-1)
    with torch.no_grad():
        layer.weight[out_index, in_index] = solution


def _known_network():
    """exp(sin(pi x0) + x1^2), with 40 cubic pieces an edge."""
    options = {"grid_size": 40, "base_activation": None, "edge_scale": False, "dtype": torch.float64}
    first = KANLinear(2, 1, **options)
    second = KANLinear(1, 1, grid_range=(-1.5, 2.5), **options)
    _curve_of(first, 0, 0, lambda x: torch.sin(math.pi * x))
    _curve_of(first, 0, 1, lambda x: x**2)
    _curve_of(second, 0, 0, torch.exp)
    network = KAN([2, 1, 1], **options)
    network.layers[0], network.layers[1] = first, second
    return network


X = torch.rand(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1


def test_the_formula_of_a_known_function():
    network = _known_network()
    found = symbolic_network(network, X)
    assert {fit.name for fit in found.fits.values()} <= {"sin", "cos", "x^2", "exp"}
    assert [found.fits[edge].name for edge in ((0, 0, 1), (1, 0, 0))] == ["x^2", "exp"]
    wanted = torch.exp(torch.sin(math.pi * X[:, 0]) + X[:, 1] ** 2)
    torch.testing.assert_close(found(X)[:, 0], wanted, rtol=1e-3, atol=1e-3)


def test_the_expression_computes_what_the_network_computes():
    found = symbolic_network(_known_network(), X)
    (expression,) = found.formula(["u", "v"], digits=12)
    assert {symbol.name for symbol in expression.free_symbols} == {"u", "v"}
    evaluate = sympy.lambdify(sympy.symbols("u v"), expression)
    values = torch.tensor([evaluate(*row) for row in X.tolist()], dtype=torch.float64)
    torch.testing.assert_close(values, found(X)[:, 0].detach(), rtol=1e-8, atol=1e-8)
    assert len(str(found.formula(digits=2)[0])) < len(str(expression))


def test_inputs_may_be_expressions():
    found = symbolic_network(_known_network(), X)
    t = sympy.Symbol("t")
    (expression,) = found.formula([(t - 3) / 2, sympy.Integer(0)], digits=10)
    assert float(expression.subs(t, 3.5)) == pytest.approx(found(torch.tensor([[0.25, 0.0]]).double()).item(), rel=1e-7)


def test_masked_edges_have_no_part():
    network = _known_network()
    network.layers[0].mask_edges(torch.tensor([[True, False]]))
    found = symbolic_network(network, X)
    assert set(found.fits) == {(0, 0, 0), (1, 0, 0)}
    assert {symbol.name for symbol in found.formula()[0].free_symbols} == {"x_0"}
    torch.testing.assert_close(found(X), network(X), rtol=1e-3, atol=1e-3)


def test_edges_that_fit_badly_keep_their_curve():
    network = _known_network()
    found = symbolic_network(network, X, functions=["x^2", "exp"], min_r2=0.999)
    assert set(found.fits) == {(0, 0, 1), (1, 0, 0)}
    torch.testing.assert_close(found(X), network(X), rtol=1e-3, atol=1e-3)
    assert "phi_0_0_0(x_0)" in str(found.formula()[0])
    none = symbolic_network(network, X, functions=["x"], min_r2=1.0)
    assert not none.fits
    torch.testing.assert_close(none(X), network(X))


def test_a_function_can_be_chosen_for_an_edge():
    found = symbolic_network(_known_network(), X, edges={(0, 0, 1): "abs"})
    assert found.fits[0, 0, 1].name == "abs"
    assert found.fits[1, 0, 0].name == "exp"


def test_product_nodes_multiply_in_the_formula():
    torch.manual_seed(0)
    network = KAN([2, (1, 2), 1], arity=2, affine=True, grid_size=20, dtype=torch.float64)
    with torch.no_grad():
        for parameter in network.nodes.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    found = symbolic_network(network, X)
    (expression,) = found.formula(digits=14)
    evaluate = sympy.lambdify(sympy.symbols("x_0 x_1"), expression)
    values = torch.tensor([complex(evaluate(*row)).real for row in X[:50].tolist()], dtype=torch.float64)
    torch.testing.assert_close(values, found(X[:50])[:, 0].detach(), rtol=1e-6, atol=1e-6)


def test_it_can_be_trained_on():
    network = _known_network()
    with torch.no_grad():
        network.layers[0].weight.mul_(1 + 0.02 * torch.randn(network.layers[0].weight.shape).double())
    found = symbolic_network(network, X, functions=["sin", "x^2", "exp"])
    wanted = torch.exp(torch.sin(math.pi * X[:, 0]) + X[:, 1] ** 2)

    optimizer = torch.optim.LBFGS(found.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        error = (found(X)[:, 0] - wanted).square().mean()
        error.backward()
        return error

    before = loss().item()
    optimizer.step(loss)
    assert loss().item() < min(1e-6, before / 100)


def test_a_bias_is_a_part_of_the_formula():
    layer = KANLinear(1, 2, bias=True, base_activation=None, dtype=torch.float64)
    found = symbolic_network(layer, X[:, :1])
    without = found.formula(digits=12)
    with torch.no_grad():
        found.layers[0].bias += 2
    after = found.formula(digits=12)
    assert [float((b - a).evalf(subs={"x_0": 0.5})) for a, b in zip(without, after, strict=True)] == pytest.approx(
        [2, 2]
    )


def test_an_input_that_does_not_vary_gives_a_number():
    layer = KANLinear(2, 1, dtype=torch.float64)
    constant = torch.cat([X[:, :1], torch.full_like(X[:, 1:], 0.25)], 1)
    found = symbolic_network(layer, constant)
    assert found.fits[0, 0, 1].name == "0"
    torch.testing.assert_close(found(constant), layer(constant), rtol=0, atol=5e-2 * layer(constant).std().item())


def test_the_kan_is_left_as_it_is():
    network = _known_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = symbolic_network(network, X, min_r2=0.9999)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.zero_()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_it_is_pickled_and_copied():
    found = symbolic_network(_known_network(), X, functions=["x^2", "exp"], min_r2=0.999)
    for again in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        assert torch.equal(again(X), found(X))
        assert again.fits[0, 0, 1].function is FUNCTIONS["x^2"]
        assert str(again.formula()) == str(found.formula())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu():
    network = _known_network()
    found = symbolic_network(network.cuda(), X.cuda(), functions=["x^2", "sin", "exp"])
    wanted = torch.exp(torch.sin(math.pi * X[:, 0]) + X[:, 1] ** 2)
    torch.testing.assert_close(found(X.cuda())[:, 0].cpu(), wanted, rtol=1e-3, atol=1e-3)


def test_a_line_is_read_off_with_all_its_digits():
    network = KANLinear(1, 1, grid_size=20, base_activation=None, edge_scale=False)
    _curve_of(network, 0, 0, lambda x: 0.5 * x)
    found = symbolic_network(network, X[:, :1].float(), functions=["x^2"])
    evaluate = sympy.lambdify(sympy.Symbol("x_0"), found.formula(digits=6)[0])
    values = torch.tensor([evaluate(value) for value in X[:, 0].tolist()])
    torch.testing.assert_close(values, 0.5 * X[:, 0].float(), rtol=0, atol=0.01)


def test_refusals():
    with pytest.raises(ValueError, match=r"layer 0 has a LayerNorm.*norm=None"):
        symbolic_network(KAN([2, 3, 1], layer=KANLinear.fast), X.float())
    network = _known_network()
    with pytest.raises(KeyError, match=r"no edge \(0, 0, 5\)"):
        symbolic_network(network, X, edges={(0, 0, 5): "sin"})
    with pytest.raises(ValueError, match="did you mean 'sin'"):
        symbolic_network(network, X, functions=["sinn"])
    with pytest.raises(ValueError, match="NaN"):
        symbolic_network(network, X * math.nan)
    with pytest.raises(ValueError, match="min_r2 must be between 0 and 1, got 2"):
        symbolic_network(network, X, min_r2=2.0)
    with pytest.raises(ValueError, match="2 inputs, got 1"):
        symbolic_network(network, X).formula(["a"])


def test_a_fit_evaluates_where_it_was_fitted():
    network = _known_network()
    curve = network.layers[0].edge_curve(X[:, 0], 0, 0)
    fit = fit_edge(X[:, 0], curve)[0]
    torch.testing.assert_close(fit(X[:, 0]), curve.detach(), rtol=0, atol=1e-3)
    assert fit.name in str(fit)
