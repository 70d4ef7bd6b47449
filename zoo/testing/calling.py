"""Checks of the call: shapes, dtypes, batches, memory layouts."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.testing.subject import Inputs, Subject, expect, expect_close, outputs, shape_of


def call(subject: Subject) -> None:
    """The call of the contract works and gives finite tensors."""
    found = outputs(subject.trained()(*subject.inputs()))
    expect(found, "expected a tensor, got none")
    expect(all(bool(t.isfinite().all()) for t in found), "expected finite values, got NaN or infinity")


def shape(subject: Subject) -> None:
    """The output has the shape that the kind promises."""
    module = subject.build().eval()
    result = module(*subject.inputs())
    wanted = subject.expected_shape(module)
    expect(isinstance(result, Tensor), f"expected one tensor of the shape {wanted}, got {type(result).__name__}")
    expect(tuple(result.shape) == wanted, f"expected {wanted}, got {shape_of(result)}")


def dtype(subject: Subject) -> None:
    """float32, bfloat16 and float64 come out as they went in, built in that dtype or converted to it."""
    for kind in (torch.float32, torch.bfloat16, torch.float64):
        for how, module in (("built as", subject.build(dtype=kind)), ("converted to", subject.build().to(kind))):
            other = {n: str(p.dtype) for n, p in module.named_parameters() if p.is_floating_point() and p.dtype != kind}
            expect(not other, f"{how} {kind}, these parameters are not: {other}")
            try:
                found = outputs(module.eval()(*subject.inputs(dtype=kind)))
            except Exception as error:
                raise AssertionError(f"{how} {kind}, the call fails: {type(error).__name__}: {error}") from error
            got = {str(t.dtype) for t in found if t.is_floating_point() or t.is_complex()}
            expect(got == {str(kind)}, f"{how} {kind} and called with it, expected {kind}, got {', '.join(got)}")


def batch_of_zero(subject: Subject) -> None:
    """No rows in, no rows out."""
    _expect_rows(subject, 0)


def batch_of_one(subject: Subject) -> None:
    """One row in, one row out; no axis is lost."""
    _expect_rows(subject, 1)


def _expect_rows(subject: Subject, rows: int) -> None:
    module = subject.trained()
    inputs = subject.inputs()
    whole = outputs(module(*inputs))
    found = outputs(module(*_rows(inputs, rows)))
    wanted = [(rows, *t.shape[1:]) for t in whole]
    got = [tuple(t.shape) for t in found]
    expect(got == wanted, f"expected {_list(wanted)}, got {_list(got)}")


def _list(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes))


def _rows(inputs: Inputs, rows: int) -> Inputs:
    return tuple(value[:rows] if isinstance(value, Tensor) else value for value in inputs)


def non_contiguous(subject: Subject) -> None:
    """Values count, not how they lie in memory."""
    module = subject.trained(torch.float64)
    inputs = subject.inputs(dtype=torch.float64)
    wanted = module(*inputs)
    for how, change in (("transposed", _transposed), ("strided", _strided)):
        expect_close(module(*map(change, inputs)), wanted, f"outputs of {how} and of contiguous inputs")


def _transposed(value: Tensor) -> Tensor:
    return value.transpose(0, -1).contiguous().transpose(0, -1)


def _strided(value: Tensor) -> Tensor:
    return torch.stack([value, value], -1)[..., 0]


def batch_independence(subject: Subject) -> None:
    """In evaluation, a batch gives what its rows give one by one."""
    module = subject.trained(torch.float64)
    (inputs,) = subject.inputs(dtype=torch.float64)
    one_by_one = torch.cat([module(inputs[i : i + 1]) for i in range(len(inputs))])
    expect_close(module(inputs), one_by_one, "outputs of a batch and of its rows")


def input_kept(subject: Subject) -> None:
    """The call does not write into its input, in training neither."""
    for training in (False, True):
        inputs = subject.inputs()
        with torch.no_grad():
            subject.build().train(training)(*inputs)
        for value, before in zip(inputs, subject.inputs(), strict=True):
            if isinstance(value, Tensor):
                mode = "training" if training else "evaluation"
                expect(torch.equal(value, before), f"expected the input as it was, got it changed (in {mode})")
