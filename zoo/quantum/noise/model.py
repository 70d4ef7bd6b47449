"""Which noise follows which gate, and how the wires are read."""

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.naming import did_you_mean
from zoo.quantum.gates import GATES
from zoo.quantum.noise.channels import Channel
from zoo.quantum.noise.readout import ReadoutError

#: Places of noise that are no gate's name.
PLACES = ("1q", "2q")


class NoiseModel:
    """Channels after gates, and a readout error.

    A channel on one wire acts on every wire of the gate, in their order; one on as many wires as the gate acts on them
    together.

        NoiseModel(after={"1q": make_channel("depolarizing", 1e-3), "2q": make_channel("depolarizing", 1e-2)},
                   readout=ReadoutError(0.02, 0.05))

    Args:
        after: channels by what they follow: "1q" (gates on one wire), "2q" (gates on more), or the name of a gate,
            which goes before. A channel or a list of them, in order.
        readout: error of the readout; a number is the probability that a bit flips.

    Raises:
        ValueError: an unknown place.
        TypeError: something else than channels.
    """

    def __init__(
        self,
        after: Mapping[str, Channel | Sequence[Channel]] | None = None,
        readout: ReadoutError | float | None = None,
    ) -> None:
        places = [*PLACES, *GATES]
        self.after: dict[str, tuple[Channel, ...]] = {}
        for place, channels in (after or {}).items():
            if place not in places:
                raise ValueError(
                    f"noise follows '1q', '2q' or a gate by its name, got {place!r}{did_you_mean(place, places)}"
                )
            self.after[place] = (channels,) if isinstance(channels, Channel | str) else tuple(channels)
            for channel in self.after[place]:
                if not isinstance(channel, Channel):
                    raise TypeError(
                        f"after {place!r} comes a Channel or a list of them, such as "
                        f"make_channel('depolarizing', 0.01); got {channel!r}"
                    )
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
        """The model that `to_dict` wrote."""
        after = {place: [Channel.from_dict(one) for one in channels] for place, channels in fields["after"].items()}
        return NoiseModel(after, None if fields["readout"] is None else ReadoutError(**fields["readout"]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NoiseModel) and (self.after, self.readout) == (other.after, other.readout)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"NoiseModel(after={self.after}, readout={self.readout})"
