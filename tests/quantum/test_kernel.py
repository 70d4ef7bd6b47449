"""The fidelity kernel."""

import re

import numpy as np
import pytest
import torch
from sklearn.datasets import make_circles
from sklearn.svm import SVC

from zoo.quantum.feature_maps import feature_map
from zoo.quantum.probes import kernel


def test_product_states_have_the_product_of_cosines():
    a = torch.randn(4, 3, dtype=torch.float64)
    b = torch.randn(5, 3, dtype=torch.float64)
    wanted = ((a[:, None] - b) / 2).cos().square().prod(-1)
    torch.testing.assert_close(kernel(a, b, "angle:y"), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["zz", "iqp:2", "angle:x", "amplitude"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_a_set_with_itself(name, dtype):
    x = torch.randn(12, 3, dtype=dtype)
    found = kernel(x, feature_map=name)
    limit = 1e-5 if dtype == torch.float32 else 1e-12
    assert found.dtype == dtype
    assert torch.equal(found, found.mT)
    torch.testing.assert_close(found.diagonal(), torch.ones(12, dtype=dtype), rtol=0, atol=limit)
    assert float(torch.linalg.eigvalsh(found.double()).min()) > -limit
    torch.testing.assert_close(found, kernel(x, x, name), rtol=0, atol=limit)


def test_by_default_the_map_is_applied_twice():
    x = torch.randn(4, 2, dtype=torch.float64)
    assert torch.equal(kernel(x), kernel(x, feature_map="zz:2"))
    assert not torch.allclose(kernel(x), kernel(x, feature_map="zz"))


def test_amplitudes_are_cosines_squared():
    x = torch.randn(6, 5, dtype=torch.float64)
    wanted = torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=-1).square()
    torch.testing.assert_close(kernel(x, feature_map=feature_map("amplitude", 5, 4)), wanted, rtol=0, atol=1e-12)


def test_types():
    x = torch.rand(3, 2)
    exact = kernel(x.double())
    assert kernel(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(kernel(torch.tensor([[0, 1], [1, 1]]), feature_map="basis"), torch.eye(2))
    torch.testing.assert_close(kernel(x, x.double()), exact.float())
    torch.testing.assert_close(kernel(x.double().numpy()), exact)


def test_differentiable_in_both():
    a, b = (torch.randn(2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: kernel(a, b, "zz"), (a, b))


def test_a_support_vector_machine_takes_it():
    x, y = make_circles(80, factor=0.4, noise=0.05, random_state=0)
    train, test = slice(0, 50), slice(50, None)
    machine = SVC(kernel="precomputed").fit(kernel(x[train], feature_map="iqp"), y[train])
    score = np.mean(machine.predict(kernel(x[test], x[train], "iqp")) == y[test])
    assert score > 0.9


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (torch.zeros(3), None, ["(samples, features)", "(3,)"]),
        (torch.zeros(2, 3), torch.zeros(2, 4), ["(2, 3)", "(2, 4)"]),
        (torch.full((1, 2), torch.nan), None, ["finite"]),
    ],
)
def test_refusals(a, b, words):
    with pytest.raises(ValueError, match=".*".join(map(re.escape, words))):
        kernel(a, b)
