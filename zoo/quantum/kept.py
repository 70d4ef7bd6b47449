"""What is made once for each structure of a circuit, kept where compilers find it too."""

from collections.abc import Callable, Hashable
from typing import Any


class Kept:
    """Things by name, each an attribute: `getattr(kept, name)`.

    A dict in their place would not do: of one, `torch.compile` sees what was in it when it first looked, and a second
    circuit of the same program is put there later.

    Args:
        most: how many are kept; the oldest goes first.
    """

    def __init__(self, most: int) -> None:
        self._most, self._made = most, 0
        self._names: dict[Hashable, str] = {}

    def name(self, key: Hashable, make: Callable[[], Any]) -> str:
        """The name of the thing of that key; it is made if it is not there."""
        if key not in self._names:
            thing = make()
            while len(self._names) >= self._most:
                delattr(self, self._names.pop(next(iter(self._names))))
            name, self._made = f"kept{self._made}", self._made + 1
            setattr(self, name, thing)
            self._names[key] = name
        return self._names[key]
