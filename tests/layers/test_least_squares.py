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


def test_a_constant_is_a_column_of_ones():
    x, y = _case(50)
    normal = NormalEquations(constant=True)
    for block, target in zip(x.split(7), y.split(7), strict=True):
        normal.add(block, target)
    ones = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    for damping in (0.0, 1e-2):
        torch.testing.assert_close(normal.solve(damping), ridge(ones, y, damping=damping), atol=1e-11, rtol=1e-10)


@pytest.mark.parametrize("cutoff", [None, 1e-3])
def test_several_targets_are_solved_side_by_side(cutoff):
    x, y = _case(50)
    z = _case(50, targets=2, seed=1)[1]
    both, first, second = NormalEquations(), NormalEquations(), NormalEquations()
    both.add(x, y, z)
    first.add(x, y)
    second.add(x, z)
    parts = both.solve(cutoff=cutoff).split(both.widths, 1)
    for part, alone in zip(parts, (first, second), strict=True):
        torch.testing.assert_close(part, alone.solve(cutoff=cutoff), atol=1e-12, rtol=1e-11)


def test_many_rows_in_one_block_are_many_blocks():
    x, y = _case(3000)
    whole, parts = _primal(x, y), NormalEquations()
    for block, target in zip(x.split(100), y.split(100), strict=True):
        parts.add(block, target)
    torch.testing.assert_close(whole.solve(), parts.solve(), atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(whole.solve(), torch.linalg.lstsq(x, y).solution, atol=1e-11, rtol=1e-10)


@pytest.mark.parametrize("rows", [40, 4])
@pytest.mark.parametrize("cutoff", [0.0, 0.1, 0.5, 0.99])
def test_a_cutoff_is_that_of_the_pseudo_inverse(rows, cutoff):
    x, y = _case(rows)
    x = x * torch.tensor([1.0, 2.0, 5.0, 0.2, 0.1, 1e-3], dtype=x.dtype)
    found = _primal(x, y).solve(cutoff=cutoff)
    expected = torch.linalg.pinv(x, rtol=max(cutoff, 1e-12)) @ y
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-7)


def test_damping_is_added_to_what_a_cutoff_leaves():
    x, y = _case(40)
    left, values, right = torch.linalg.svd(x, full_matrices=False)
    cutoff = float((values[2] + values[3]) / 2 / values[0])
    shift = 0.1 * x.square().sum(0).mean()
    expected = (right[:3].T * (values[:3] / (values[:3].square() + shift))) @ left[:, :3].T @ y
    torch.testing.assert_close(_primal(x, y).solve(0.1, cutoff=cutoff), expected, atol=1e-10, rtol=1e-10)


def test_the_cutoff_of_float32_is_the_one_that_torch_takes():
    x, y = (tensor.float() for tensor in _case(200))
    x[:, 1] = x[:, 0] + 1e-6 * x[:, 1]
    normal = _primal(x, y)
    assert normal.float32_cutoff == 200 * torch.finfo(torch.float32).eps
    found = normal.solve(cutoff=normal.float32_cutoff)
    torch.testing.assert_close(found.float(), torch.linalg.pinv(x) @ y, atol=1e-5, rtol=1e-5)
    assert _primal(*_case(4)).float32_cutoff == 6 * torch.finfo(torch.float32).eps


def test_with_a_cutoff_what_is_not_finite_is_refused():
    x, y = _case(20)
    for value in (float("nan"), float("inf")):
        broken = x.clone(), y.clone()
        for tensor in broken:
            tensor[3, 1] = value
        with pytest.raises(ValueError, match="the features have NaN or infinite values"):
            _primal(broken[0], y).solve(cutoff=1e-3)
        with pytest.raises(ValueError, match="the targets have NaN or infinite values"):
            _primal(x, broken[1]).solve(cutoff=1e-3)
        assert not _primal(x, broken[1]).solve().isfinite().all()


def test_a_cutoff_that_leaves_nothing_is_refused():
    x, y = _case(20)
    with pytest.raises(ValueError, match=r"a cut-off of 1.5 leaves nothing of the features: rank 0.*here 20"):
        _primal(x, y).solve(cutoff=1.5)
    with pytest.raises(ValueError, match="the cut-off must be at least 0, got -1"):
        _primal(x, y).solve(cutoff=-1.0)
    zeros = NormalEquations(constant=True)
    zeros.add(torch.zeros_like(x), y)
    with pytest.raises(ValueError, match="every feature is 0 in all 20 rows: rank 0"):
        zeros.solve(cutoff=0.0)
    same = NormalEquations(constant=True)
    same.add(x[:1], y[:1])
    assert same.solve(cutoff=1e-3).isfinite().all()  # one row has a map of least norm
    same.add(x[:1], y[1:2])
    with pytest.raises(ValueError, match="every feature has one value in all 2 rows"):
        same.solve(cutoff=1e-3)


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


def test_mixed_products_err_within_a_digit_of_a_pseudo_inverse_in_float32():
    torch.manual_seed(0)
    x, y = torch.randn(3_000, 24) @ torch.randn(24, 24), torch.randn(3_000, 10)
    found = []
    for mixed in (False, True):
        normal = NormalEquations(constant=True, mixed=mixed)
        normal.add(x, y)
        found.append(normal.solve(cutoff=normal.float32_cutoff))
    theirs = torch.linalg.pinv(torch.cat([x, torch.ones(3_000, 1)], 1)) @ y
    mixed, single = ((other - found[0]).abs().max().item() for other in (found[1], theirs.double()))
    assert 0 < mixed <= 10 * single, (mixed, single)
