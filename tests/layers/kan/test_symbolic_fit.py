"""Fitting the functions of a library to a sampled curve."""

from __future__ import annotations

import math

import pytest
import torch

from tests.layers.kan.goldens import FOLDER
from zoo.layers.kan.symbolic import FUNCTIONS, SymbolicFunction, fit_edge


def _by_name(x, y, **options):
    return {fit.name: fit for fit in fit_edge(x, y, **options)}


def test_fits_are_no_worse_than_those_of_pykan():
    from safetensors.torch import load_file

    golden = load_file(FOLDER / "symbolic_fit.safetensors")
    fits = _by_name(golden["in.x"], golden["in.y"])
    names = [key.removeprefix("out.r2.") for key in golden if key.startswith("out.r2.")]
    assert len(names) == 7
    for name in names:
        assert fits[name].r2 >= float(golden[f"out.r2.{name}"]) - 1e-4, name


X = torch.linspace(-1, 5, 400).double()


@pytest.mark.parametrize(
    ("name", "curve"),
    [
        ("x", lambda x: 2 * x - 1),
        ("x^2", lambda x: -3 * (x - 1.5) ** 2 + 7),
        ("x^3", lambda x: (x - 2) ** 3),
        ("x^4", lambda x: (x - 3) ** 4),
        ("x^5", lambda x: (x - 1) ** 5),
        ("1/x", lambda x: 1 / (x + 1.2)),
        ("1/x^2", lambda x: 4 / (6 - x) ** 2),
        ("1/x^3", lambda x: 1 / (x + 2) ** 3),
        ("1/x^4", lambda x: 1 / (x + 2) ** 4),
        ("1/x^5", lambda x: 1 / (x + 2) ** 5),
        ("sqrt", lambda x: torch.sqrt(7 - x)),
        ("x^1.5", lambda x: (x + 1) ** 1.5),
        ("1/sqrt", lambda x: torch.rsqrt(x + 1.3)),
        ("exp", lambda x: 3 * torch.exp(-0.7 * x) + 1),
        ("log", lambda x: torch.log(x + 1.5)),
        ("abs", lambda x: (x - 0.4).abs()),
        ("sgn", lambda x: 2 * torch.sign(x - 0.4)),
        ("sin", lambda x: 2 * torch.sin(9 * x + 1)),
        ("tan", lambda x: torch.tan(0.4 * x - 0.6)),
        ("tanh", lambda x: torch.tanh(3 * (x - 2))),
        ("arcsin", lambda x: torch.asin((x - 2) / 3.1)),
        ("arctan", lambda x: torch.atan(2 * (x - 1))),
        ("arctanh", lambda x: torch.atanh((x - 2) / 3.1)),
        ("gaussian", lambda x: torch.exp(-((x - 1) ** 2))),
    ],
)
def test_a_curve_of_the_library_is_found_again(name, curve):
    y = curve(X)
    best, *_ = fit_edge(X, y, weight_simple=0.2)
    # The cosine and the sine, and the two arcs, are the same curves.
    assert best.name in {name, {"sin": "cos", "arcsin": "arccos"}.get(name)}
    assert best.r2 > 1 - 1e-8
    torch.testing.assert_close(best(X), y, rtol=0, atol=2e-4 * float(y.max() - y.min()))


def test_parameters_are_those_that_the_curve_was_made_with():
    fit = _by_name(X, 3 * torch.exp(-0.7 * X) + 1)["exp"]
    assert (fit.a, fit.b, fit.c, fit.d) == pytest.approx((-0.7, 0, 3, 1), abs=1e-3)
    fit = _by_name(X, 2 * (X - 1.5) ** 2 + 7)["x^2"]
    assert (fit.a, fit.b, fit.c, fit.d) == pytest.approx((1, -1.5, 2, 7), abs=1e-3)
    fit = _by_name(X, torch.tanh(3 * (X - 2)))["tanh"]
    assert (fit.a, fit.b, fit.c, fit.d) == pytest.approx((3, -6, 1, 0), abs=1e-3)
    fit = _by_name(X, 2 * torch.sin(4 * X + 1))["sin"]
    assert abs(fit.b) <= math.pi  # a phase is written in its smallest form


def test_units_of_x_and_y_do_not_matter():
    y = torch.exp(-((X - 1) ** 2))
    near, far = _by_name(X, y)["gaussian"], _by_name(1e-4 * X + 7, 1e5 * y - 3)["gaussian"]
    assert far.r2 == pytest.approx(near.r2, abs=1e-6)
    assert far.a == pytest.approx(1e4 * near.a, rel=1e-3)


def test_a_constant_is_no_function_of_x():
    fits = fit_edge(X, torch.full_like(X, 4.0))
    assert (fits[0].name, fits[0].c, fits[0].d) == ("0", 0, 4)
    assert all(fit.c == 0 and fit.d == 4 for fit in fits)


def test_a_simple_function_is_preferred_unless_told_otherwise():
    y = X + 0.01 * torch.sin(5 * X)
    assert fit_edge(X, y)[0].name == "x"
    close = fit_edge(X, y, functions=["x", "arctan"], weight_simple=0.0)[0]
    assert close.r2 >= _by_name(X, y)["x"].r2


def test_functions_that_are_not_defined_on_all_points_are_worth_nothing():
    y = torch.log(X + 1.5)
    fits = _by_name(X, y, functions=["log", "sqrt"])
    assert all(math.isfinite(fit.c) and math.isfinite(fit.d) for fit in fits.values())
    assert fits["log"](X).isfinite().all()


def test_a_function_of_ones_own():
    own = SymbolicFunction("sinc", torch.sinc, 2, "both", lambda sympy, z: sympy.sinc(sympy.pi * z))
    best, *_ = fit_edge(X, 2 * torch.sinc(X - 1), functions=["x", "gaussian", own])
    assert best.name == "sinc"
    assert best.r2 > 1 - 1e-6


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"0", "sgn", "abs"}))
@pytest.mark.parametrize("curve", [lambda x: x, lambda x: x**2])
def test_what_is_said_of_a_fit_holds_in_single_precision(name, curve):
    """Nothing is a line far away or very slowly: there c f + d is lost to rounding."""
    x = torch.linspace(-1, 1, 200)
    (fit,) = fit_edge(x, curve(x), functions=[name])
    residual = fit(x) - curve(x)
    assert float(1 - residual.square().sum() / (curve(x) - curve(x).mean()).square().sum()) >= fit.r2 - 1e-4


def test_the_order_of_the_points_does_not_matter():
    y = torch.sqrt(7 - X)
    mixed = torch.randperm(len(X), generator=torch.Generator().manual_seed(0))
    fits, of_mixed = _by_name(X, y), _by_name(X[mixed], y[mixed])
    assert {name: fit.r2 for name, fit in of_mixed.items()} == pytest.approx({n: f.r2 for n, f in fits.items()})


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (X, X[:-1], {}, r"as many points, 2 or more, got \(400,\) and \(399,\)"),
        (X[:1], X[:1], {}, "2 or more"),
        (X.double(), X, {"functions": "sine"}, "did you mean 'sin'"),
        (X, X * math.nan, {}, "NaN or infinity"),
        (X * 0 + 3, X, {}, "two different points or more, all are 3"),
        (X, X, {"functions": ["sine"]}, "did you mean 'sin'"),
        (X, X, {"functions": []}, "at least one name"),
        (X, X, {"weight_simple": 2.0}, "between 0 and 1, got 2"),
    ],
)
def test_refusals(x, y, options, message):
    with pytest.raises(ValueError, match=message):
        fit_edge(x, y, **options)


def test_every_function_is_its_own_expression():
    import sympy

    z = torch.linspace(0.1, 0.9, 9).double()
    for function in FUNCTIONS.values():
        symbol = sympy.Symbol("z")
        expression = function.expression(sympy, symbol)
        wanted = torch.tensor([float(expression.subs(symbol, value)) for value in z.tolist()]).double()
        torch.testing.assert_close(function.function(z), wanted)
