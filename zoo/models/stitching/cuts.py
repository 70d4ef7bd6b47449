"""Where a stage of one network may be joined to that of another: rules that know nothing but the numbers of blocks."""

from typing import NamedTuple


class Cut(NamedTuple):
    """Blocks 0..front of one network, a stitching layer, then blocks end.. of another.

    Attributes:
        front: the last block of the front network that runs.
        end: the first block of the end network that runs; its number of blocks if none does.
        layer: the stitching layer between them, shared by neighbouring cuts.
    """

    front: int
    end: int
    layer: int


def check_window(kernel_size: int, stride: int) -> None:
    """Refuse a window of blocks that is empty or stands still.

    Raises:
        ValueError: naming what was given.
    """
    for name, value in (("kernel_size", kernel_size), ("stride", stride)):
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")


def paired(depth: int, kernel_size: int = 2, stride: int = 1, forward: bool = False) -> tuple[Cut, ...]:
    """Cuts between stages of equal depth: a window slides over both, and its blocks are joined each with each.

    All that a window adds to those before it shares a stitching layer.

    Args:
        depth: blocks of either stage.
        kernel_size: blocks in the window.
        stride: blocks by which the window moves on.
        forward: keep the cuts that go on behind the front block, front < end. No path is longer than its networks then.

    Returns:
        in the order of the windows, front blocks before end blocks.

    Raises:
        ValueError: a size below 1.
    """
    _check_depths(depth)
    check_window(kernel_size, stride)
    cuts: list[Cut] = []
    seen: set[tuple[int, int]] = set()
    layer = 0
    for first in range(0, depth, stride):
        window = range(first, min(first + kernel_size, depth))
        new = [(j, k) for j in window for k in window if (j, k) not in seen and (j < k or not forward)]
        seen.update(new)
        cuts += [Cut(j, k, layer) for j, k in new]
        layer += bool(new)
    return tuple(cuts)


def front_of_end(front_depth: int, end_depth: int) -> tuple[int, ...]:
    """The front block that stands where each end block does, by nearest neighbours: floor(i * front / end)."""
    return tuple(i * front_depth // end_depth for i in range(end_depth))


def unpaired(front_depth: int, end_depth: int, legacy_layer_map: bool = False) -> tuple[Cut, ...]:
    """Cuts between stages of different depth: a front block is joined to the end blocks that stand where it does.

    Where the front stage is the deeper one, each end block but the first follows the last front block that stands
    where the end block before it does.

    Args:
        front_depth: blocks of the front stage.
        end_depth: blocks of the end stage.
        legacy_layer_map: of a deeper end stage, which layer a cut has goes by the cut's place in the list instead of
            by its front block. The published networks were trained so: the list has no cut (0, 0), and every cut after
            it is one off.

    Returns:
        front blocks before end blocks.

    Raises:
        ValueError: depths that are equal or below 1.
    """
    _check_depths(front_depth, end_depth)
    if front_depth == end_depth:
        raise ValueError(f"stages of equal depth are stitched by `paired`, got {front_depth} blocks twice")
    if front_depth > end_depth:
        return _from_deeper(front_depth, end_depth)
    fronts = front_of_end(front_depth, end_depth)
    places = [(j, i) for j in range(front_depth) for i in range(end_depth) if fronts[i] == j and j < i]
    layers = fronts if legacy_layer_map else [j for j, _ in places]
    return tuple(Cut(j, i, layer) for (j, i), layer in zip(places, layers, strict=False))


def two_way_cuts(small_depth: int, large_depth: int) -> tuple[tuple[Cut, ...], tuple[Cut, ...]]:
    """Cuts from a small network to a large one, and back.

    Forth, each small block is followed by the first large block that stands where the next small block does; behind the
    last there is none, and that cut leaves no block of the large network but its head. Back, see `unpaired`.

    Args:
        small_depth: blocks of the small network.
        large_depth: blocks of the large network, not fewer.

    Raises:
        ValueError: depths that fall or are below 1.
    """
    _check_depths(small_depth, large_depth)
    if small_depth > large_depth:
        raise ValueError(
            f"two-way stitching goes from the network with fewer blocks and back, got {small_depth} blocks, then "
            f"{large_depth}"
        )
    # The first k with floor(k * small / large) == i + 1 is the quotient below, rounded up.
    forth = tuple(Cut(i, -(-(i + 1) * large_depth // small_depth), i) for i in range(small_depth))
    return forth, _from_deeper(large_depth, small_depth)


def count_layers(cuts: tuple[Cut, ...], front_depth: int, end_depth: int) -> int:
    """How many stitching layers two stages have between them.

    A deeper end stage has one for each front block, even for one that no cut of the published networks uses.
    """
    if front_depth < end_depth:
        return front_depth
    return max((cut.layer + 1 for cut in cuts), default=0)


def _from_deeper(front_depth: int, end_depth: int) -> tuple[Cut, ...]:
    """For each end block but the first the last front block j with floor(j * end / front) + 1 == k."""
    return tuple(Cut(-(-k * front_depth // end_depth) - 1, k, k - 1) for k in range(1, end_depth))


def _check_depths(*depths: int) -> None:
    for depth in depths:
        if depth < 1:
            raise ValueError(f"a stage has 1 block or more, got {depth}")
