"""Checks of torch.compile and torch.export."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
from torch import Tensor

from zoo.testing.subject import Inputs, Subject, expect_close, outputs


@functools.cache
def working_backend() -> str:
    """ "inductor" where it can compile for the CPU, else "aot_eager", which needs no compiler."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.compile(lambda x: x.sin() + 1, fullgraph=True)(torch.ones(3))
        except Exception:
            return "aot_eager"
    return "inductor"


def compiled(subject: Subject) -> None:
    """torch.compile(fullgraph=True) gives the outputs and gradients of eager mode."""
    module = subject.trained()
    backend = working_backend() if subject.compiler == "auto" else subject.compiler
    torch._dynamo.reset()  # or a limit of recompilations that is per class would count earlier instances
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call = torch.compile(module, fullgraph=True, dynamic=False, backend=backend)
        for training in (False, True):
            wanted = _gradients(module, module, subject.inputs()) if training else module(*subject.inputs())
            with torch.set_grad_enabled(training):
                got = _gradients(call, module, subject.inputs()) if training else call(*subject.inputs())
            what = "gradients" if training else "outputs"
            expect_close(got, wanted, f"{what} compiled ({backend}) and in eager mode")


def _gradients(call: Any, module: torch.nn.Module, inputs: Inputs) -> list[Tensor]:
    leaves = [v.requires_grad_() for v in inputs if isinstance(v, Tensor) and v.is_floating_point()]
    leaves += [p for p in module.parameters() if p.requires_grad]
    total = torch.stack([t.square().mean() for t in outputs(call(*inputs))]).sum()
    found = torch.autograd.grad(total, leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, leaves, strict=True)]


def exported(subject: Subject) -> None:
    """torch.export gives a program with the outputs of eager mode."""
    module = subject.trained()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, subject.inputs()).module()
    expect_close(program(*subject.inputs()), module(*subject.inputs()), "outputs exported and in eager mode")
