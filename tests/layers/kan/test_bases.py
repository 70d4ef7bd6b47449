"""The bases: their formulas by independent means, derivatives of two orders, and what they do far out."""

import copy
import math

import pytest
import torch
from numpy.polynomial import chebyshev

from zoo.layers.kan import Basis, BSplineBasis, ChebyshevBasis, GaussianBasis, SwitchBasis
from zoo.layers.kan.basis import cox_de_boor, uniform_bsplines

ORDERS = range(1, 10)
BASES = {
    **{f"bspline{order}": lambda order=order: BSplineBasis(4, order) for order in ORDERS},
    "bspline3_uneven": lambda: _uneven(3),
    "bspline4_uneven": lambda: _uneven(4),
    "gaussian": lambda: GaussianBasis(5, (-1.5, 1.0)),
    "switch": lambda: SwitchBasis(5, (-1.0, 1.0), inv_width=1.7),
    "chebyshev": lambda: ChebyshevBasis(6),
}
every_basis = pytest.mark.parametrize("name", BASES)


def _uneven(order: int, rows: int = 3) -> BSplineBasis:
    """Knots of its own for each of three inputs."""
    basis = BSplineBasis(4, order, in_features=rows)
    generator = torch.Generator().manual_seed(order)
    steps = torch.rand(rows, basis.knots.shape[1] - 1, generator=generator) + 0.2
    basis.set_knots(torch.cat([torch.full((rows, 1), -2.0), -2.0 + 4 * (steps / steps.sum(1, True)).cumsum(1)], 1))
    assert not basis.is_uniform()
    return basis


def _inputs(seed: int = 0) -> torch.Tensor:
    return 1.5 * torch.randn(6, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _bell(x: float, order: int) -> float:
    """The cardinal B-spline on [0, order + 1] by truncated powers, in exact enough arithmetic for small orders."""
    terms = ((-1) ** i * math.comb(order + 1, i) * max(x - i, 0.0) ** order for i in range(order + 2))
    return math.fsum(terms) / math.factorial(order)


@pytest.mark.parametrize("order", ORDERS)
def test_even_splines_are_shifted_bells(order):
    basis = BSplineBasis(5, order, (-1.0, 2.0)).double()
    basis.reset_parameters()
    x = torch.linspace(-1, 1.99, 37, dtype=torch.float64)
    start, h = -1 - order * 0.6, 0.6
    expected = [[_bell((v - start) / h - j, order) for j in range(5 + order)] for v in x.tolist()]
    torch.testing.assert_close(basis(x[:, None])[:, 0], x.new_tensor(expected), atol=1e-9, rtol=0)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("grid_size", [1, 2, 5, 200])
def test_the_short_way_is_the_recursion(order, grid_size):
    basis = BSplineBasis(grid_size, order)
    assert basis.is_uniform()
    x = 2.6 * torch.rand(500, 1, generator=torch.Generator().manual_seed(0)) - 1.3
    x = torch.cat([x, basis.knots.t(), x.new_tensor([[-1e6], [1e6], [-1e30]])])
    found, expected = (way(x, basis.knots, order) for way in (uniform_bsplines, cox_de_boor))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    inside = (x[:, 0] >= -1) & (x[:, 0] < 1)
    for bases in (found, expected):
        torch.testing.assert_close(bases[inside].sum(-1), torch.ones(int(inside.sum()), 1), atol=1e-6, rtol=0)
    assert found[-3:].abs().max() == 0


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_slopes_of_the_short_way_are_those_of_the_recursion_on_knots_too(order):
    basis = BSplineBasis(4, order).double()
    basis.reset_parameters()
    x = torch.cat([_inputs()[:, :1], basis.knots.t()]).requires_grad_()
    cotangent = torch.randn(len(x), 1, basis.num_bases, dtype=torch.float64)
    slopes = [
        torch.autograd.grad((way(x, basis.knots, order) * cotangent).sum(), x)[0]
        for way in (uniform_bsplines, cox_de_boor)
    ]
    torch.testing.assert_close(*slopes, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close((basis.derivative(x) * cotangent).sum(-1), slopes[0], atol=1e-9, rtol=1e-9)


def test_uneven_splines_add_up_to_one_between_the_inner_knots():
    basis = _uneven(3).double()
    x = torch.rand(200, 3, dtype=torch.float64) * 4 - 2
    inside = (x >= basis.knots[:, 3]) & (x < basis.knots[:, -4])
    assert inside.any()
    torch.testing.assert_close(basis(x).sum(-1)[inside], torch.ones(int(inside.sum()), dtype=torch.float64))


def test_each_input_has_the_splines_of_its_own_knots():
    basis, x = _uneven(3), _inputs().float()
    for i in range(3):
        single = BSplineBasis(4, 3)
        single.set_knots(basis.knots[i : i + 1])
        torch.testing.assert_close(basis(x)[:, i], single(x[:, i : i + 1])[:, 0])


def test_equal_knots_are_allowed():
    basis = BSplineBasis(2, 2)
    basis.set_knots(torch.tensor([[0.0, 0, 0, 0.4, 1, 1, 1]]))
    x = torch.linspace(0, 0.999, 50)[:, None]
    bases = basis(x)
    torch.testing.assert_close(bases.sum(-1), torch.ones(50, 1))
    torch.testing.assert_close(bases[0, 0], torch.tensor([1.0, 0, 0, 0]))
    assert basis.derivative(x).isfinite().all()


def test_knots_edited_in_place_are_noticed():
    basis, x = BSplineBasis(4, 3), _inputs().float()
    with torch.no_grad():
        basis.knots[0, 5] += 0.1
    assert not basis.is_uniform()
    torch.testing.assert_close(basis(x), cox_de_boor(x, basis.knots, 3))


def test_knots_of_all_inputs_alike_are_kept_once():
    basis = BSplineBasis(4, 3, in_features=3)
    basis.set_knots(torch.linspace(-2, 2, 13).expand(3, -1))
    assert basis.knots.shape == (1, 13)
    assert basis.num_bases == 9


def test_a_state_with_knots_for_each_input_loads():
    basis = _uneven(3)
    other = BSplineBasis(4, 3, in_features=3)
    other.load_state_dict(basis.state_dict())
    assert not other.is_uniform()
    torch.testing.assert_close(other(_inputs()), basis(_inputs()))
    other.load_state_dict(BSplineBasis(4, 3).state_dict())
    assert other.is_uniform()
    with pytest.raises(RuntimeError, match=r"size mismatch for knots.*\[3, 11\].*\[1, 11\]"):
        BSplineBasis(4, 3, in_features=2).load_state_dict(basis.state_dict())


def test_gaussian_switch_and_chebyshev_by_their_formulas():
    x = _inputs()
    gaussian, switch, polynomials = (copy.deepcopy(BASES[name]()).double() for name in list(BASES)[-3:])
    for basis, bell in (
        (gaussian, lambda v, t: math.exp(-(((v - t) / 0.625) ** 2))),
        (switch, lambda v, t: 1 / math.cosh(1.7 * (v - t)) ** 2),
    ):
        basis.reset_parameters()
        expected = [[[bell(v, t) for t in basis.centers.tolist()] for v in row] for row in x.tolist()]
        torch.testing.assert_close(basis(x), x.new_tensor(expected))
    expected = torch.from_numpy(chebyshev.chebvander(x.tanh().numpy(), 6))
    torch.testing.assert_close(polynomials(x), expected)


@every_basis
def test_derivatives_of_both_orders(name):
    basis = BASES[name]().double()
    x = _inputs().requires_grad_()
    assert torch.autograd.gradcheck(basis, (x,))
    assert torch.autograd.gradgradcheck(basis, (_inputs()[:2].requires_grad_(),))
    derivative = Basis.derivative(basis, x.detach())
    torch.testing.assert_close(basis.derivative(x.detach()), derivative, atol=1e-10, rtol=1e-9)


@every_basis
def test_values_and_slopes_stay_finite_far_out(name):
    basis = BASES[name]()
    far = torch.tensor([0.0, 1.0, 9.02, 10.0, 30.0, 1e3, 1e4, 1e6])
    x = torch.stack([far, -far, 0.5 * far], 1).requires_grad_()
    bases = basis(x)
    assert bases.isfinite().all()
    (slope,) = torch.autograd.grad(bases.sum(), x, create_graph=True)
    assert slope.isfinite().all()
    assert torch.autograd.grad(slope.sum(), x)[0].isfinite().all() if slope.requires_grad else True
    assert basis.derivative(x.detach()).isfinite().all()


@every_basis
def test_not_a_number_stays_what_and_where_it_is(name):
    x = _inputs().float()
    x[2, 1] = math.nan
    bases = BASES[name]()(x)
    assert bases[2, 1].isnan().all()
    bases[2, 1] = 0
    assert bases.isfinite().all()


@every_basis
def test_positions_keep_their_digits_in_half_precision(name):
    basis = BASES[name]()
    before = {name: value.clone() for name, value in basis.named_buffers()}
    for dtype in (torch.bfloat16, torch.float16):
        basis.to(dtype)
        for name, value in basis.named_buffers():
            assert torch.equal(value, before[name])
            assert value.dtype == torch.float32
    assert all(value.dtype == torch.float64 for value in basis.double().buffers())


def test_gaussian_width_is_the_distance_of_centres_unless_given():
    assert GaussianBasis(8, (-2.0, 2.0)).width == pytest.approx(4 / 7)
    assert GaussianBasis(1, (-2.0, 4.0), width=0.5)(torch.ones(1, 1)).item() == 1


def test_a_basis_of_ones_own_has_a_derivative():
    class Cosines(Basis):
        num_bases = 2

        def forward(self, x):
            return torch.stack([torch.cos(x), torch.cos(2 * x)], -1)

    x = _inputs()
    expected = torch.stack([-torch.sin(x), -2 * torch.sin(2 * x)], -1)
    torch.testing.assert_close(Cosines().derivative(x), expected)
