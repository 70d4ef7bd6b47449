"""Constant prototypes: the lifted weight, what is kept of it and for how long, and modules for export."""

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

from zoo.layers.tversky.functional import tversky_similarity
from zoo.layers.tversky.inference import lifted_similarity, lifted_weight, linear_form
from zoo.layers.tversky.options import INTERSECTIONS
from zoo.layers.tversky.reference import reference_similarity
from zoo.weight_cache import WeightCache

SCALARS = torch.tensor([1.3, 0.4, 0.7], dtype=torch.float64)


@pytest.mark.parametrize("rows", [0, 1, 4])
@pytest.mark.parametrize("per_feature", [False, True])
@pytest.mark.parametrize("intersection", ["product", "mean"])
def test_lifted_weight_is_the_similarity(intersection, per_feature, rows):
    torch.manual_seed(0)
    A, Q = torch.randn(rows, 6, dtype=torch.float64), torch.randn(5, 6, dtype=torch.float64)
    wanted = reference_similarity(A, Q, *SCALARS, "contrast", intersection, "ignorematch", per_feature)
    got = lifted_similarity(A, *lifted_weight(Q, *SCALARS, intersection))
    torch.testing.assert_close(got, wanted)


def test_lifted_weight_in_half_precision():
    torch.manual_seed(0)
    A, Q = torch.randn(4, 64), torch.randn(5, 64)
    theta, alpha, beta = SCALARS.float()
    weight, _ = lifted_weight(Q, theta, alpha, beta, "product")
    got = lifted_similarity(A, weight.bfloat16())
    a, q = A.relu(), Q.relu()
    magnitude = theta * a @ q.t() + alpha * a.sum(1, keepdim=True) + beta * q.sum(1)
    assert got.dtype == torch.float32
    assert float(((got - lifted_similarity(A, weight)) / magnitude).abs().max()) < 2e-2


class Doubles:
    """A cache of twice a parameter, and how often it was made."""

    def __init__(self, parameter):
        self.cache, self.parameter, self.made = WeightCache(), parameter, 0

    def build(self):
        self.made += 1
        return (self.parameter.detach() * 2, None)

    def get(self):
        return self.cache.get((self.parameter,), self.build)[0]

    def check(self, made):
        for _ in range(2):
            assert torch.equal(self.get(), self.parameter.detach().to(self.get().dtype) * 2)
        assert self.made == made


def edit(parameter):
    parameter.add_(1)


def swap(parameter):
    """Twice: the second may take the memory that the first gave up."""
    for _ in range(2):
        parameter.data = torch.randn(3)


def step(optimizer, **options):
    def change(parameter):
        parameter.grad = torch.ones_like(parameter)
        optimizer([parameter], lr=0.1, **options).step()

    return change


def load(parameter):
    module = nn.Module()
    module.weight = parameter
    module.load_state_dict({"weight": torch.randn(3)})


def convert(parameter):
    module = nn.Module()
    module.weight = parameter
    module.double()


CHANGES = (edit, swap, load, convert, step(torch.optim.SGD), step(torch.optim.AdamW, fused=True))


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(change):
    doubles = Doubles(nn.Parameter(torch.arange(3.0)))
    with torch.no_grad():
        doubles.check(made=1)
        change(doubles.parameter)
        doubles.check(made=2)


def test_another_parameter_is_seen():
    doubles = Doubles(nn.Parameter(torch.arange(3.0)))
    with torch.no_grad():
        doubles.check(made=1)
        doubles.parameter = nn.Parameter(torch.arange(3.0) + 1)
        doubles.check(made=2)


def test_nothing_is_kept_where_gradients_are_recorded():
    doubles = Doubles(nn.Parameter(torch.arange(3.0)))
    with torch.no_grad():
        doubles.get()
    for made in (2, 3):
        doubles.get()
        assert doubles.made == made
    with torch.no_grad():
        doubles.check(made=4)


def test_autocast_has_its_own():
    doubles = Doubles(nn.Parameter(torch.arange(3.0)))
    with torch.no_grad():
        doubles.check(made=1)
        with torch.autocast("cpu", torch.bfloat16):
            doubles.check(made=2)


def test_inference_mode():
    """A parameter from outside is followed; one from inside shows no edits, so it is kept on request alone."""
    outside = Doubles(nn.Parameter(torch.arange(3.0)))
    with torch.inference_mode():
        outside.check(made=1)
        outside.parameter.add_(1)
        outside.check(made=2)
        inside = Doubles(torch.arange(3.0))
        inside.get(), inside.get()
        assert inside.made == 2
        inside.cache.freeze()
        inside.get(), inside.get()
        assert inside.made == 3


def test_frozen_in_another_dtype():
    doubles = Doubles(nn.Parameter(torch.arange(3.0)))
    doubles.cache.freeze(torch.bfloat16)
    with torch.no_grad():
        assert doubles.get().dtype == torch.bfloat16
        doubles.parameter.add_(1)
        doubles.check(made=2)
        doubles.cache.thaw()
        assert doubles.get().dtype == torch.float32


def test_copies_are_empty():
    doubles = Doubles(nn.Parameter(torch.arange(3.0)))
    doubles.cache.freeze(torch.bfloat16)
    with torch.no_grad():
        doubles.get()
        for other in (copy.deepcopy(doubles.cache), pickle.loads(pickle.dumps(doubles.cache))):
            (value, _) = other.get((doubles.parameter,), lambda: (torch.zeros(3), None))
            assert torch.equal(value, torch.zeros(3, dtype=torch.bfloat16))


def test_clear():
    doubles = Doubles(nn.Parameter(torch.arange(3.0)))
    with torch.no_grad():
        doubles.get()
        doubles.parameter.data.add_(1)  # leaves no trace
        doubles.cache.clear()
        doubles.check(made=2)


OPTIONS = {"normalize": True, "per_feature": False, "membership": "hard"}


@pytest.mark.parametrize("difference", ["ignorematch", "substractmatch"])
@pytest.mark.parametrize("intersection", INTERSECTIONS)
@pytest.mark.parametrize("similarity", ["contrast", "ratio"])
def test_linear_form_is_the_similarity(similarity, intersection, difference):
    torch.manual_seed(0)
    x, prototypes, bank = (torch.randn(*shape, dtype=torch.float64) for shape in ((2, 3, 7), (4, 7), (9, 7)))
    options = {**OPTIONS, "similarity": similarity, "intersection": intersection, "difference": difference}
    theta, alpha, beta = SCALARS
    module = linear_form(prototypes, bank, theta, alpha, beta, scale=0.3, **options)
    wanted = tversky_similarity(x, prototypes, bank, theta=theta, alpha=alpha, beta=beta, **options) * 0.3
    torch.testing.assert_close(module(x), wanted)
    torch.testing.assert_close(module(x[0, 0]), wanted[0, 0])
    assert not list(module.parameters())


@pytest.mark.parametrize("change", [{"membership": "soft"}, {"per_feature": True}])
def test_linear_form_refuses(change):
    options = {**OPTIONS, "similarity": "contrast", "intersection": "product", "difference": "substractmatch"}
    with pytest.raises(ValueError, match=r"to_linear\(\) has no matrix products for .*=(True|'soft')"):
        linear_form(torch.zeros(4, 7), torch.zeros(9, 7), *SCALARS, **{**options, **change})


_SCRIPT = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np, onnxruntime, torch
from zoo.layers.tversky.inference import linear_form

CASES = (
    ("contrast", "product", "ignorematch"), ("contrast", "mean", "ignorematch"), ("contrast", "min", "substractmatch"),
    ("contrast", "gmean", "ignorematch"), ("ratio", "min", "ignorematch"), ("contrast", "softmin", "substractmatch"),
)
torch.manual_seed(0)
x = torch.randn(3, 7)
for number, names in enumerate(CASES):
    options = dict(zip(("similarity", "intersection", "difference"), names))
    module = linear_form(
        torch.randn(4, 7), torch.randn(9, 7), *torch.tensor([1.3, 0.4, 0.7]), normalize=number % 2 == 0,
        per_feature=False, membership="hard", scale=0.5, **options,
    ).eval()
    torch.testing.assert_close(torch.jit.script(module)(x), module(x))
    torch.testing.assert_close(torch.compile(module, fullgraph=True, backend="aot_eager")(x), module(x))
    batch = {"x": {0: torch.export.Dim("batch", min=1, max=100)}}
    program = torch.export.export(module, (x,), dynamic_shapes=batch)
    torch.testing.assert_close(program.module()(x[:2]), module(x[:2]))
    path = f"{sys.argv[1]}/{number}.onnx"
    torch.onnx.export(module, (x,), path, dynamic_shapes=batch, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: x[:2].numpy()})
    np.testing.assert_allclose(got, module(x[:2]).numpy(), rtol=1e-4, atol=1e-5)
"""


def test_exports(tmp_path):
    """In a process of its own: TorchScript and exporters read the functions, not the run-time checks around them."""
    done = subprocess.run([sys.executable, "-c", _SCRIPT, str(tmp_path)], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
