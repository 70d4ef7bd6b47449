"""Modules that break one promise each: (check, kind, class, further checks that must fail with it)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.testing.sound import Act, Attention, Head, MixerOfMaps, Mlp, Pool, Stitch, Upsampler


class UnknownLayout(Attention):
    layout = "NWC"


class MoreThanSizes(Head):
    def __init__(self, in_features, out_features, temperature, *, bias=True, device=None, dtype=None):
        super().__init__(in_features, out_features, bias=bias, device=device, dtype=dtype)


class Crashing(Head):
    def forward(self, x):
        raise RuntimeError("not today")


class NotFinite(Head):
    def forward(self, x):
        return super().forward(x) / 0.0


class WiderThanItSays(Pool):
    feat_mult = 1


class SeesTheBatch(Pool):
    def forward(self, x):
        return super().forward(x - 0.1 * x.mean(dim=(0, 1)))


class LeaksFloat32(Head):
    def forward(self, x):
        return super().forward(x).float() if x.dtype == torch.bfloat16 else super().forward(x)


class StaysFloat32(Head):
    def __init__(self, in_features, out_features, *, bias=True, device=None, dtype=None):
        super().__init__(in_features, out_features, bias=bias, device=device)
        if dtype == torch.bfloat16:
            return
        self.to(dtype)


class BufferOnTheCpu(Head):
    def __init__(self, in_features, out_features, *, bias=True, device=None, dtype=None):
        super().__init__(in_features, out_features, bias=bias, device=device, dtype=dtype)
        self.register_buffer("order", torch.arange(in_features).flip(0))

    def reset_parameters(self):
        super().reset_parameters()
        if hasattr(self, "order"):
            self.order.copy_(torch.arange(self.in_features).flip(0))

    def forward(self, x):
        return super().forward(x[..., self.order])


class SwallowsKeywords(Head):
    def __init__(self, in_features, out_features, *, bias=True, device=None, dtype=None, **kwargs):
        super().__init__(in_features, out_features, bias=bias, device=device, dtype=dtype)


class RefusesWithTheWrongError(Head):
    def __init__(self, in_features, out_features, *, bias=True, device=None, dtype=None, **kwargs):
        super().__init__(in_features, out_features, bias=bias, device=device, dtype=dtype)
        if kwargs:
            raise KeyError(next(iter(kwargs)))


class NoReset(nn.Module):
    def __init__(self, in_features, out_features, *, bias=True, device=None, dtype=None):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.proj = nn.Linear(in_features, out_features, bias, device=device, dtype=dtype)

    def forward(self, x):
        return self.proj(x)


class ForgetsTheBias(Head):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def reset_parameters(self):
        nn.init.normal_(self.weight)


class DrawsFromElsewhere(Head):
    def reset_parameters(self):
        if self.weight.is_meta:
            return
        generator = torch.Generator()
        generator.seed()
        with torch.no_grad():
            self.weight.normal_(generator=generator)
            if self.bias is not None:
                self.bias.zero_()


class LosesItsTable(Head):
    """A tensor that is neither parameter nor buffer stays on the meta device."""

    def __init__(self, in_features, out_features, *, bias=True, device=None, dtype=None):
        super().__init__(in_features, out_features, bias=bias, device=device, dtype=dtype)
        self.order = torch.arange(in_features, device=device).flip(0)

    def forward(self, x):
        return super().forward(x[..., self.order])


class DeadParameter(Head):
    def __init__(self, in_features, out_features, *, bias=True, device=None, dtype=None):
        super().__init__(in_features, out_features, bias=bias, device=device, dtype=dtype)
        self.scale = nn.Parameter(torch.ones(in_features, device=device, dtype=dtype))

    def reset_parameters(self):
        super().reset_parameters()
        if hasattr(self, "scale"):
            nn.init.ones_(self.scale)


class WrongGradient(Head):
    def forward(self, x):
        y = super().forward(x)
        return y + 0.5 * y.detach()


class StateOutsideTheState(Head):
    def reset_parameters(self):
        super().reset_parameters()
        self.shift = float(torch.rand(()))

    def forward(self, x):
        return super().forward(x) + self.shift


class SharesItsCopies(Head):
    def __deepcopy__(self, memo):
        return self


class HoldsALambda(Head):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.twice = lambda x: 2 * x

    def forward(self, x):
        return self.twice(super().forward(x))


class NeedsARow(Head):
    def forward(self, x):
        if x.shape[0] == 0:
            raise IndexError("no rows")
        return super().forward(x)


class LosesTheBatchAxis(Head):
    def forward(self, x):
        y = super().forward(x)
        return y[0] if y.ndim == 2 and y.shape[0] == 1 else y


class ReadsMemory(Pool):
    def forward(self, x):
        _, tokens, dim = x.shape
        return super().forward(x.as_strided(x.shape, (tokens * dim, dim, 1)))


class WritesIntoItsInput(Head):
    def forward(self, x):
        y = super().forward(x)
        if not torch.is_grad_enabled():
            x.zero_()
        return y


class BreaksTheGraph(Head):
    def forward(self, x):
        torch._dynamo.graph_break()
        return super().forward(x)


class ExportsSomethingElse(Head):
    def forward(self, x):
        y = super().forward(x)
        return 2 * y if torch.compiler.is_exporting() else y


class MisnamesItsSizes(Head):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.in_features = None


class SqueezesOneOutput(Head):
    def forward(self, x):
        return super().forward(x).squeeze(-1) if self.out_features == 1 else super().forward(x)


class RowsOnly(Head):
    def forward(self, x):
        if x.ndim != 2:
            raise ValueError("expected rows")
        return super().forward(x)


class NoBias(Head):
    def __init__(self, in_features, out_features, *, device=None, dtype=None):
        super().__init__(in_features, out_features, device=device, dtype=dtype)


class IgnoresTheWidth(Mlp):
    def __init__(self, in_features, hidden_features=None, out_features=None, **kwargs):
        super().__init__(in_features, hidden_features, None, **kwargs)


class IgnoresTheMask(MixerOfMaps):
    def forward(self, x, attn_mask=None):
        return super().forward(x)


class LeaksThroughTheMask(Attention):
    layout = "NLC"

    def forward(self, x, attn_mask=None, rope=None):
        return super().forward(x, attn_mask, rope) + 0.1 * x.mean(1, keepdim=True)


class IgnoresTheRope(Attention):
    def forward(self, x, attn_mask=None, rope=None):
        return super().forward(x, attn_mask)


class LosesPrefixTokens(MixerOfMaps):
    def mix_prefix(self, prefix: Tensor, map: Tensor) -> Tensor:
        return super().mix_prefix(prefix, map)[:, :1]


class SeesTheOrder(Pool):
    def forward(self, x):
        return super().forward(x * torch.arange(1, x.shape[1] + 1, dtype=x.dtype)[:, None])


class LooksAround(Act):
    def forward(self, x):
        return super().forward(x) * x.softmax(-1)


class AlwaysTwice(Upsampler):
    def forward(self, x):
        return self.conv(x).repeat_interleave(2, -1).repeat_interleave(2, -2)


class ChangesAndDenies(Head):
    def imitate(self, reference, inputs):
        self.weight.copy_(reference.weight)
        return False


class ClaimsToImitate(Head):
    def imitate(self, reference, inputs):
        self.weight.mul_(10.0)
        return True


class ImitatesByChance(Head):
    def imitate(self, reference, inputs):
        self.weight.copy_(reference.weight + 1e-3 * torch.randn_like(self.weight))
        return True


class KeepsTheWidth(Stitch):
    def __init__(self, in_dim, out_dim, *, device=None, dtype=None):
        super().__init__(in_dim, in_dim, device=device, dtype=dtype)
        self.out_dim = out_dim


class ForgetsItsWidths(Stitch):
    def __init__(self, in_dim, out_dim, *, device=None, dtype=None):
        super().__init__(in_dim, out_dim, device=device, dtype=dtype)
        del self.in_dim, self.out_dim


BROKEN = [
    ("layout", "mixer", UnknownLayout, "NWC"),
    ("builds", "head", MoreThanSizes, "temperature"),
    ("call", "head", Crashing, "RuntimeError: not today"),
    ("call", "head", NotFinite, "finite"),
    ("shape", "pool", WiderThanItSays, r"expected \(3, 8\), got \(3, 16\)"),
    ("batch_independence", "pool", SeesTheBatch, "outputs of a batch and of its rows"),
    ("dtype", "head", LeaksFloat32, "expected torch.bfloat16, got torch.float32"),
    ("dtype", "head", StaysFloat32, "built as torch.bfloat16, these parameters are not"),
    ("meta", "head", BufferOnTheCpu, "'order': 'cpu'"),
    ("unknown_keyword", "head", SwallowsKeywords, "got a module"),
    ("unknown_keyword", "head", RefusesWithTheWrongError, "expected a TypeError .* got KeyError"),
    ("reset_parameters", "head", NoReset, "parameters: proj.weight, proj.bias"),
    ("reset_parameters", "head", ForgetsTheBias, "not drawn: bias"),
    ("reset_parameters", "head", DrawsFromElsewhere, "other values: weight"),
    ("reset_parameters", "head", LosesItsTable, "meta"),
    ("gradient", "head", DeadParameter, "no gradient reaches scale"),
    ("gradcheck", "head", WrongGradient, "Jacobian"),
    ("state_dict", "head", StateOutsideTheState, "equal to the bit"),
    ("deepcopy", "head", SharesItsCopies, "when the copy has changed"),
    ("pickle", "head", HoldsALambda, "top of a module"),
    ("batch_of_zero", "head", NeedsARow, "IndexError: no rows"),
    ("batch_of_one", "head", LosesTheBatchAxis, r"expected \(1, 4\), got \(4,\)"),
    ("non_contiguous", "pool", ReadsMemory, "transposed"),
    ("input_kept", "head", WritesIntoItsInput, "changed"),
    ("compile", "head", BreaksTheGraph, "Unsupported"),
    ("export", "head", ExportsSomethingElse, "exported and in eager mode"),
    ("attributes", "head", MisnamesItsSizes, "in_features = 6, got None"),
    ("shape", "stitch", KeepsTheWidth, r"expected \(3, 5, 8\), got \(3, 5, 6\)"),
    ("attributes", "stitch", ForgetsItsWidths, "in_dim = 6, got None"),
    ("one_output", "head", SqueezesOneOutput, r"\(3, 1\), got \(3,\)"),
    ("leading_axes", "head", RowsOnly, "ValueError: expected rows"),
    ("keywords", "head", NoBias, "option 'bias'"),
    ("widths", "mlp", IgnoresTheWidth, "12, 11"),
    ("attn_mask", "mixer", IgnoresTheMask, "what the mask hides"),
    ("attn_mask", "mixer", LeaksThroughTheMask, "what the mask hides"),
    ("rope", "mixer", IgnoresTheRope, "expected the rotary embedding to matter"),
    ("prefix", "mixer", LosesPrefixTokens, r"expected \(3, 3, 16\), got \(3, 1, 16\)"),
    ("permutation", "pool", SeesTheOrder, "another order"),
    ("element_wise", "act", LooksAround, "one position"),
    ("scales", "upsampler", AlwaysTwice, "scale=4"),
    ("imitate", "head", ChangesAndDenies, "other values of weight"),
    ("imitate", "head", ClaimsToImitate, "nearer to the reference"),
    ("imitate", "head", ImitatesByChance, "imitating twice"),
]

#: Checks that cannot but fail too.
TOO = {
    LosesTheBatchAxis: {"batch_independence"},
}
