"""The attention kernels against the equations with all their matrices."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from zoo.layers.hopfield.general import general_association
from zoo.layers.hopfield.reference import reference_association
from zoo.layers.hopfield.stopping import association_changed

_HEADS, _STATES, _STORED, _WIDTH = 2, 3, 5, 4
_MASKS = {
    "none": None,
    "padding": (3, 1, 1, _STORED),
    "states": (_STATES, _STORED),
    "all": (3, _HEADS, _STATES, _STORED),
    "one for all": (1, 1, 1, _STORED),
}
_STEPS: list[tuple[list[int], list[float] | None, str]] = [
    ([1, 1], None, "association"),
    ([1, 4], None, "association"),
    ([3, 4], [1e-2, 1e-3], "association"),
    ([3, 4], [1e-2, 1e-3], "state"),
]


def _inputs(
    batches: tuple[int, int],
    read: int,
    dtype: torch.dtype = torch.float64,
    states: int = _STATES,
    stored: int = _STORED,
) -> list[torch.Tensor]:
    shapes = [(batches[0], states, _WIDTH), (batches[1], stored, _WIDTH), (batches[1], stored, read)]
    tensors = [torch.randn(batch, _HEADS, *rest, dtype=dtype) for batch, *rest in shapes]
    return [x.requires_grad_() for x in (*tensors, torch.tensor([0.7, 2.0], dtype=dtype))]


def _mask(kind: str, dtype: torch.dtype = torch.float64) -> torch.Tensor | None:
    """Some numbers, some forbidden patterns and, where the mask is not one for all, all those of the first."""
    shape = _MASKS[kind]
    if shape is None:
        return None
    mask = torch.randn(shape, dtype=dtype).masked_fill(torch.rand(shape) < 0.3, -torch.inf)
    if shape[0] > 1:
        mask[0] = -torch.inf
    return mask


@pytest.mark.parametrize("batches", [(3, 3), (1, 3), (3, 1)])
@pytest.mark.parametrize("read", [3, 4, 6])
@pytest.mark.parametrize("kind", _MASKS)
def test_equals_the_reference(batches, read, kind):
    torch.manual_seed(0)
    posts = (None, lambda states: F.normalize(states, dim=-1))
    for (updates, tol, stop), post in itertools.product(_STEPS, posts):
        inputs, mask = _inputs(batches, read), _mask(kind)
        found, wanted = (
            path(*inputs, mask, num_updates=updates, tol=tol, stop=stop, post=post)
            for path in (general_association, reference_association)
        )
        assert found.counts == wanted.counts
        torch.testing.assert_close(found.result, wanted.result, rtol=1e-10, atol=1e-10)
        cotangent = torch.randn_like(wanted.result)
        gradients = [torch.autograd.grad(x.result, inputs, cotangent) for x in (found, wanted)]
        torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


def test_gives_the_association_on_request():
    torch.manual_seed(0)
    inputs, mask = _inputs((3, 3), 4), _mask("padding")
    options = {"num_updates": [2, 3]}
    found = general_association(*inputs, mask, **options, need_association=True)
    wanted = reference_association(*inputs, mask, **options)
    torch.testing.assert_close(found.association, wanted.association, rtol=1e-10, atol=1e-10)
    assert general_association(*inputs, mask, **options).association is None


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (3, "padding"),
        (4, "none"),
        (6, "padding"),
        *(
            pytest.param(read, kind, marks=pytest.mark.slow)
            for read, kind in ((3, "none"), (4, "padding"), (6, "none"))
        ),
    ],
)
def test_derivatives(read, kind):
    torch.manual_seed(0)
    inputs, mask = _inputs((2, 2), read, states=2, stored=3), None
    if kind == "padding":  # one sample has nothing to associate with
        mask = torch.tensor([[-torch.inf] * 3, [0.4, -torch.inf, -1.0]], dtype=torch.float64).view(2, 1, 1, 3)
    call = lambda *x: general_association(*x, mask, num_updates=[2, 1]).result  # noqa: E731
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


def test_a_learned_mask_gets_its_gradient():
    torch.manual_seed(0)
    inputs, mask = _inputs((3, 3), 4), torch.randn(3, 1, _STATES, _STORED, dtype=torch.float64, requires_grad=True)
    found, wanted = (
        torch.autograd.grad(path(*inputs, mask, num_updates=[2, 2]).result.square().sum(), mask)
        for path in (general_association, reference_association)
    )
    torch.testing.assert_close(found, wanted)


def test_dropout_keeps_the_mean():
    torch.manual_seed(0)
    inputs = [x.detach() for x in _inputs((1, 1), 4)]
    many = [x.expand(4000, -1, -1, -1).contiguous() for x in inputs[:3]]
    found = general_association(*many, inputs[3], num_updates=[2, 2], dropout_p=0.3).result
    wanted = general_association(*inputs, num_updates=[2, 2]).result
    assert found.std(0).min() > 0.05
    torch.testing.assert_close(found.mean(0, keepdim=True), wanted, rtol=0, atol=0.06)


@pytest.mark.parametrize(("batch", "states"), [(0, 3), (2, 0), (0, 0)])
def test_nothing_to_do(batch, states):
    q, k = torch.randn(batch, 2, states, 4, requires_grad=True), torch.randn(batch, 2, 5, 4)
    found = general_association(q, k, k, torch.ones(2), num_updates=[3, 3], tol=[1e-4, 1e-4])
    assert found.result.shape == q.shape
    found.result.sum().backward()


@pytest.mark.parametrize("stored", [10, 9000])
def test_changed_is_whether_the_largest_of_the_batch_exceeds(stored):
    """Several samples at a time, or one."""
    torch.manual_seed(0)
    old, new, k = (torch.randn(5, 3, n, 16) for n in (40, 40, stored))
    matrices = [torch.softmax(x @ k.transpose(-1, -2), -1) for x in (old, new)]
    largest = (matrices[0] - matrices[1]).flatten(2).norm(dim=-1).amax(0).view(-1, 1, 1)
    for factor in (0.999, 1.001):
        for head in range(3):
            limit = largest * 0.999
            limit[head] = largest[head] * factor
            found = association_changed(old, new, k, None, limit).flatten().tolist()
            assert found == [factor < 1 or other != head for other in range(3)]


@pytest.mark.parametrize("training", [False, True])
def test_keeps_no_matrix(training):
    """What is kept for backward is a few times the inputs, whatever the states times the stored patterns."""
    q, k = torch.randn(1, 2, 300, 8, requires_grad=training), torch.randn(1, 2, 400, 8, requires_grad=training)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: (sizes.append(x.numel()), x)[1], lambda x: x):
        general_association(q, k, k, torch.ones(2), num_updates=[4, 4])
    assert bool(sizes) == training
    assert max(sizes, default=0) <= k.numel()
