"""The fast set level: equal to the equations, in values, gradients and what it keeps for the backward pass."""

import subprocess
import sys

import pytest
import torch
import torch.utils.checkpoint
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.layers.tversky import blocks, set_level
from zoo.layers.tversky.options import INTERSECTIONS
from zoo.layers.tversky.reference import reference_similarity
from zoo.layers.tversky.set_level import set_similarity

DIFFERENCES = ("ignorematch", "substractmatch")
FAST = (("product", "ignorematch"), ("product", "substractmatch"), ("min", "substractmatch"))


@pytest.fixture
def by_hand(monkeypatch):
    """The hand-written passes for every size, several blocks each."""
    monkeypatch.setattr(set_level, "_LARGE", 0)
    monkeypatch.setattr(blocks, "_SHORTEST", 3)
    monkeypatch.setattr(blocks, "_BLOCK_ELEMENTS", 30)


def inputs(n, m, features=6, dtype=torch.float64, lead=()):
    torch.manual_seed(0)
    tensors = [torch.randn(*lead, n, features), torch.randn(*lead, m, features), *torch.tensor([1.3, 0.4, 0.7])]
    return [tensor.to(dtype).requires_grad_() for tensor in tensors]


def compared(tensors, *names):
    """Values and gradients of the equations and of the fast way."""
    found = []
    for function in (reference_similarity, set_similarity):
        out = function(*tensors, *names)
        upstream = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
        found.append([out, *torch.autograd.grad(out, tensors, upstream, allow_unused=True)])
    return [pair for pair in zip(*found, strict=True) if pair[0] is not None or pair[1] is not None]


@pytest.mark.parametrize("size", [(4, 11), (11, 4)])
@pytest.mark.parametrize("names", FAST)
def test_hand_written_passes_are_the_equations(by_hand, names, size):
    tensors = inputs(*size)
    for wanted, got in compared(tensors, "contrast", *names):
        torch.testing.assert_close(got, wanted)
    with torch.no_grad():
        forward = set_similarity(*tensors, "contrast", *names)
    torch.testing.assert_close(forward, reference_similarity(*tensors, "contrast", *names))


@pytest.mark.parametrize("lead", [(), (2, 3)])
@pytest.mark.parametrize("difference", DIFFERENCES)
@pytest.mark.parametrize("intersection", INTERSECTIONS)
@pytest.mark.parametrize("similarity", ["contrast", "ratio"])
def test_composed_is_the_equations(similarity, intersection, difference, lead):
    for wanted, got in compared(inputs(4, 5, lead=lead), similarity, intersection, difference):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("size", [(3, 5), (5, 3)])
@pytest.mark.parametrize("names", FAST)
def test_second_derivatives(by_hand, names, size):
    tensors = inputs(*size, features=4)
    assert torch.autograd.gradgradcheck(lambda *t: set_similarity(*t, "contrast", *names), tensors)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (3, 4), (0, 1), (1, 4)])
@pytest.mark.parametrize("size", [(4, 11), (11, 4)])
@pytest.mark.parametrize("names", FAST)
def test_some_gradients_alone(by_hand, names, size, wanted):
    tensors = [tensor.detach().requires_grad_(i in wanted) for i, tensor in enumerate(inputs(*size))]
    asked = [tensors[i] for i in wanted]
    expected = torch.autograd.grad(reference_similarity(*tensors, "contrast", *names).sum(), asked)
    got = torch.autograd.grad(set_similarity(*tensors, "contrast", *names).sum(), asked)
    for e, g in zip(expected, got, strict=True):
        torch.testing.assert_close(g, e)


@pytest.mark.parametrize("names", FAST)
def test_no_inputs(by_hand, names):
    for size in ((0, 3), (3, 0)):
        tensors = inputs(*size)
        out = set_similarity(*tensors, "contrast", *names)
        assert out.shape == size
        for tensor, grad in zip(tensors, torch.autograd.grad(out.sum(), tensors), strict=True):
            assert torch.equal(grad, torch.zeros_like(tensor))


@pytest.mark.parametrize("names", FAST)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(by_hand, names, dtype):
    """Within 2e-2 of the magnitude of the terms, in gradients of the scalars too."""
    tensors = inputs(40, 70, features=50, dtype=dtype)
    tensors[2:] = [tensor.detach().float().requires_grad_() for tensor in tensors[2:]]
    exact = [tensor.detach().float().requires_grad_() for tensor in tensors]
    out, wanted = set_similarity(*tensors, "contrast", *names), reference_similarity(*exact, "contrast", *names)
    a, q, theta, alpha, beta = (tensor.detach().relu() for tensor in exact)
    magnitude = theta * a @ q.t() + alpha * a.sum(1, keepdim=True) + beta * q.sum(1)
    assert out.dtype == dtype
    assert float(((out.detach().float() - wanted.detach()) / magnitude).abs().max()) < 2e-2
    grads = torch.autograd.grad(out.float().square().mean(), tensors)
    for got, want in zip(grads, torch.autograd.grad(wanted.square().mean(), exact), strict=True):
        # Rounding changes which of two nearly equal sums is the smaller, and with it a whole term of the gradient.
        bound = 3e-2 if names == ("product", "ignorematch") else 0.2
        assert float((got.float() - want).norm()) < bound * float(want.norm())


def test_no_cancellation():
    """Everything present and one feature that is not: ignorematch sees it beside sums 1e8 times as large."""
    A = torch.full((1, 5), 1e4)
    Q = torch.tensor([[1e4, 1e4, 1e4, 1e4, -1.0]])
    A[0, 4] = 1e-4
    zero, one = torch.tensor(0.0), torch.tensor(1.0)
    for large in (0, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(set_level, "_LARGE", large)
            assert float(set_similarity(A, Q, zero, one, zero)) == pytest.approx(-1e-4)


class _Kept:
    """Bytes kept for the backward pass beside the arguments, each memory once."""

    def __init__(self, arguments):
        self.known = {tensor.untyped_storage().data_ptr() for tensor in arguments}
        self.sizes = {}

    def __call__(self, tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.known:
            self.sizes[storage.data_ptr()] = storage.nbytes()
        return tensor


@pytest.mark.parametrize(("names", "per_result"), list(zip(FAST, (0, 1, 1), strict=True)))
def test_keeps_little(by_hand, names, per_result):
    tensors = inputs(8, 16)
    kept = _Kept(tensors)
    with torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor):
        out = set_similarity(*tensors, "contrast", *names)
    assert sum(kept.sizes.values()) == per_result * out.numel()


class _Products(TorchDispatchMode):
    """Counts multiplications in matrix products, those in place or into given memory too."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        if name in ("mm", "addmm", "addmm_"):
            x, y = args[-2:]
            self.count += x.shape[0] * x.shape[1] * y.shape[1]
        return func(*args, **(kwargs or {}))


def products(run):
    with _Products() as counter:
        out = run()
    return out, counter.count


@pytest.mark.parametrize(
    ("names", "large", "forward", "backward"),
    [
        (("product", "ignorematch"), 0, 2, 3),
        (("product", "ignorematch"), 10**9, 2, 3),
        (("mean", "ignorematch"), 0, 2, 2),
        (("min", "ignorematch"), 0, 2, 2),
        (("gmean", "ignorematch"), 0, 2, 2),
        (("gmean", "ignorematch"), 10**9, 4, 4),
        (("product", "substractmatch"), 0, 3, 4),
        (("product", "substractmatch"), 10**9, 3, 4),
        (("min", "substractmatch"), 0, 2, 2),
        (("min", "substractmatch"), 10**9, 2, 2),
        (("softmin", "substractmatch"), 0, 2, 2),
    ],
)
def test_matrix_products(monkeypatch, names, large, forward, backward):
    """As many as the identities need, counted in products of inputs, prototypes and features.

    Small sizes of ignorematch take the differences directly, so that nothing cancels.
    """
    monkeypatch.setattr(set_level, "_LARGE", large)
    tensors = inputs(8, 16)
    out, count = products(lambda: set_similarity(*tensors, "contrast", *names))
    assert count == forward * 8 * 16 * 6
    assert products(out.sum().backward)[1] == backward * 8 * 16 * 6


def test_frozen_scalars_save_a_product(by_hand):
    tensors = [tensor.detach().requires_grad_(i < 2) for i, tensor in enumerate(inputs(8, 16))]
    out = set_similarity(*tensors)
    assert products(out.sum().backward)[1] == 2 * 8 * 16 * 6


@pytest.mark.parametrize("names", FAST)
def test_transforms_compose(by_hand, names):
    tensors = inputs(4, 5)

    def total(*arguments):
        return set_similarity(*arguments, "contrast", *names).sin().sum()

    wanted = torch.autograd.grad(total(*tensors), tensors)
    got = torch.func.grad(total, tuple(range(5)))(*(tensor.detach() for tensor in tensors))
    for g, w in zip(got, wanted, strict=True):
        torch.testing.assert_close(g, w)
    tangents = [torch.ones_like(tensor) for tensor in tensors]
    _, along = torch.func.jvp(total, tuple(t.detach() for t in tensors), tuple(tangents))
    torch.testing.assert_close(along, sum(w.sum() for w in wanted))


def test_gradient_checkpointing(by_hand):
    tensors = inputs(4, 5)
    out = torch.utils.checkpoint.checkpoint(
        set_similarity, *tensors, "contrast", "product", "substractmatch", use_reentrant=False
    )
    wanted = reference_similarity(*tensors, "contrast", "product", "substractmatch")
    for g, w in zip(*(torch.autograd.grad(o.sum(), tensors) for o in (out, wanted)), strict=True):
        torch.testing.assert_close(g, w)


_SCRIPT = """
import warnings; warnings.simplefilter("ignore")
import torch
import torch.utils.checkpoint
import torch.utils.flop_counter
from zoo.layers.tversky import set_level
from zoo.layers.tversky.set_level import set_similarity

set_level._LARGE = 0
torch.manual_seed(0)

class Head(torch.nn.Module):
    def __init__(self, *names):
        super().__init__()
        self.names = names
        self.Q = torch.nn.Parameter(torch.randn(5, 6))
        self.scalars = torch.nn.Parameter(torch.tensor([1.3, 0.4, 0.7]))

    def forward(self, A):
        return set_similarity(A, self.Q, *self.scalars, "contrast", *self.names)

for names in (("product", "ignorematch"), ("product", "substractmatch"), ("gmean", "ignorematch")):
    head, A = Head(*names), torch.randn(4, 6, requires_grad=True)
    found = []
    for function in (head, torch.compile(head, fullgraph=True, backend="aot_eager")):
        out = function(A)
        found.append([out, *torch.autograd.grad(out.sum(), [A, *head.parameters()])])
    for wanted, got in zip(*found):
        torch.testing.assert_close(got, wanted)
    batch = {"A": {0: torch.export.Dim("batch", min=2, max=100)}}
    program = torch.export.export(head, (A,), dynamic_shapes=batch).module()
    torch.testing.assert_close(program(A[:3]), head(A[:3]))
"""


def test_compiled_and_exported():
    """In a process of its own: compilers read the functions, not the run-time checks around them."""
    subprocess.run([sys.executable, "-c", _SCRIPT], check=True, capture_output=True, text=True, timeout=300)


def test_learns_as_the_equations_do(by_hand):
    """A classifier takes the same path of steps."""
    torch.manual_seed(0)
    x, target = torch.randn(60, 5), torch.randint(4, (60,))
    found = []
    for function in (reference_similarity, set_similarity):
        torch.manual_seed(1)
        bank, prototypes = nn.Linear(5, 7, bias=False), nn.Linear(5, 4, bias=False)
        scalars = torch.tensor([1.0, 0.5, 0.5], requires_grad=True)
        optimizer = torch.optim.SGD([bank.weight, prototypes.weight, scalars], 0.1)
        for _ in range(20):
            out = function(bank(x), bank(prototypes.weight), *scalars, "contrast", "product", "substractmatch")
            loss = nn.functional.cross_entropy(out, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found.append(loss)
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
