"""PCSR as the authors run it: what the fast form is held equal to and measured against."""

from jaxtyping import Float, UInt8
from torch import Tensor

from zoo.layers.pixel_adaptive import reference
from zoo.layers.pixel_adaptive.coordinates import output_size
from zoo.models.super_resolution.backbone import features_of
from zoo.models.super_resolution.pcsr import PCSR


def enlarge(
    model: PCSR,
    x: Float[Tensor, "batch in_chans height width"],
    scale: float | int = 4,
    *,
    k: float | int = 0.0,
    adm: bool = False,
    refine: bool = True,
    pixel_batch_size: int = reference.CHUNK,
) -> tuple[Float[Tensor, "batch in_chans new_height new_width"], UInt8[Tensor, "batch new_height new_width"]]:
    """The enlarged images and their class maps, pixel by pixel.

    Args:
        model: in evaluation.
        x: images in [0, 1].
        scale: how much larger.
        k: exponent of the costs.
        adm: decide by clusters of the hardness of the whole batch instead.
        refine: give pixels beside one of a heavier class the mean around them.
        pixel_batch_size: pixels computed at a time.
    """
    size = output_size((x.shape[2], x.shape[3]), scale)
    normal = model.normalisation(x)
    features = features_of(model.encoder, normal)
    chances = reference.probabilities(model, features, size, pixel_batch_size)
    classes = reference.classes_of(chances, model.costs(scale), k, adm=adm)
    del chances
    values = reference.values_of(model, features, normal, classes, size, pixel_batch_size)
    if refine:
        values = reference.refined(values, classes, size)
    image = model.normalisation.undo(values.mT.unflatten(2, size))
    return image, classes.unflatten(1, size)
