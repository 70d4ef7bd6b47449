"""Whether a post-selection ever succeeds, as far as the precision at hand can tell."""

import torch
from torch import Tensor

from zoo.errors import PostSelectionError
from zoo.quantum.qtn.scan import Rescaler

#: Of amplitudes, in steps of their precision: nothing but rounding is left of a box that leaves less.
_ROUNDING = 8


def check_success(total: Tensor, rescale: Rescaler, others: str) -> None:
    """Refuse samples of which rounding alone is left.

    Args:
        total: (B,) probabilities of the outcomes, of amplitudes over all that `rescale` has divided by.
        rescale: which has divided after every box.
        others: what helps, as an end of the message.

    Raises:
        PostSelectionError: naming the first, and its probability.
    """
    if torch.compiler.is_compiling() or total.is_meta or torch._C._are_functorch_transforms_active():
        return
    total = total.detach()
    least = (_ROUNDING * torch.finfo(total.dtype).eps) ** 2
    if not len(total) or bool(torch.minimum(total.amin(), rescale.least.square()) >= least):
        return
    chances = torch.minimum(total, rescale.lowest.square())
    lost = chances < least
    if bool(lost.any()):
        k = int(lost.nonzero()[0])
        raise PostSelectionError(
            f"sample {k} is never post-selected: at one of its boxes the probability is {float(chances[k]):.3g}, "
            f"below {least:.1g}, and so rounding. Its words, as they are prepared, exclude one another; {others}"
        )
