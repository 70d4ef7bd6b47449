"""Which noise follows which gate, and how the wires are read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zoo.naming import check_keywords, did_you_mean
from zoo.quantum.gates import ALIASES, GATES, gate_named
from zoo.quantum.noise.channels import Channel, make_channel
from zoo.quantum.noise.readout import ReadoutError

#: Places of noise that are no gate's name.
PLACES = ("1q", "2q")


class NoiseModel:
    """Channels after gates, and a readout error.

    A channel on one wire acts on every wire of the gate, in their order; one on as many wires as the gate acts on them
    together.

        NoiseModel(after={"1q": ("depolarizing", 1e-3), "cx": make_channel(kraus)}, readout=ReadoutError(0.02, 0.05))

    Args:
        after: channels by what they follow: "1q" (gates on one wire), "2q" (gates on more), or the name of a gate,
            which goes before. A channel is a `Channel`, a name and a probability as ("depolarizing", 0.01) or
            {"depolarizing": 0.01}, or what `Channel.to_dict` gave. Several, in order, are a list of those.
        readout: error of the readout; a number is the probability that a bit flips. Also what `ReadoutError.to_dict`
            gave.

    Raises:
        ValueError: an unknown place, two names of one gate, a probability outside [0, 1].
        TypeError: something else than channels, or than an error of the readout.
    """

    def __init__(self, after: Mapping[str, Any] | None = None, readout: Any = None) -> None:
        if not isinstance(after, Mapping | None):
            raise TypeError(f'after= is a mapping such as {{"1q": ("depolarizing", 0.01)}}, got {after!r}')
        self.after: dict[str, tuple[Channel, ...]] = {}
        for given, channels in (after or {}).items():
            place = _place(given)
            if place in self.after:
                raise ValueError(f"after {place!r} comes noise twice, by two names of one gate")
            self.after[place] = tuple(_channels(channels, given))
        if isinstance(readout, Mapping):
            check_keywords(readout, ("p01", "p10"), "an error of the readout")
            readout = ReadoutError(**readout)
        self.readout = readout if isinstance(readout, ReadoutError | None) else ReadoutError(readout)

    def following(self, gate: str, wires: Sequence[int]) -> list[tuple[Channel, tuple[int, ...]]]:
        """Channels and their wires after a gate on these wires.

        Raises:
            ValueError: a channel on several wires, but not on as many as the gate.
        """
        place = gate if gate in self.after else PLACES[len(wires) > 1]
        found: list[tuple[Channel, tuple[int, ...]]] = []
        for channel in self.after.get(place, ()):
            if channel.n_wires == len(wires):
                found.append((channel, tuple(wires)))
            elif channel.n_wires == 1:
                found.extend((channel, (wire,)) for wire in wires)
            else:
                raise ValueError(
                    f"channel {channel.name!r} on {channel.n_wires} wires cannot follow gate {gate!r} on {len(wires)}"
                )
        return found

    def to_dict(self) -> dict[str, Any]:
        """The model as JSON holds it."""
        after = {place: [channel.to_dict() for channel in channels] for place, channels in self.after.items()}
        return {"after": after, "readout": None if self.readout is None else self.readout.to_dict()}

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> "NoiseModel":
        """The model that `to_dict` wrote, or its arguments by name; what is missing is none.

        Raises:
            TypeError: no mapping, or one with other names.
        """
        if not isinstance(fields, Mapping):
            raise TypeError(f"noise is written as a mapping of 'after' and 'readout', got {fields!r}")
        check_keywords(fields, ("after", "readout"), "noise")
        return NoiseModel(**fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NoiseModel) and (self.after, self.readout) == (other.after, other.readout)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"NoiseModel(after={self.after}, readout={self.readout})"


def _place(name: Any) -> str:
    """A place of `PLACES`, or a gate by our name for it."""
    if name in PLACES:
        return name
    try:
        gate = gate_named(name)
    except ValueError:
        hint = did_you_mean(name, [*PLACES, *GATES, *ALIASES])
        raise ValueError(f"noise follows '1q', '2q' or a gate by its name, got {name!r}{hint}") from None
    if not gate.unitary:
        raise ValueError(f"noise follows gates, and {gate.name!r} is none")
    return gate.name


def _channels(given: Any, place: str) -> Iterator[Channel]:
    match given:
        case Channel():
            yield given
        case {"name": _}:
            yield Channel.from_dict(given)
        case Mapping():
            yield from (make_channel(name, p) for name, p in given.items())
        case [str() as name, p]:
            yield make_channel(name, p)
        case list() | tuple():
            for one in given:
                yield from _channels(one, place)
        case _:
            raise TypeError(
                f"after {place!r} comes a channel, such as ('depolarizing', 0.01) or make_channel(kraus), or a list of "
                f"them; got {given!r}"
            )
