"""What the authors of stitched networks measured of their own checkpoints: accuracies by stitch, a JSON file each.

{"source": ..., "data": ..., "anchors": [names], "stitch_norm": ..., "stitches": [[anchors, stage, cuts, top1], ...]}
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

_CLASSES = 1000


def published_top1(net: Any) -> dict[int, float]:
    """Top-1 accuracies on ImageNet-1k, in percent, of the published checkpoint of such a network.

    They are true of the authors' weights alone: of a network with these anchors, cuts and norms, and any other
    weights, they say nothing.

    Args:
        net: a `StitchNet`.

    Returns:
        by number of stitch, without those that were not evaluated.

    Raises:
        ValueError: none was published of such a network, or it has other classes.
    """
    if net.num_classes != _CLASSES:
        raise ValueError(
            f"top1='published' is of the {_CLASSES} classes of ImageNet-1k, this network has {net.num_classes}"
        )
    names = [name.partition(".")[0] for name in net.anchor_names]
    rows = [[list(c.anchors), c.stage, [list(cut) for cut in c.cuts]] for c in net._configs]
    tables = [_read(file.name) for file in sorted(files(__name__).iterdir(), key=str) if file.name.endswith(".json")]
    for table in tables:
        of_this = (names, net.stitch_norm) == (table["anchors"], table["stitch_norm"])
        if of_this and rows == [row[:3] for row in table["stitches"]]:
            return {number: row[3] for number, row in enumerate(table["stitches"]) if row[3] is not None}
    known = "; ".join(", ".join(table["anchors"]) for table in tables)
    raise ValueError(
        f"top1='published' is for networks with a published checkpoint, and none is of {', '.join(names)} stitched so; "
        f"there are {known}, by the rules of the registered models"
    )


@cache
def _read(name: str) -> dict[str, Any]:
    return json.loads(files(__name__).joinpath(name).read_text("utf-8"))
