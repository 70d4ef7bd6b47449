"""Circuits against independent simulators: values and gradients."""

from __future__ import annotations

import pytest

from tests.quantum.goldens import DTYPES, golden
from tests.quantum.samples import reuploading, strongly_entangling

METHODS = ("reference", "statevector", "mps")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
def test_strongly_entangling(method, dtype):
    data = golden("strongly_entangling_n5", dtype)
    x, weights = data.leaf("in.x"), data.leaf("state.weights")
    out = strongly_entangling(5, 3).expval("z", weights.flatten(), x, method=method)
    data.check(out, data["out.expval"], "values")
    (out * data["in.cotangent"]).sum().backward()
    data.check(weights.grad, data["grad.weights"], "gradient of the weights")
    data.check(x.grad, data["grad.x"], "gradient of the features")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
def test_reuploading(method, dtype):
    data = golden("reuploading_n3", dtype)
    x, scales, weights = data.leaf("in.x"), data.leaf("state.scales"), data.leaf("state.weights")
    inputs = (scales * x[:, None]).flatten(1)
    out = reuploading(3, 3).expval(data.kwargs["observables"], weights.flatten(), inputs, method=method)
    data.check(out, data["out.expval"], "values")
    (out * data["in.cotangent"]).sum().backward()
    data.check(weights.grad, data["grad.weights"], "gradient of the weights")
    data.check(scales.grad, data["grad.scales"], "gradient of the scales")
    data.check(x.grad, data["grad.x"], "gradient of the features")
