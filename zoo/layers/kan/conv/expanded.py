"""The parts that every convolution over expanded channels has."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.layers.kan.options import check_choice, check_count

Size = int | tuple[int, int]


class InstanceNorm2d(nn.InstanceNorm2d):
    """As PyTorch's without running statistics, computed as a group norm with a channel a group.

    That takes a third of the time, and batches of 0 images. It also is right: the gradient of PyTorch 2.14's instance
    norm is wrong for one image where it comes back in another memory format, channels last say.
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_features, self.weight, self.bias, self.eps)


_NORMS: dict[str, type[nn.Module]] = {"instance": InstanceNorm2d, "batch": nn.BatchNorm2d}


class ExpandedConv2d(nn.Module):
    """A convolution of the activated input, `base_conv`, and one of what the input is expanded in, `basis_conv`.

    The columns of `basis_conv` are, within each group, function after function: (function, channel).

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups: as of `nn.Conv2d`. Padding is 0 in
            the expanded maps, not the functions' values at 0.
        basis_channels: what `basis_conv` takes and gives.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        *,
        basis_channels: tuple[int, int],
        stride: Size,
        padding: Size,
        dilation: Size,
        groups: int,
        **dd: Any,
    ) -> None:
        super().__init__()
        self.in_channels = check_count("in_channels", in_channels)
        self.out_channels = check_count("out_channels", out_channels)
        self.groups = check_count("groups", groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"groups = {groups} must divide in_channels = {in_channels} and {out_channels = }")
        shared: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        self.base_conv = nn.Conv2d(in_channels, out_channels, kernel_size, **shared, bias=False, **dd)
        self.basis_conv = nn.Conv2d(*basis_channels, kernel_size, **shared, bias=False, **dd)

    def reset_parameters(self) -> None:
        """Kernels drawn to keep the size of their inputs; every other part as its constructor had it."""
        for part in self.children():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_uniform_(part.weight, nonlinearity="linear")
            elif hasattr(part, "reset_parameters"):
                part.reset_parameters()  # pyright: ignore[reportCallIssue]

    def _geometry(self) -> dict[str, Any]:
        conv = self.basis_conv
        return {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation, "groups": conv.groups}

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, parameters={sum(p.numel() for p in self.parameters()):,}"


def made_norm(argument: str, norm: str | nn.Module | None, channels: int, affine: bool, **dd: Any) -> nn.Module | None:
    """The norm of a name over so many channels; a module or None as it is.

    Raises:
        ValueError: an unknown name.
        TypeError: neither a name, a module nor None.
    """
    if norm is None or isinstance(norm, nn.Module):
        return norm
    if not isinstance(norm, str):
        raise TypeError(f"{argument} must be a name, a module or None, got {norm!r}")
    return _NORMS[check_choice(argument, norm, _NORMS)](channels, affine=affine, **dd)


@torch.no_grad()
def fold_batch_norm(norm: nn.Module | None, convs: tuple[nn.Conv2d, ...]) -> nn.Module | None:
    """Fold a batch norm into the convolutions whose sum it takes, as in evaluation; what is left of it, if anything.

    Its shift becomes the bias of the first. Another norm is given back as it is.
    """
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
        return norm
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift: Tensor = -norm.running_mean * scale if norm.bias is None else norm.bias - norm.running_mean * scale
    for conv in convs:
        conv.weight.mul_(scale.view(-1, 1, 1, 1))
    convs[0].bias = nn.Parameter(shift)
    return None
