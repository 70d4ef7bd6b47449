"""Nodes that add and multiply: the formula, the networks of pykan, and what is refused."""

import subprocess
import sys

import pytest
import torch

from tests.layers.answers import answers
from tests.layers.kan.samples import network, pykan, rows
from zoo.layers.kan import KAN
from zoo.layers.kan.nodes import MultiplyNodes


def test_formula():
    nodes = MultiplyNodes(1, 2, 3, affine=True, dtype=torch.float64)
    torch.manual_seed(0)
    for parameter in nodes.parameters():
        torch.nn.init.normal_(parameter)
    u = rows(5, 7)
    v = u * nodes.subnode_scale + nodes.subnode_bias
    z = torch.stack([v[:, 0], v[:, 1] * v[:, 2] * v[:, 3], v[:, 4] * v[:, 5] * v[:, 6]], -1)
    torch.testing.assert_close(nodes(u), z * nodes.node_scale + nodes.node_bias)


def test_a_node_and_its_subnodes():
    nodes = MultiplyNodes(2, 2, 2)
    assert nodes.of_subnodes(torch.tensor([0.0, 1.0, 2.0, 3.0])).tolist() == [0, 1, 2, 2, 3, 3]
    assert nodes.subnodes_of([1, 3]) == [1, 4, 5]


def test_kept_nodes_compute_what_they_did():
    nodes = MultiplyNodes(2, 2, 2, affine=True, dtype=torch.float64)
    torch.manual_seed(0)
    for parameter in nodes.parameters():
        torch.nn.init.normal_(parameter)
    nodes.node_scale.requires_grad_(False)
    u = rows(5, 6)
    before = nodes(u)
    nodes.keep([1, 2])
    torch.testing.assert_close(nodes(u[:, [1, 2, 3]]), before[:, [1, 2]])
    assert not nodes.node_scale.requires_grad
    assert nodes.node_bias.requires_grad


@pytest.mark.parametrize("name", ["pykan_net", "pykan_net_mult"])
def test_networks_of_pykan(name):
    case, model = pykan(name)
    x = case.tensors["in.x"].clone().requires_grad_()
    y = model(x)
    case.check(y, case.tensors["out.y"])
    y.backward(case.tensors["in.cotangent"])
    first = model.layers[0]
    found = {
        "input": x.grad,
        "act_fun.0.coef": first.weight.grad.transpose(0, 1),
        "act_fun.0.scale_base": first.base_weight.grad.t(),
    }
    for key, gradient in case.part("grad").items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-4, atol=1e-4)


def test_sizes_make_the_network_anew():
    model = network([3, (2, 1), 4], arity=3, affine=True)
    assert model.sizes == [3, (2, 1), 4]
    again = KAN(model.sizes, arity=3, affine=True, dtype=torch.float64)
    again.load_state_dict(model.state_dict())
    x = rows(4, 3)
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)


def test_a_network_of_sums_is_layers_in_a_row():
    plain = network([3, 4, 2])
    assert plain.nodes is None
    assert plain.sizes == [3, 4, 2]
    sums = network([3, (4, 0), 2])
    torch.testing.assert_close(sums(rows(4, 3)), plain(rows(4, 3)), rtol=0, atol=0)
    affine = network([3, 4, 2], affine=True)
    torch.testing.assert_close(affine(rows(4, 3)), plain(rows(4, 3)), rtol=0, atol=0)


_CAPTURE = """
import warnings; warnings.simplefilter("ignore")
import torch
from zoo.layers.kan import KAN
from zoo.testing import check_module

def head(in_features, num_classes, **options):
    model = KAN([in_features, (3, 2), num_classes], affine=True, **options)
    model.in_features, model.out_features = in_features, num_classes
    return model

check_module("head", head, compiler="aot_eager")
torch.manual_seed(0)
model, x = KAN([4, (3, 2), 3], affine=True).eval(), torch.randn(5, 4)
model.update_grid(x)
model.layers[0].mask_edges(torch.rand(7, 4) > 0.3)
expected = model(x)
torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="aot_eager")(x), expected)
program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
torch.testing.assert_close(program(torch.cat([x, x])), torch.cat([expected, expected]))
"""


def test_the_contract_of_heads_and_capture_with_masked_edges():
    """In a process of its own: they read the functions, not the run-time checks around them."""
    subprocess.run([sys.executable, "-c", _CAPTURE], check=True, capture_output=True, text=True, timeout=300)


REFUSED = {
    "MultiplyNodes(0, 0)": ["ValueError", "both 0"],
    "MultiplyNodes(-1, 2)": ["ValueError", "num_sum", "at least 0", "-1"],
    "MultiplyNodes(1, 2, 1)": ["ValueError", "arity", "at least 2", "got 1"],
    "MultiplyNodes(1, 2, 2)(torch.zeros(3, 4))": ["ValueError", "take 5 sub-nodes", "got 4"],
    "KAN([3, (1, 2, 3), 1])": ["ValueError", "a pair (sums, products)", "(1, 2, 3)"],
    "KAN([(1, 1), 1])": ["TypeError", "number of inputs", "(1, 1)"],
    "KAN([3, 0, 1])": ["ValueError", "a width", "at least 1", "got 0"],
    "KAN([3, 2], layer=nn.Linear).stages()": ["TypeError", "KANLinear", "Linear"],
}


@pytest.fixture(scope="module")
def messages():
    return answers(REFUSED, "from zoo.layers.kan import KAN\nfrom zoo.layers.kan.nodes import MultiplyNodes")


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_what_is_allowed(case, messages):
    assert all(part in messages[case] for part in REFUSED[case]), messages[case]
