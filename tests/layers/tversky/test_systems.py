"""Compilers, exporters and precisions."""

import subprocess
import sys

import pytest
import torch

from zoo.layers import TverskyProjection

_SCRIPT = """
import sys, warnings; warnings.simplefilter("ignore")
import torch
from zoo.layers import TverskyProjection, TverskySimilarity

OPTIONS = [
    {},
    {"nonnegative": True, "scale": "rsqrt_features"},
    {"similarity": "ratio", "normalize": True},
    {"difference": "substractmatch"},
    {"intersection": "min", "difference": "substractmatch", "per_feature": True},
    {"intersection": "gmean", "membership": "ste"},
]
torch.manual_seed(0)
x = torch.randn(6, 8)


def same(got, wanted):
    torch.testing.assert_close(got, wanted, rtol=2e-5, atol=2e-5)


def scripted():
    for options in OPTIONS:
        layer = TverskyProjection(8, 3, 5, **options)
        program = torch.jit.script(layer)
        same(program(x), layer(x))
        same(program(x.view(2, 3, 8)), layer(x.view(2, 3, 8)))


def traced():
    for options in OPTIONS:
        layer = TverskyProjection(8, 3, 5, **options)
        same(torch.jit.trace(layer, x)(x[:4]), layer(x[:4]))


def exported():
    for options in OPTIONS:
        layer = TverskyProjection(8, 3, 5, **options).eval()
        batch = torch.export.Dim("batch", min=1)
        program = torch.export.export(layer, (x,), dynamic_shapes={"x": {0: batch}}).module()
        for rows in (1, 4):
            same(program(x[:rows]), layer(x[:rows]))


def compiled():
    for options in OPTIONS[:1] + OPTIONS[4:5]:
        layer = TverskyProjection(8, 3, 5, **options)
        call = torch.compile(layer, fullgraph=True)
        for leaf in (x.clone().requires_grad_(),):
            found = torch.autograd.grad(call(leaf).square().sum(), [leaf, *layer.parameters()])
            wanted = torch.autograd.grad(layer(leaf).square().sum(), [leaf, *layer.parameters()])
        for got, value in zip(found, wanted):
            same(got, value)
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            torch.testing.assert_close(call(x), layer(x), rtol=3e-2, atol=3e-2)


def shared():
    model = torch.nn.Module()
    embed = torch.nn.Embedding(7, 8)
    head = TverskyProjection(8, 7, 5, prototypes=embed)

    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = embed, head

        def forward(self, tokens):
            return self.head(self.embed(tokens))

    tied, tokens = Tied().eval(), torch.tensor([[1, 2], [3, 6]])
    program = torch.export.export(tied, (tokens,))
    same(program.module()(tokens), tied(tokens))
    same(torch.compile(tied, fullgraph=True, backend="aot_eager")(tokens), tied(tokens))


def per_sample():
    layer = TverskyProjection(8, 3, 5)
    state = {name: value.detach() for name, value in layer.named_parameters()}

    def loss(state, row):
        return torch.func.functional_call(layer, state, (row,)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(state, x)
    for i in range(2):
        for name, value in torch.func.grad(loss)(state, x[i]).items():
            same(each[name][i], value)


globals()[sys.argv[1]]()
"""


@pytest.mark.parametrize("what", ["scripted", "traced", "exported", "compiled", "shared", "per_sample"])
def test_under(what):
    """In a process of its own: compilers read the functions, not the run-time checks around them."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, what], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_its_dtype(dtype):
    torch.manual_seed(0)
    layer = TverskyProjection(16, 4, 8)
    x = torch.randn(5, 16)
    exact = layer(x)
    got = layer.to(dtype)(x.to(dtype))
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), exact, rtol=3e-2, atol=3e-2)


def test_autocast_leaves_the_weights_of_the_similarity_in_float32():
    torch.manual_seed(0)
    layer = TverskyProjection(16, 4, 8)
    x = torch.randn(64, 16)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        y.float().square().sum().backward()
    assert y.dtype == torch.bfloat16
    assert {p.dtype for p in layer.parameters()} == {torch.float32}
    half = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    layer(x).square().sum().backward()
    for got, parameter in zip(half, layer.parameters(), strict=True):
        assert got.dtype == torch.float32
        assert float((got - parameter.grad).norm() / parameter.grad.norm()) < 2e-2
