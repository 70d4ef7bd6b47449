"""Every bad input is refused, in the constructor where it can be seen there, with what is allowed."""

import pytest

from tests.layers.answers import answers

#: expression -> parts of the message.
CASES = {
    "KANLinear(0, 3)": ["ValueError", "in_features must be an integer of at least 1, got 0"],
    "KANLinear(3, 2.0)": ["TypeError", "out_features must be an integer", "2.0"],
    "KANLinear(3, 2, grid_size=0)": ["ValueError", "grid_size", "at least 1", "got 0"],
    "KANLinear(3, 2, spline_order=0)": ["ValueError", "spline_order", "from 1 to 9", "got 0"],
    "KANLinear(3, 2, spline_order=10)": ["ValueError", "spline_order", "from 1 to 9", "got 10"],
    "KANLinear(3, 2, grid_range=(1.0, -1.0))": ["ValueError", "grid_range", "low < high", "(1.0, -1.0)"],
    "KANLinear(3, 2, grid_range=(0.0, float('inf')))": ["ValueError", "grid_range", "finite", "inf"],
    "KANLinear(3, 2, grid_range=(0.0,))": ["ValueError", "grid_range", "(low, high)"],
    "KANLinear(3, 2, basis='bsplin')": ["ValueError", "basis", "'gaussian'", "did you mean 'bspline'"],
    "KANLinear(3, 2, basis='chebyshev', grid_range=(0.0, 1.0))": ["ValueError", "no grid_range", "(0.0, 1.0)"],
    "KANLinear(3, 2, basis=nn.ReLU())": ["TypeError", "basis", "num_bases", "ReLU"],
    "KANLinear(3, 2, base_activation='sliu')": ["ValueError", "base_activation", "did you mean 'silu'"],
    "KANLinear(3, 2, base_activation=3)": ["TypeError", "base_activation", "3"],
    "KANLinear(3, 2, edge_scale='one')": ["ValueError", "edge_scale", "did you mean 'ones'"],
    "KANLinear(3, 2, norm='layr')": ["ValueError", "norm", "did you mean 'layer'"],
    "KANLinear(1, 2, norm='layer')": ["ValueError", "in_features = 1", "norm=None"],
    "KANLinear.fast(1, 2)": ["ValueError", "in_features = 1", "norm=None"],
    "KANLinear(3, 2, scale_noise=-1.0)": ["ValueError", "scale_noise", "at least 0", "-1.0"],
    "KANLinear(3, 2, backend='fast')": ["ValueError", "backend", "'auto', 'reference'", "'fast'"],
    "KANLinear(3, 2, gridsize=4)": ["TypeError", "gridsize"],
    "KANLinear.fast(3, 2, num_centres=0)": ["ValueError", "num_centres", "got 0"],
    "KANLinear.fast(3, 2, num_centres=1)": ["ValueError", "width", "single centre"],
    "KANLinear.fast(3, 2, width=0.0)": ["ValueError", "width", "greater than 0"],
    "KANLinear.faster(3, 2, inv_width=-1.0)": ["ValueError", "inv_width", "greater than 0"],
    "KANLinear.chebyshev(3, 2, degree=0)": ["ValueError", "degree", "got 0"],
    "KANLinear.fast(4, 3, grid_size=20)": [
        "TypeError",
        "KANLinear.fast takes num_centres, grid_range",
        "got grid_size",
    ],
    "KANLinear.faster(4, 3, grid_size=3)": ["TypeError", "KANLinear.faster takes num_centres", "got grid_size"],
    "KANLinear.chebyshev(4, 1, grid_size=20, spline_order=7)": ["TypeError", "degree", "got grid_size, spline_order"],
    "KANLinear.chebyshev(4, 1, grid_range=(0.0, 1.0))": ["TypeError", "degree", "got grid_range"],
    "KANLinear.fast(4, 1, basis='bspline')": ["TypeError", "KANLinear.fast takes num_centres", "got basis"],
    "KAN([4, 3], layer=KANLinear.fast, grid_size=20)": ["TypeError", "num_centres", "got grid_size"],
    "KANLinear(3, 2, dtype=torch.int32)": ["TypeError", "dtype must be a floating type", "torch.int32"],
    "KAN(4)": ["TypeError", "sizes must be a list of widths", "got 4"],
    "KAN([4, 3, 1], layer='fast')": ["TypeError", "layer", "KANLinear.fast", "'fast'"],
    "KAN([4])": ["ValueError", "sizes", "[4]"],
    "KAN([4, 3], layer=KANLinear.fast, num_centre=3)": ["TypeError", "num_centre"],
    "KANAttention(4, 4, 4, 0, 2)": ["ValueError", "head_dim", "got 0"],
    "KANLinear(3, 2)(torch.zeros(5, 4))": ["ValueError", "in_features = 3", "got 4", "(5, 4)"],
    "KANLinear(3, 2)(torch.tensor(1.0))": ["ValueError", "in_features = 3", "a number"],
    "KANLinear(3, 2)(torch.zeros(5, 3, dtype=torch.int64))": ["TypeError", "floating", "torch.int64"],
    "KANLinear(3, 2)([[0.0, 1.0, 2.0]])": ["TypeError", "x must be a tensor, got list", "torch.as_tensor(x)"],
    "KANLinear(3, 2)(torch.zeros(5, 3).double())": ["TypeError", "x is torch.float64", "x.to(torch.float32)"],
    "KANLinear.fast(3, 2)(torch.zeros(5, 3).half())": ["TypeError", "x is torch.float16", "layer.to(torch.float16)"],
    "KANLinear(3, 2, basis=Own(2, 0))(torch.zeros(2, 3))": ["ValueError", "(2, 3, 2)", "Own gave (3, 2)"],
    "KANLinear(3, 2, basis=Own(4, ...))(torch.zeros(2, 3))": ["ValueError", "(2, 3, 4)", "Own gave (2, 3, 2)"],
    "KANLinear(3, 2, basis=Own(4, ...)).expand(torch.zeros(2, 3))": ["ValueError", "(2, 3, 4)", "Own gave (2, 3, 2)"],
    "KANConv2d(3, 2, basis=Own(4, ...))(torch.zeros(1, 3, 5, 5))": ["ValueError", "(1, 5, 5, 3, 4)", "(1, 5, 5, 3, 2)"],
    "BSplineBasis(4, 3).set_knots(torch.zeros(1, 7))": ["ValueError", "8 or more", "(1, 7)"],
    "BSplineBasis(4, 3, in_features=3).set_knots(torch.arange(11.).expand(2, -1))": ["ValueError", "1 or 3", "(2, 11)"],
    "BSplineBasis(4, 3).set_knots(-torch.arange(11.)[None])": ["ValueError", "knots must be finite and ascend"],
    "BSplineBasis(4, 3).set_knots(torch.full((1, 11), float('nan')))": ["ValueError", "knots must be finite"],
    "own_knots(torch.zeros(5, 2))": ["ValueError", "knots for 3 inputs", "x has 2"],
    "KANLinear(3, 2).load_state_dict(KANLinear(3, 2, grid_size=7).state_dict())": [
        "RuntimeError",
        "size mismatch for weight",
        "size mismatch for basis.knots",
    ],
}
PREPARATION = """
from zoo.layers.kan import KAN, KANAttention, KANLinear, BSplineBasis
from zoo.layers.kan.conv import KANConv2d

class Own(nn.Module):
    def __init__(self, num_bases, rows):
        super().__init__()
        self.num_bases, self.rows = num_bases, rows

    def forward(self, x):
        return torch.stack([x, x * x], -1)[self.rows]

own_knots = BSplineBasis(4, 3)
own_knots.set_knots(torch.arange(11.) + torch.tensor([[0.], [1.], [2.]]))
"""


@pytest.fixture(scope="module")
def messages():
    return answers(CASES, PREPARATION)


@pytest.mark.parametrize("case", CASES)
def test_refused_with_what_is_allowed(case, messages):
    assert all(part in messages[case] for part in CASES[case]), messages[case]
