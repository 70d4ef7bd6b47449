"""Ridge regression: against torch's own solver and the formula, in both forms, and where the rows leave it open."""

import jaxtyping
import pytest
import torch

from zoo.layers.least_squares import DualEquations, NormalEquations, equations, ridge


def _case(rows, features=6, targets=3, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(rows, width, generator=generator, dtype=dtype) for width in (features, targets))


@pytest.fixture
def without_shape_checks():
    """Let wrong shapes reach the code's own checks, as they do outside of this test session."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _primal(x, y):
    normal = NormalEquations()
    normal.add(x, y)
    return normal


@pytest.mark.parametrize("rows", [40, 6, 4])
def test_without_damping_it_is_least_squares_of_least_norm(rows):
    x, y = _case(rows)
    torch.testing.assert_close(ridge(x, y), torch.linalg.lstsq(x, y, driver="gelsd").solution, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("rows", [40, 4])
@pytest.mark.parametrize("damping", [1e-6, 0.1, 10.0])
def test_damping_is_relative_to_the_mean_diagonal(rows, damping):
    x, y = _case(rows)
    shift = damping * x.square().sum(0).mean()
    expected = torch.linalg.inv(x.T @ x + shift * torch.eye(6, dtype=x.dtype)) @ x.T @ y
    torch.testing.assert_close(ridge(x, y, damping=damping), expected, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("rows", [40, 4])
@pytest.mark.parametrize("damping", [0.0, 1e-3, 1.0])
def test_primal_equals_dual(rows, damping):
    x, y = _case(rows)
    primal, dual = _primal(x, y).solve(damping), DualEquations(x, y).solve(damping)
    torch.testing.assert_close(primal, dual, atol=1e-9, rtol=1e-9)


def test_the_smaller_form_is_chosen():
    assert isinstance(equations(*_case(40)), NormalEquations)
    assert isinstance(equations(*_case(4)), DualEquations)


@pytest.mark.parametrize("rows", [40, 4])
@pytest.mark.parametrize("scale", [1e-8, 1e5])
def test_units_of_the_features_do_not_matter(rows, scale):
    x, y = _case(rows)
    for damping in (0.0, 1e-2):
        scaled = ridge(scale * x, y, damping=damping) * scale
        torch.testing.assert_close(scaled, ridge(x, y, damping=damping), atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("rows", [40, 5])
def test_dependent_columns_share_their_part(rows):
    x, y = _case(rows, features=3)
    doubled = torch.cat([x, x, torch.zeros_like(x[:, :1])], 1)
    found = ridge(doubled, y)
    torch.testing.assert_close(found, torch.cat([ridge(x, y) / 2] * 2 + [torch.zeros_like(found[:1])]))
    assert ridge(torch.zeros_like(x), y).count_nonzero() == 0


def test_float32_rows_lose_nothing_but_their_own_rounding():
    x, y = _case(200, features=4)
    x[:, 1] = x[:, 0] + 1e-3 * x[:, 1]  # condition number of the normal matrix near 1e7
    found = ridge(x.float(), y.float())
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, ridge(x.float().double(), y.float().double()), atol=0.0, rtol=0.0)
    in_single = torch.linalg.solve(x.float().T @ x.float(), x.float().T @ y.float())
    exact = ridge(x, y)
    assert (found - exact).abs().max() < 0.1 * (in_single - exact).abs().max()


def test_blocks_add_up_to_the_whole():
    x, y = _case(50)
    normal = NormalEquations()
    for block, target in zip(x.split(7), y.split(7), strict=True):
        normal.add(block, target)
    assert normal.count == 50
    torch.testing.assert_close(normal.solve(1e-2), ridge(x, y, damping=1e-2), atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(normal.solve(), ridge(x, y), atol=1e-12, rtol=1e-10)  # and again


@pytest.mark.usefixtures("without_shape_checks")
def test_refusals():
    x, y = _case(8)
    with pytest.raises(ValueError, match="features have 8 rows, but targets have 7"):
        ridge(x, y[:7])
    with pytest.raises(ValueError, match="damping must be at least 0"):
        ridge(x, y, damping=-1.0)
    with pytest.raises(ValueError, match="at least one row"):
        ridge(x[:0], y[:0])
    with pytest.raises(ValueError, match="add rows first"):
        NormalEquations().solve()
    normal = _primal(x, y)
    with pytest.raises(ValueError, match="those before it had"):
        normal.add(x[:, :5], y)
