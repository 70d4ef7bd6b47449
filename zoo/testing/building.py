"""Checks of the constructor and of reset_parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.naming import did_you_mean
from zoo.registry.contracts import CONTRACTS
from zoo.testing.subject import Subject, expect, expect_equal, shape_of, tensors_of


def layout(subject: Subject) -> str | None:
    """The declared layout is one of the kind's, and class and catalogue say the same."""
    if not subject.layouts:
        return "does not apply: none is declared"
    for where, value in subject.layouts.items():
        known = subject.rules.layouts
        expect(value in known, f"{where} says {value!r}{did_you_mean(value, known)}, the kind has {', '.join(known)}")
    expect(len(set(subject.layouts.values())) == 1, f"class and catalogue disagree: {dict(subject.layouts)}")
    return None


def builds(subject: Subject) -> None:
    """The sizes alone are enough, and so are sizes with device and dtype; the result is an nn.Module."""
    how = CONTRACTS[subject.kind].constructor if subject.kind in CONTRACTS else "its options"
    alone = subject.cls(*[subject.sizes[n] for n in subject.rules.arguments], **subject.fixed)
    for module in (alone, subject.build()):
        expect(isinstance(module, nn.Module), f"expected an nn.Module from {how}, got {type(module).__name__}")


def builds_from_options(subject: Subject) -> None:
    """As `builds`, for a kind that is built as its page says."""
    module = subject.build()
    expect(isinstance(module, nn.Module), f"expected an nn.Module, got {type(module).__name__}")


def keywords(subject: Subject) -> None:
    """The options that all modules of the kind share are taken, and change no shape."""
    wanted = shape_of(subject.build().eval()(*subject.inputs()))
    for key, value in subject.rules.keywords.items():
        try:
            got = shape_of(subject.build(**{key: value}).eval()(*subject.inputs()))
        except Exception as error:
            raise AssertionError(f"the option {key!r} of the kind: {type(error).__name__}: {error}") from error
        expect(got == wanted, f"with {key} expected the shape {wanted}, got {got}")


def unknown_keyword(subject: Subject) -> None:
    """A keyword that the class does not take is a TypeError, not swallowed."""
    try:
        subject.build(no_such_option=1)
    except TypeError:
        return
    except Exception as error:
        raise AssertionError(
            f"expected a TypeError for an unknown keyword, got {type(error).__name__}: {error}"
        ) from error
    raise AssertionError("expected a TypeError for the unknown keyword no_such_option=1, got a module")


def meta(subject: Subject) -> None:
    """With device="meta" every parameter and buffer is made there."""
    elsewhere = {n: str(t.device) for n, t in tensors_of(subject.build(device="meta")) if t.device.type != "meta"}
    expect(not elsewhere, f'expected every parameter and buffer on "meta", got {elsewhere}')


def reset_parameters(subject: Subject) -> str | None:
    """It draws everything anew, the same under the same seed, in memory that held anything at all."""
    module = subject.build()
    if not hasattr(module, "reset_parameters"):
        learned = [name for name, _ in module.named_parameters()]
        expect(not learned, f"expected a method reset_parameters(), there is none; parameters: {', '.join(learned)}")
        return "does not apply: no parameters"
    first = _redrawn(module)
    _spoil(module)
    _compare(_redrawn(module), first, "a second call under the same seed")
    try:
        empty = subject.build(device="meta")
    except Exception:  # the check "meta" tells
        return None
    empty = empty.to_empty(device="cpu")
    _spoil(empty)
    _compare(_redrawn(empty), first, 'after device="meta" and to_empty')
    result, wanted = empty.eval()(*subject.inputs()), module.eval()(*subject.inputs())
    expect_equal(result, wanted, 'outputs after device="meta", to_empty and reset_parameters')
    return None


def _redrawn(module: nn.Module) -> dict[str, Tensor]:
    torch.manual_seed(1)
    module.reset_parameters()  # pyright: ignore[reportCallIssue]
    return {name: tensor.detach().clone() for name, tensor in tensors_of(module)}


def _spoil(module: nn.Module) -> None:
    """Numbers that no initialisation leaves behind."""
    with torch.no_grad():
        for _, tensor in tensors_of(module):
            tensor.fill_(float("nan") if tensor.is_floating_point() or tensor.is_complex() else 7)


def _compare(got: dict[str, Tensor], wanted: dict[str, Tensor], when: str) -> None:
    other = [name for name, value in got.items() if not torch.equal(value, wanted[name])]
    left = [name for name in other if got[name].is_floating_point() and bool(got[name].isnan().any())]
    expect(not left, f"{when}, these are not drawn: {', '.join(left)}")
    expect(not other, f"{when}, these have other values: {', '.join(other)}")
