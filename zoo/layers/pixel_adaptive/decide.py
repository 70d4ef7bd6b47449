"""Which of several networks, from light to heavy, computes a pixel: decided on the classifier's scores.

    argmax   class = argmax_j (score_j - k ln cost_j), which is argmax_j p_j / cost_j^k; ties go to the lighter one
    adm      adaptive decision making: the hardness d = sum_j j p_j / (M - 1), from 0 to 1 over the image, is split by
             k-means into as many groups as there are classes
    target   the argmax with the smallest k whose cost is within a budget; what is left of it goes to pixels that tie

"Accelerating Image Super-Resolution Networks with Pixel-Level Classification", Jeong et al., ECCV 2024,
arXiv:2407.21448, has the first two, the second for two classes. More of them, and `target`, are ours.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

#: As the authors have it: fast_pytorch_kmeans with 20 iterations, of which the first only places the centres.
_ITERATIONS = 19
_TOLERANCE = 1e-4
#: Values that are summed at a time, so that what is masked takes no memory to speak of.
_AT_A_TIME = 2**20
#: Halvings of the interval in which k is sought: to the last bit of float64.
_HALVINGS = 80

Scores = Float[Tensor, "batch classes height width"]
Classes = UInt8[Tensor, "batch height width"]


def argmax_classes(scores: Scores, costs: Sequence[float] | None = None, k: float | int = 0.0) -> Classes:
    """The class of the highest score less k times the logarithm of its cost.

    Args:
        scores: logits of the classes, from light to heavy.
        costs: of a pixel of each class; not needed with k = 0.
        k: with a larger one fewer pixels are heavy.
    """
    if k and costs is not None:
        scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
        planes = [plane - k * math.log(cost) for plane, cost in zip(scores.unbind(1), costs, strict=True)]
    else:
        planes = scores.unbind(1)
    best, classes = planes[0], torch.zeros_like(planes[0], dtype=torch.uint8)
    for place, plane in enumerate(planes[1:], 1):  # far faster than argmax over an outer axis
        classes = torch.where(plane > best, place, classes)
        best = torch.maximum(best, plane)
    return classes


def hardness(scores: Scores) -> Float[Tensor, "batch height width"]:
    """The expected class, from 0 to 1: with two classes, the probability of the heavy one."""
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if scores.shape[1] == 2:
        return (scores[:, 1] - scores[:, 0]).sigmoid()
    return expected_class(scores.softmax(1), 1)


def expected_class(chances: Float[Tensor, "*any"], axis: int) -> Float[Tensor, "*rest"]:
    """sum_j j p_j / (M - 1) of the chances p of M classes along an axis."""
    classes = chances.shape[axis]
    parts = (chances.select(axis, place) * (place / (classes - 1)) for place in range(1, classes))
    return sum(parts)  # pyright: ignore[reportReturnType]


def adm_classes(hardness: Float[Tensor, "batch height width"], classes: int = 2, *, per_image: bool = True) -> Classes:
    """Adaptive decision making: pixels of similar hardness are of one class.

    Args:
        hardness: of every pixel, as `hardness` gives it.
        classes: into how many groups.
        per_image: split each image by itself; False for all pixels of the batch together, as the authors do.

    Returns:
        The group of every pixel, from 0 for the least hardness. All pixels are of class 0 where all are as hard.
    """
    parts = hardness if per_image else hardness[None]
    found = [_grouped(part, classes) for part in parts]
    return torch.stack(found).reshape(hardness.shape) if len(found) else hardness.to(torch.uint8)


def _grouped(hardness: Tensor, classes: int) -> Tensor:
    if not hardness.numel():
        return hardness.to(torch.uint8)
    least, most = hardness.aminmax()
    if least == most:
        return torch.zeros_like(hardness, dtype=torch.uint8)
    normal = (hardness - least).div_(most - least)
    beyond = ((normal >= threshold).to(torch.uint8) for threshold in adm_thresholds(normal, classes))
    return sum(beyond)  # pyright: ignore[reportReturnType]


def adm_thresholds(normal: Float[Tensor, "*any"], classes: int = 2) -> list[float]:
    """Where k-means separates values from 0 to 1, from the thresholds of the iteration that it stops in.

    The centres begin at 0 and, with two classes, at the mean, as the authors' do; with more they are evenly spaced
    around it.

    Args:
        normal: values of which 0 is the least and 1 the largest.
        classes: groups.
    """
    count, total = normal.numel(), float(normal.sum(dtype=torch.float64))
    centres = [2 * total / count * place / classes for place in range(classes)]
    thresholds: list[float] = []
    for _ in range(_ITERATIONS):
        thresholds = sorted((a + b) / 2 for a, b in itertools.pairwise(centres))
        counts, sums = zip((count, total), *_beyond(normal, thresholds), (0, 0.0), strict=True)
        means = [
            (sums[place] - sums[place + 1]) / max(counts[place] - counts[place + 1], 1) for place in range(classes)
        ]
        error = sum((new - old) ** 2 for new, old in zip(means, centres, strict=True))
        centres = means
        if error <= _TOLERANCE:
            break
    return thresholds


def _beyond(values: Tensor, thresholds: Sequence[float]) -> list[tuple[float, float]]:
    """How many values each threshold has at or above it, and their sum: waited for once."""
    pieces = values.flatten().split(_AT_A_TIME)
    found = []
    for threshold in thresholds:
        above = [piece >= threshold for piece in pieces]
        found.append(torch.stack([mask.sum(dtype=torch.float64) for mask in above]).sum())
        sums = [(piece * mask).sum(dtype=torch.float64) for piece, mask in zip(pieces, above, strict=True)]
        found.append(torch.stack(sums).sum())
    numbers = torch.stack(found).tolist()
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def target_classes(
    scores: Scores, costs: Sequence[float], prices: Sequence[float | int], budget: float | int
) -> Classes:
    """Classes of every image such that the mean price of its pixels is within a budget, and nearly all of it.

    Pixels go to a lighter class in the order in which `argmax_classes` moves them there with growing k. The mean price
    is at most the budget and misses it by less than one step of one pixel.

    Args:
        scores: logits of the classes, from light to heavy.
        costs: of a pixel of each class, as in `argmax_classes`.
        prices: what a pixel of each class takes of the budget, ascending.
        budget: mean price of a pixel, between the lowest and the highest.
    """
    if len(prices) == 2:
        found = [heaviest_of_two(image[1] - image[0], prices, budget) for image in scores]
    else:
        found = [_within(image, costs, prices, budget) for image in scores.double()]
    return torch.stack(found) if found else argmax_classes(scores)


def heaviest_of_two(
    margin: Float[Tensor, "height width"], prices: Sequence[float | int], budget: float | int
) -> UInt8[Tensor, "height width"]:
    """`target_classes` of two: as many of the pixels with the largest margins are heavy as there is budget for.

    Args:
        margin: score of the heavy class less that of the light one.
        prices: of a light and a heavy pixel.
        budget: mean price of a pixel.
    """
    count, (light, heavy) = margin.numel(), prices
    # The last digit of the budget is not to cost a pixel.
    affordable = math.floor(count * (budget - light) / (heavy - light) + 1e-9)
    if not 0 < affordable < count:
        return torch.full_like(margin, affordable >= count, dtype=torch.uint8)
    flat = margin.flatten()
    least = flat.kthvalue(count - affordable + 1).values
    chosen, tied = flat > least, flat == least
    chosen |= tied & (tied.cumsum(0) <= affordable - chosen.sum())
    return chosen.to(torch.uint8).view_as(margin)


def _within(
    scores: Float[Tensor, "classes height width"],
    costs: Sequence[float],
    prices: Sequence[float | int],
    budget: float | int,
) -> Tensor:
    price = torch.tensor(prices, dtype=torch.float64, device=scores.device)
    allowed = float(budget) * scores[0].numel() + 1e-9 * float(price[-1])

    def classes_at(k: float) -> Tensor:
        return argmax_classes(scores[None], costs, k)[0]

    def total(classes: Tensor) -> float:
        return float(price[classes.long()].sum())

    steps = [math.log(heavy / light) for light, heavy in itertools.pairwise(costs)]
    bound = 2 * (float(scores.max() - scores.min()) + 1) / min(steps)
    low, high = -bound, bound  # all heavy, all light
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if total(classes_at(middle)) <= allowed:
            high = middle
        else:
            low = middle
    heavier, lighter = classes_at(low).flatten(), classes_at(high).flatten()
    if total(heavier) <= allowed:
        return heavier.reshape(scores.shape[1:])
    more = price[heavier.long()] - price[lighter.long()]
    affordable = more.cumsum(0) <= allowed - total(lighter)
    return torch.where(affordable, heavier, lighter).reshape(scores.shape[1:])
