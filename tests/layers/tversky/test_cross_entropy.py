"""The loss fused with the similarities against F.cross_entropy of them."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.layers.tversky.cross_entropy import tversky_cross_entropy
from zoo.layers.tversky.functional import tversky_similarity

CLASSES = 9
LOSS_OPTIONS = ("scale", "ignore_index", "label_smoothing", "reduction")


def problem(dtype=torch.float64, learned=(True,) * 6, tokens=(2, 7)):
    """x, prototypes, feature bank, theta, alpha, beta; and targets, one of which does not count."""
    generator = torch.Generator().manual_seed(1)
    sizes = ((*tokens, 5), (CLASSES, 5), (6, 5))
    inputs = [torch.randn(size, generator=generator, dtype=dtype) for size in sizes]
    inputs += [torch.tensor(value, dtype=dtype) for value in (1.1, 0.4, 0.7)]
    target = torch.randint(0, CLASSES, tokens, generator=generator)
    target.view(-1)[3:4] = -100
    return [t.requires_grad_(n) for t, n in zip(inputs, learned, strict=True)], target


def fused(inputs, target, **options):
    x, prototypes, bank, theta, alpha, beta = inputs
    return tversky_cross_entropy(x, prototypes, bank, target, theta=theta, alpha=alpha, beta=beta, **options)


def plain(inputs, target, chunk_tokens=None, **options):
    x, prototypes, bank, theta, alpha, beta = inputs
    of_loss = {k: options.pop(k) for k in LOSS_OPTIONS if k in options}
    scale = of_loss.pop("scale", 1.0)
    S = tversky_similarity(x, prototypes, bank, theta=theta, alpha=alpha, beta=beta, backend="reference", **options)
    loss = F.cross_entropy(S.flatten(0, -2) * scale, target.flatten(), **of_loss)
    return loss.view(target.shape) if loss.ndim else loss


def value_and_gradients(loss, inputs):
    if loss.ndim:
        loss = (loss * torch.arange(loss.numel()).view(loss.shape)).sum()
    wanted = [t for t in inputs if t.requires_grad]
    return [loss.detach(), *torch.autograd.grad(loss, wanted, allow_unused=True)]


def agree(inputs, target, **options):
    found = value_and_gradients(fused(inputs, target, **options), inputs)
    expected = value_and_gradients(plain(inputs, target, **options), inputs)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


LOSSES = (
    {},
    {"reduction": "sum", "label_smoothing": 0.1, "scale": 0.3, "normalize": True},
    {"reduction": "none", "label_smoothing": 1.0, "scale": -2.0},
    {"reduction": "mean", "ignore_index": 4},
)


@pytest.mark.parametrize("chunk_tokens", [1, 4, 14, None])
@pytest.mark.parametrize("intersection", ["product", "mean"])
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_linear_similarities(loss, intersection, chunk_tokens):
    inputs, target = problem()
    target = target.masked_fill(target == -100, loss.get("ignore_index", -100))
    agree(inputs, target, intersection=intersection, chunk_tokens=chunk_tokens, **loss)


@pytest.mark.parametrize("learned", [(1, 1, 1, 0, 0, 0), (0, 1, 0, 1, 0, 0), (1, 0, 0, 0, 0, 0), (0, 0, 0, 0, 1, 0)])
@pytest.mark.parametrize("intersection", ["product", "mean", "min"])
def test_what_is_frozen_stays_without_gradient(intersection, learned):
    inputs, target = problem(learned=[bool(n) for n in learned])
    agree(inputs, target, intersection=intersection, chunk_tokens=5)
    fused(inputs, target, intersection=intersection).backward()
    assert [t.grad is not None for t in inputs] == [bool(n) for n in learned]


@pytest.mark.parametrize("membership", ["hard", "ste", "soft"])
@pytest.mark.parametrize(
    ("similarity", "intersection", "difference", "per_feature"),
    [
        ("contrast", "product", "substractmatch", False),
        ("contrast", "gmean", "ignorematch", False),
        ("contrast", "softmin", "substractmatch", True),
        ("contrast", "max", "substractmatch_common", True),
        ("contrast", "product", "ignorematch", True),
        ("ratio", "product", "ignorematch", False),
        ("ratio", "min", "subtractmatch", True),
    ],
)
def test_every_other_similarity(similarity, intersection, difference, per_feature, membership):
    inputs, target = problem(learned=(True, True, True, similarity == "contrast", True, True))
    names = {"similarity": similarity, "intersection": intersection, "difference": difference}
    for loss in LOSSES[:3]:
        agree(inputs, target, per_feature=per_feature, membership=membership, chunk_tokens=4, **names, **loss)


def test_ratio_gives_theta_no_gradient():
    inputs, target = problem()
    found = value_and_gradients(fused(inputs, target, similarity="ratio"), inputs)
    assert not found[4].any()


@pytest.mark.parametrize("difference", ["ignorematch", "substractmatch"])
def test_without_gradients_it_is_the_loss_alone(difference):
    inputs, target = problem()
    with torch.no_grad():
        loss = fused(inputs, target, difference=difference, chunk_tokens=3)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, plain(inputs, target, difference=difference).detach())


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("difference", ["ignorematch", "substractmatch"])
def test_no_matrix_of_all_similarities(difference, reduction):
    tokens, classes, largest = 256, 300, 0

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel())
            return out

    x, prototypes, bank = torch.randn(tokens, 8), torch.randn(classes, 8), torch.randn(6, 8)
    inputs = [t.requires_grad_() for t in (x, prototypes, bank, *map(torch.tensor, (1.0, 0.5, 0.5)))]
    target = torch.randint(0, classes, (tokens,))
    with Largest():
        loss = fused(inputs, target, difference=difference, reduction=reduction, chunk_tokens=16)
        loss.sum().backward()
    assert 16 * classes <= largest < tokens * classes // 8


def test_default_chunk_is_bounded(monkeypatch):
    monkeypatch.setattr("zoo.layers.tversky.cross_entropy._CHUNK_ELEMENTS", 4 * CLASSES)
    inputs, target = problem()
    agree(inputs, target)
    monkeypatch.setattr("zoo.layers.tversky.cross_entropy._CHUNK_ELEMENTS", 1)
    agree(inputs, target)


def test_similarities_of_any_size():
    """Far beyond where exp() overflows."""
    inputs, target = problem()
    agree(inputs, target, scale=1e5)
    loss = fused([t.float() for t in inputs], target, scale=1e5)
    torch.testing.assert_close(loss.double(), plain(inputs, target, scale=1e5), rtol=1e-5, atol=0)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_no_input_counts(reduction):
    inputs, target = problem()
    target.fill_(-100)
    found = value_and_gradients(fused(inputs, target, reduction=reduction), inputs)
    assert bool(found[0].isnan()) == (reduction == "mean")
    assert not any(bool(grad.any()) for grad in found[1:])


@pytest.mark.parametrize("difference", ["ignorematch", "substractmatch"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_no_inputs(reduction, difference):
    inputs, target = problem(tokens=(0,))
    options = {"reduction": reduction, "difference": difference}
    torch.testing.assert_close(fused(inputs, target, **options), plain(inputs, target, **options), equal_nan=True)
    found = value_and_gradients(fused(inputs, target, **options), inputs)
    assert found[1].shape == (0, 5)
    assert not any(bool(grad.any()) for grad in found[2:])


def test_one_input_without_batch():
    inputs, target = problem(tokens=())
    torch.testing.assert_close(fused(inputs, target), plain([inputs[0][None], *inputs[1:]], target[None]))


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("options", [{}, {"intersection": "min", "difference": "substractmatch"}], ids=str)
def test_second_derivatives(options, reduction):
    inputs, target = problem()

    def penalty(loss):
        weights = torch.arange(1.0, loss.numel() + 1).view(loss.shape)
        grads = torch.autograd.grad((loss * weights).sum(), inputs, create_graph=True)
        return value_and_gradients(sum(grad.square().sum() for grad in grads), inputs)

    found = penalty(fused(inputs, target, reduction=reduction, scale=0.5, **options))
    torch.testing.assert_close(found, penalty(plain(inputs, target, reduction=reduction, scale=0.5, **options)))


def test_backward_twice_adds_up():
    inputs, target = problem()
    loss = fused(inputs, target)
    loss.backward(retain_graph=True)
    once = [t.grad.clone() for t in inputs]
    (2 * loss).backward()
    torch.testing.assert_close([t.grad for t in inputs], [3 * grad for grad in once])


def test_func_transforms_and_forward_mode():
    inputs, target = problem()
    inputs = [t.detach() for t in inputs]
    every = tuple(range(6))
    found = torch.func.grad(lambda *t: fused(t, target), argnums=every)(*inputs)
    torch.testing.assert_close(found, torch.func.grad(lambda *t: plain(t, target), argnums=every)(*inputs))
    tangents = tuple(torch.ones_like(t) for t in inputs)
    torch.testing.assert_close(
        torch.func.jvp(lambda *t: fused(t, target), tuple(inputs), tangents),
        torch.func.jvp(lambda *t: plain(t, target), tuple(inputs), tangents),
    )


@pytest.mark.parametrize("intersection", ["product", "min"])
@pytest.mark.parametrize("how", ["autocast", "bfloat16"])
def test_bfloat16(how, intersection):
    inputs, target = problem(torch.float32, tokens=(64,))
    expected = value_and_gradients(plain(inputs, target, intersection=intersection), inputs)
    if how == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            loss = fused(inputs, target, intersection=intersection, chunk_tokens=10)
        assert loss.dtype == torch.float32
    else:
        inputs = [t.detach().bfloat16().requires_grad_() for t in inputs]
        loss = fused(inputs, target, intersection=intersection, chunk_tokens=10)
        assert loss.dtype == torch.bfloat16
    found = value_and_gradients(loss, inputs)
    assert [grad.dtype for grad in found[1:]] == [t.dtype for t in inputs]
    for got, wanted in zip(found, expected, strict=True):
        assert float((got.float() - wanted).norm() / wanted.norm()) < 0.05


def test_bfloat16_sums_stay_exact():
    """Of 4,096 equal inputs each adds 2**-8 of the sum so far, or less, to the gradient of the prototypes."""
    x, prototypes, bank = torch.ones(4096, 2), torch.eye(2), torch.eye(2)
    inputs = [t.bfloat16().requires_grad_() for t in (x, prototypes, bank)]
    loss = tversky_cross_entropy(*inputs, torch.zeros(4096, dtype=torch.int64), reduction="sum", chunk_tokens=1)
    grad = torch.autograd.grad(loss, inputs[1])[0]
    torch.testing.assert_close(grad.float().abs().amax(), torch.tensor(2048.0), rtol=0.3, atol=0)


_SCRIPT = """
import torch
import torch.nn.functional as F
from zoo.layers.tversky.cross_entropy import tversky_cross_entropy
torch.manual_seed(0)
inputs = [torch.randn(s, requires_grad=True) for s in ((12, 5), (9, 5), (6, 5), (), (), ())]
target = torch.randint(0, 9, (12,))

def loss(x, prototypes, bank, theta, alpha, beta):
    return tversky_cross_entropy(x, prototypes, bank, target, theta=theta, alpha=alpha, beta=beta)

compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
for f in (loss, compiled):
    f(*inputs).backward()
grads = [t.grad / 2 for t in inputs]
torch.testing.assert_close(compiled(*inputs), loss(*inputs))
torch.testing.assert_close(grads, list(torch.autograd.grad(loss(*inputs), inputs)))
"""


def test_compiled():
    """In a process of its own: without the run-time checks around the function."""
    subprocess.run([sys.executable, "-c", _SCRIPT], check=True, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reduction": "avg"}, r"reduction must be one of 'mean', 'sum', 'none', got 'avg'"),
        ({"label_smoothing": 1.5}, r"label_smoothing must be in \[0, 1\], got 1.5"),
        ({"chunk_tokens": 0}, "chunk_tokens must be an integer of at least 1, got 0"),
        ({"intersection": "prodct"}, "did you mean 'product'"),
        ({"target": torch.zeros(2, 6, dtype=torch.int64)}, r"target must be \(2, 7\).* got \(2, 6\)"),
        ({"target": torch.full((2, 7), CLASSES)}, r"a class from 0 to 8, or ignore_index=-100; got 9 at \[0, 0\]"),
        ({"target": torch.full((2, 7), -1), "ignore_index": -2}, r"ignore_index=-2; got -1 at \[0, 0\]"),
    ],
)
def test_refuses_values(change, message):
    inputs, target = problem()
    with pytest.raises(ValueError, match=message):
        fused(inputs, **{"target": target, **change})


def test_refuses_types():
    inputs, target = problem()
    with pytest.raises(TypeError, match=r"target must be int64, got torch.int32; target.long\(\)"):
        fused(inputs, target.int())
    with pytest.raises(TypeError, match="chunk_tokens must be an integer"):
        fused(inputs, target, chunk_tokens=True)
