"""What one kind promises beyond the others."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor

from zoo.testing.subject import Subject, expect, expect_close


def attributes(subject: Subject) -> None:
    """The two sizes that the constructor takes (`in_features` and `out_features`) are kept under their names."""
    module = subject.build()
    for name in subject.rules.arguments:
        got = getattr(module, name, None)
        expect(got == subject.sizes[name], f"expected {name} = {subject.sizes[name]}, got {got}")


def one_output(subject: Subject) -> None:
    """One output keeps its axis."""
    one = subject.with_sizes(out_features=1)
    got = tuple(one.build().eval()(*one.inputs()).shape)
    expect(got == (3, 1), f"with out_features=1 expected the shape (3, 1), got {got}")


def leading_axes(subject: Subject) -> str | None:
    """No, one, two or three axes before the channels give the same values."""
    if subject.layout == "NCHW":
        return "does not apply: layout NCHW"
    module = subject.trained(torch.float64)
    x = torch.randn(12, subject.sizes["in_features"], dtype=torch.float64)
    rows = module(x)
    for lead in ((), (12,), (3, 4), (2, 2, 3)):
        given = x.reshape(*lead, -1) if lead else x[0]
        wanted = rows.reshape(*lead, -1) if lead else rows[0]
        try:
            got = module(given)
        except Exception as error:
            raise AssertionError(
                f"for an input {tuple(given.shape)} expected {tuple(wanted.shape)}, got {type(error).__name__}: {error}"
            ) from error
        expect_close(got, wanted, f"outputs of an input {tuple(given.shape)} and of its rows")
    return None


def widths(subject: Subject) -> None:
    """Hidden and output width may be given, by place or by name, or left as None."""
    width = subject.sizes["in_features"]
    wide = subject.with_sizes(out_features=width + 3)
    cases: list[tuple[Subject, tuple, dict]] = [
        (wide, (12, width + 3), {}),
        (wide, (), {"hidden_features": None, "out_features": width + 3}),
        (subject, (12,), {"out_features": None}),
        (subject, (None, None), {}),
    ]
    for wanted, args, options in cases:
        module = subject.build(*args, **options).eval()
        got, shape = tuple(module(*subject.inputs()).shape), wanted.expected_shape(module)
        expect(got == shape, f"built with {(width, *args)} {options} expected the shape {shape}, got {got}")


def attn_mask(subject: Subject) -> str | None:
    """What the mask hides has no influence; True allows, as -inf forbids; a mask does something."""
    module = subject.trained(torch.float64)
    if "attn_mask" not in inspect.signature(module.forward).parameters:
        return "does not apply: forward takes no attn_mask"
    (x,) = subject.inputs(dtype=torch.float64)

    def attend(x: Tensor, mask: Tensor | None) -> Tensor:
        return module(x, attn_mask=mask).flatten(1, -2)

    changed = x.flatten(1, -2).clone()
    changed[:, -1] += 1.0
    changed = changed.view(x.shape)
    count = x[0, ..., 0].numel()
    allowed = torch.ones(count, count, dtype=torch.bool)
    allowed[:-1, -1] = False
    scores = torch.zeros(allowed.shape, dtype=torch.float64).masked_fill(~allowed, -torch.inf)
    masked = attend(x, allowed)
    expect_close(attend(changed, allowed)[:, :-1], masked[:, :-1], "outputs after a change of what the mask hides")
    expect_close(attend(x, scores), masked, "outputs with 0 and -inf and with True and False as mask")
    for shape in ((len(x), 1, count, count), (1, subject.sizes["num_heads"], count, count)):
        got = attend(x, allowed.expand(shape))
        expect_close(got, masked, f"outputs with a mask {shape} and with one that broadcasts to it")
    same = torch.allclose(masked[:, :-1], attend(x, None)[:, :-1])
    expect(not same, "expected the mask to matter, got the same outputs")
    return None


def rope(subject: Subject) -> str | None:
    """A rotary embedding turns; by no angle it changes nothing, and it may leave out tokens at the front."""
    module = subject.trained(torch.float64)
    if "rope" not in inspect.signature(module.forward).parameters:
        return "does not apply: forward takes no rope"
    (x,) = subject.inputs(dtype=torch.float64)
    width = subject.sizes["dim"] // subject.sizes["num_heads"]
    for prefix in (0, 1):
        angle = torch.rand(x.shape[1] - prefix, width // 2, dtype=torch.float64).repeat_interleave(2, -1)
        turned = module(x, rope=torch.cat([angle.sin(), angle.cos()], -1))
        plain = module(x)
        expect(turned.shape == plain.shape, f"expected {tuple(plain.shape)}, got {tuple(turned.shape)}")
        expect(not torch.allclose(turned, plain), "expected the rotary embedding to matter, got the same outputs")
        still = torch.cat([torch.zeros_like(angle), torch.ones_like(angle)], -1)
        expect_close(module(x, rope=still), plain, "outputs with a rotary embedding of no angle and without")
    return None


def prefix(subject: Subject) -> str | None:
    """`mix_prefix` gives class and register tokens of the shape and dtype that they had."""
    module = subject.trained()
    if not hasattr(module, "mix_prefix"):
        return "does not apply: there is no mix_prefix()"
    (x,) = subject.inputs()
    for count in (1, 3):
        tokens = torch.randn(len(x), count, x.shape[-1])
        got = module.mix_prefix(tokens, x)
        expect(got.shape == tokens.shape, f"expected {tuple(tokens.shape)}, got {tuple(got.shape)}")
        expect(got.dtype == tokens.dtype, f"expected {tokens.dtype}, got {got.dtype}")
    return None


def permutation(subject: Subject) -> str | None:
    """A pool that says `permutation_invariant = True` does not see the order of its tokens."""
    module = subject.trained(torch.float64)
    if not getattr(module, "permutation_invariant", False):
        return "does not apply: the class does not say permutation_invariant = True"
    (x,) = subject.inputs(dtype=torch.float64)
    expect_close(module(x.flip(1)), module(x), "outputs of tokens in another order")
    return None


def element_wise(subject: Subject) -> None:
    """The value at a position depends on nothing else, whatever the shape."""
    module = subject.trained(torch.float64)
    (x,) = subject.inputs(dtype=torch.float64)
    whole = module(x)
    changed = x.clone()
    changed[0, 0, 0] += 1.0
    got = module(changed)
    got[0, 0, 0] = whole[0, 0, 0]
    expect_close(got, whole, "values elsewhere after a change at one position")
    expect_close(module(x.flatten()), whole.flatten(), "outputs of the same values in one axis")


def scales(subject: Subject) -> None:
    """Another scale gives another size."""
    larger = subject.with_sizes(scale=2 * subject.sizes["scale"])
    module = larger.build().eval()
    got, wanted = tuple(module(*larger.inputs()).shape), larger.expected_shape(module)
    expect(got == wanted, f"with scale={larger.sizes['scale']} expected {wanted}, got {got}")
