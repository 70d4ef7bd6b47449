"""The authors' algorithm, written plainly: what the fast one is held equal to and measured against.

Every pixel is a query: its features, relative coordinates and cell are gathered one by one, in chunks. The classifier
runs on all of them and gives probabilities; then, chunk by chunk, each class gathers its own pixels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from zoo.layers.pixel_adaptive.coordinates import Size, make_coords
from zoo.layers.pixel_adaptive.decide import adm_classes, expected_class
from zoo.layers.pixel_adaptive.heads import PixelHeads

#: Pixels computed at a time.
CHUNK = 300_000


def bilinear_at(
    image: Float[Tensor, "batch chans height width"], coord: Float[Tensor, "batch queries 2"]
) -> Float[Tensor, "batch queries chans"]:
    """The image at places (y, x), bilinear between its pixels; beyond the outermost ones, theirs."""
    wide = image.to(torch.promote_types(image.dtype, torch.float32))  # places have no room in 16 bits
    grid = coord.flip(-1).unsqueeze(1).to(wide)
    found = F.grid_sample(wide, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return found.squeeze(2).mT.to(image)


def probabilities(
    heads: PixelHeads, features: Float[Tensor, "batch chans height width"], size: Size, chunk: int = CHUNK
) -> Float[Tensor, "batch pixels classes"]:
    """The probability of every class at every pixel of the enlarged image."""
    parts = []
    for coord, cell in _chunks(features, size, chunk):
        parts.append(heads.classifier(features, coord, cell).softmax(-1))
    return torch.cat(parts, 1)


def classes_of(
    chances: Float[Tensor, "batch pixels classes"], costs: Sequence[float], k: float | int = 0.0, *, adm: bool = False
) -> UInt8[Tensor, "batch pixels"]:
    """The class of every pixel: argmax of p / cost^k, or by `adm_classes` over the whole batch."""
    if adm:
        spread = expected_class(chances, 2).unsqueeze(1)
        return adm_classes(spread, chances.shape[2], per_image=False).squeeze(1)
    return (chances / torch.tensor(costs, dtype=chances.dtype, device=chances.device) ** k).argmax(-1).to(torch.uint8)


def values_of(
    heads: PixelHeads,
    features: Float[Tensor, "batch chans height width"],
    image: Float[Tensor, "batch out_chans height width"],
    classes: UInt8[Tensor, "batch pixels"],
    size: Size,
    chunk: int = CHUNK,
) -> Float[Tensor, "batch pixels out_chans"]:
    """Every pixel by the network of its class, with the bilinearly enlarged image added."""
    parts, begin = [], 0
    for coord, cell in _chunks(features, size, chunk):
        chosen = classes[:, begin : begin + coord.shape[1]]
        begin += coord.shape[1]
        values = bilinear_at(image, coord)
        for place, network in enumerate(heads.upsamplers):
            for row in range(len(features)):
                own = (chosen[row] == place).nonzero().squeeze(1)
                if len(own):
                    found = network(features[row : row + 1], coord[row : row + 1, own], cell[row : row + 1, own])
                    values[row, own] += found[0].to(values)
        parts.append(values)
    return torch.cat(parts, 1)


def refined(
    values: Float[Tensor, "batch pixels chans"], classes: UInt8[Tensor, "batch pixels"], size: Size
) -> Float[Tensor, "batch pixels chans"]:
    """`refine.refined`, from copies of all neighbourhoods."""
    if min(size) < 3:
        return values
    inside = (size[0] - 2, size[1] - 2)
    around = F.unfold(values.mT.unflatten(2, size), 3).unflatten(1, (-1, 9))
    of_them = F.unfold(classes.to(values).unflatten(1, size).unsqueeze(1), 3)
    marked = (of_them.amax(1) > of_them[:, 4]).unflatten(1, inside)
    result = values.mT.unflatten(2, size).clone()
    middle = result[:, :, 1:-1, 1:-1]
    middle.copy_(torch.where(marked.unsqueeze(1), around.mean(2).unflatten(2, inside), middle))
    return result.flatten(2).mT


def _chunks(features: Tensor, size: Size, chunk: int) -> list[tuple[Tensor, Tensor]]:
    """Coordinates and cells, as many of them that those of the batch are within the chunk."""
    batch = len(features)
    coord = make_coords(*size, features.device).expand(batch, -1, 2)
    cell = torch.tensor([2 / size[0], 2 / size[1]], device=features.device).expand_as(coord)
    step = max(chunk // max(batch, 1), 1)
    return list(zip(coord.split(step, 1), cell.split(step, 1), strict=True))
