"""Convolutional KAN layers: compilers and exporters, and bad inputs."""

import subprocess
import sys

import pytest

from tests.layers.answers import answers

_SCRIPT = """
import copy, io, sys, warnings; warnings.simplefilter("ignore")
import torch
from zoo.layers.kan.conv import BottleneckGramConv2d, GramConv2d, KANConv2d

torch.manual_seed(0)
LAYERS = [
    GramConv2d(4, 6, padding=1, groups=2, dropout=0.1),
    BottleneckGramConv2d(4, 6, padding=1, norm="batch", dropout=0.1),
    BottleneckGramConv2d(4, 6, padding=1, norm="batch").fuse(),
    KANConv2d.fast(4, 6, padding=1),
    KANConv2d.efficient(4, 6, padding=1, groups=2),
]
x = torch.randn(2, 4, 6, 5)


def same(got, wanted):
    torch.testing.assert_close(got, wanted, rtol=2e-5, atol=2e-5)


def scripted():
    for layer in LAYERS[:3]:
        program = torch.jit.script(layer.eval())
        same(program(x), layer(x))
        program.train()(x)


def compiled():
    for i, layer in enumerate(LAYERS):
        given = x.clone().requires_grad_()
        program = torch.compile(layer.eval(), fullgraph=True, backend="aot_eager" if i else "inductor")
        y = program(given)
        same(y, layer(x))
        y.square().sum().backward()
        expected = x.clone().requires_grad_()
        layer(expected).square().sum().backward()
        same(given.grad, expected.grad)


def exported():
    sizes = {0: torch.export.Dim("batch", max=9), 2: torch.export.Dim("height", min=3, max=99)}
    for layer in LAYERS:
        program = torch.export.export(layer.eval(), (x,), dynamic_shapes=(sizes,)).module()
        other = torch.randn(3, 4, 9, 5)
        same(program(other), layer(other))


def vectorised():
    for layer in LAYERS:
        images = torch.randn(3, 2, 4, 6, 5)
        same(torch.vmap(layer.eval())(images), torch.stack([layer(image) for image in images]))


globals()[sys.argv[1]]()
"""


@pytest.mark.parametrize("system", ["scripted", "compiled", "exported", "vectorised"])
@pytest.mark.timeout(300)
def test_system(system):
    done = subprocess.run([sys.executable, "-c", _SCRIPT, system], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


_PREPARATION = "from zoo.layers.kan.conv import BottleneckGramConv2d, GramConv2d, KANConv2d, gram_conv2d"
REFUSED = {
    "GramConv2d(0, 3)": "ValueError: in_channels must be an integer of at least 1, got 0",
    "GramConv2d(4, 6, groups=3)": "ValueError: groups = 3 must divide in_channels = 4 and out_channels = 6",
    "GramConv2d(4, 6, degree=0)": "ValueError: degree must be an integer of at least 1, got 0",
    "GramConv2d(4, 6, norm='instnace')": "did you mean 'instance'",
    "GramConv2d(4, 6, norm=3)": "TypeError: norm must be a name, a module or None, got 3",
    "GramConv2d(4, 6, backend='fast')": "ValueError: backend must be one of 'auto', 'reference', got 'fast'",
    "BottleneckGramConv2d(4, 6, width=3, groups=2)": "groups = 2 must divide the 3 channels of the bottleneck",
    "BottleneckGramConv2d(4, 6, reduction=0)": "ValueError: reduction must be a finite number greater than 0, got 0",
    "KANConv2d(4, 6, basis='gausian')": "did you mean 'gaussian'",
    "KANConv2d(4, 6, base_activation='slu')": "did you mean 'silu'",
    "GramConv2d(4, 6)(torch.zeros(2, 3, 5, 5))": "(batch, 4, height, width), got the shape (2, 3, 5, 5)",
    "KANConv2d(4, 6)(torch.zeros(4, 5, 5))": "got the shape (4, 5, 5)",
    "BottleneckGramConv2d(4, 6)(torch.zeros(2, 4, 5, 5).long())": "TypeError: x must be of a floating type",
}


@pytest.fixture(scope="module")
def said():
    return answers(REFUSED, _PREPARATION)


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, said):
    assert REFUSED[case] in said[case]
