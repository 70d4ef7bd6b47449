"""Checks of gradients, and of learning from a reference."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.testing.subject import Subject, disturb, expect, expect_equal, outputs


def gradient(subject: Subject) -> None:
    """In training, a gradient reaches every parameter and the input; none is zero throughout, all are finite."""
    module = subject.build().train()
    disturb(module)
    inputs = [v.requires_grad_() if isinstance(v, Tensor) and v.is_floating_point() else v for v in subject.inputs()]
    torch.stack([(t * torch.randn_like(t)).sum() for t in outputs(module(*inputs))]).sum().backward()
    leaves = {name: p for name, p in module.named_parameters() if p.requires_grad}
    leaves |= {f"input {i}": v for i, v in enumerate(inputs) if isinstance(v, Tensor) and v.requires_grad}
    none = [name for name, leaf in leaves.items() if leaf.grad is None or not bool(leaf.grad.any())]
    expect(not none, f"no gradient reaches {', '.join(none)}")
    wild = [name for name, leaf in leaves.items() if leaf.grad is not None and not bool(leaf.grad.isfinite().all())]
    expect(not wild, f"the gradient is not finite at {', '.join(wild)}")


def gradcheck(subject: Subject) -> None:
    """In float64 the gradient is that of finite differences, at the input and at every parameter."""
    module = subject.trained(torch.float64)
    learned = {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters() if p.requires_grad}
    inputs = subject.inputs(batch=2, dtype=torch.float64)
    floats = [i for i, v in enumerate(inputs) if isinstance(v, Tensor) and v.is_floating_point()]

    def run(*values: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(floats, values, strict=False))
        arguments = tuple(given.get(i, v) for i, v in enumerate(inputs))
        state = dict(zip(learned, values[len(floats) :], strict=True))
        found = outputs(torch.func.functional_call(module, state, arguments))
        return tuple(t for t in found if t.is_floating_point())

    start = (*(inputs[i].clone().requires_grad_() for i in floats), *learned.values())
    torch.autograd.gradcheck(run, start, fast_mode=True)


def imitate(subject: Subject) -> str | None:
    """It answers True or False; False changes nothing, True brings the outputs nearer, and twice is as once."""
    module = subject.trained()
    if not hasattr(module, "imitate"):
        return "does not apply: there is no imitate()"
    reference, inputs = _reference(subject)
    before = _copies(module)
    with torch.no_grad():
        answer = module.imitate(reference, inputs)
        expect(isinstance(answer, bool), f"expected True or False, got {answer!r}")
        after = _copies(module)
        _expect_same_leaves(module, before)
        if not answer:
            changed = [name for name, value in after.items() if not torch.equal(value, before[name])]
            expect(not changed, f"expected no change with the answer False, got other values of {', '.join(changed)}")
            return None
        again = subject.build().eval()
        again.load_state_dict(before)
        again.imitate(reference, inputs)
        expect_equal(list(_copies(again).values()), list(after.values()), "parameters after imitating twice")
        fresh = subject.build().eval()
        fresh.load_state_dict(before)
        wanted, x = reference(inputs), _as_called(subject, inputs)
        start, end = (float((m(x).reshape(wanted.shape) - wanted).square().mean()) for m in (fresh, module))
        expect(
            end <= start, f"expected outputs nearer to the reference, got a mean square of {end:.3g} after {start:.3g}"
        )
    return None


def _copies(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _expect_same_leaves(module: nn.Module, before: dict[str, Tensor]) -> None:
    state = module.state_dict()
    expect(list(state) == list(before), "expected the same state dict names after imitate()")
    other = [name for name, value in state.items() if (value.dtype, value.shape) != _form(before[name])]
    expect(not other, f"expected dtypes and shapes as they were, got others of {', '.join(other)}")
    frozen = [name for name, p in module.named_parameters() if not p.is_leaf or p.grad is not None]
    expect(not frozen, f"expected no trace of a gradient, got one at {', '.join(frozen)}")


def _form(value: Tensor) -> tuple[torch.dtype, torch.Size]:
    return value.dtype, value.shape


def _reference(subject: Subject) -> tuple[nn.Module, Tensor]:
    """A plain layer of the same sizes, and rows for it as the contract has them."""
    from zoo.layers.plain import Attention, AveragePool, Linear, Mlp

    sizes = subject.sizes
    generator = torch.Generator().manual_seed(2)
    if subject.kind == "mixer":
        tokens = sizes["height"] * sizes["width"] if subject.layout == "NHWC" else sizes["tokens"]
        reference, shape = Attention(sizes["dim"], sizes["num_heads"]), (4, tokens, sizes["dim"])
    elif subject.kind == "pool":
        reference, shape = AveragePool(sizes["dim"]), (32, sizes["tokens"], sizes["dim"])
    elif subject.kind == "mlp":
        reference, shape = Mlp(sizes["in_features"]), (256, sizes["in_features"])
    else:
        reference, shape = Linear(sizes["in_features"], sizes["out_features"]), (256, sizes["in_features"])
    return reference.eval(), torch.randn(*shape, generator=generator)


def _as_called(subject: Subject, inputs: Tensor) -> Tensor:
    """The rows in the layout of the module."""
    if subject.layout == "NHWC":
        return inputs.unflatten(1, (subject.sizes["height"], subject.sizes["width"]))
    return inputs[:, :, None, None] if subject.layout == "NCHW" else inputs
