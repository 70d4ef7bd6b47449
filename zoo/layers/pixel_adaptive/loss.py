"""The loss by which the light networks and the classifier learn."""

from jaxtyping import Float
from torch import Tensor


def pcsr_loss(
    pred: Float[Tensor, "*image"],
    prob: Float[Tensor, "*any classes"] | None,
    target: Float[Tensor, "*image"],
    w_rgb: float | int = 1000,
    w_avg: float | int = 3,
) -> Float[Tensor, ""]:
    """w_rgb |pred - target|_1 + w_avg M/2 sum_j |mean p_j - 1/M|: closeness, and as many pixels for every class.

    The second part is `average_loss`. Without probabilities, as where the backbone and the heavy network learn alone,
    it is |pred - target|_1, with no weight.

    Args:
        pred, target: values of pixels.
        prob: probabilities of the M classes of these pixels.
        w_rgb, w_avg: weights of the two parts.
    """
    closeness = (pred - target).abs().mean()
    return closeness if prob is None else w_rgb * closeness + w_avg * average_loss(prob)


def average_loss(prob: Float[Tensor, "*any classes"]) -> Float[Tensor, ""]:
    """M/2 sum_j |mean p_j - 1/M|; of two classes, how far the heavy one's mean is from 1/2, in parts of it."""
    classes = prob.shape[-1]
    return (prob.flatten(0, -2).mean(0) - 1 / classes).abs().sum() * (classes / 2)
