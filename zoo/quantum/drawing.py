"""Circuits as pictures: text for a terminal, a matplotlib figure for a page."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zoo.errors import MissingExtraError
from zoo.quantum.angle import Angle
from zoo.quantum.circuit import Circuit
from zoo.quantum.op import Op

KINDS = ("text", "mpl")
CONTROL, FLIP, SWAP = "●", "⊕", "×"
#: Gates with controls: how many wires control, and what is on the others; "" for the name of the gate without its c.
_CONTROLLED = {
    "cx": (1, FLIP),
    "cy": (1, "Y"),
    "cz": (1, "Z"),
    "ch": (1, "H"),
    "crx": (1, ""),
    "cry": (1, ""),
    "crz": (1, ""),
    "cphase": (1, ""),
    "crot": (1, ""),
    "ccx": (2, FLIP),
    "ccz": (2, "Z"),
    "cswap": (1, SWAP),
    "swap": (0, SWAP),
}
_NAMES = {
    "phase": "P",
    "sdg": "S†",
    "tdg": "T†",
    "sxdg": "SX†",
    "single_excitation": "G",
    "unitary": "U",
    "diagonal": "D",
}
_WORDS = {"rxx": "xx", "ryy": "yy", "rzz": "zz"}


@dataclass(frozen=True)
class Symbol:
    """What an op shows on its wires.

    Args:
        marks: wire -> text.
        column: where it stands.
    """

    marks: dict[int, str]
    column: int

    @property
    def span(self) -> range:
        """The wires from the first to the last."""
        return range(min(self.marks), max(self.marks) + 1)


def symbols(circuit: Circuit) -> list[Symbol]:
    """The ops, each in the first column in which nothing crosses it."""
    names, found = circuit.weight_names, []
    free = [0] * circuit.n_qubits
    for op in circuit:
        marks = _marks(op, names)
        # A named channel acts on every wire by itself.
        apart = op.gate.name == "channel" and not op.matrix
        for part in [{wire: mark} for wire, mark in marks.items()] if apart else [marks]:
            span = range(min(part), max(part) + 1)
            column = max(free[wire] for wire in span)
            for wire in span:
                free[wire] = column + 1
            found.append(Symbol(part, column))
    return found


def _marks(op: Op, names: tuple[str, ...]) -> dict[int, str]:
    name, wires = op.gate.name, op.wires
    angles = ", ".join(_angle(angle, names) for angle in op.angles)
    behind = f"({angles})" if angles else ""
    if name in _CONTROLLED:
        count, mark = _CONTROLLED[name]
        mark = mark or _label(name[1:]) + behind
        return {wire: CONTROL if i < count else mark for i, wire in enumerate(wires)}
    if name == "post_select":
        return {wires[0]: f"|{op.word}⟩⟨{op.word}|"}
    if name == "channel":
        return dict.fromkeys(wires, f"~{op.word}{behind}")
    word = op.word if name in ("pauli_rot", "multirz") else _WORDS.get(name, "")
    if word:
        # The letters are tied together; the last one tells the angle.
        texts = [f"R{letter.upper()}" for letter in word]
        texts[-1] += behind
        return dict(zip(wires, texts, strict=True))
    if len(wires) == 1:
        return {wires[0]: _label(name) + behind}
    return {wire: f"{_label(name)}.{i}{'' if i else behind}" for i, wire in enumerate(wires)}


def _label(name: str) -> str:
    return _NAMES.get(name, name.upper())


def _angle(angle: Angle, names: tuple[str, ...]) -> str:
    if angle.source == "constant":
        return f"{angle.offset:.3g}"
    name = names[angle.place] if angle.source == "weight" else f"x{angle.place}"
    factor = {1.0: "", -1.0: "-"}.get(angle.scale, f"{angle.scale:.3g}·")
    shift = f"{angle.offset:+.3g}" if angle.offset else ""
    return f"{factor}{name}{shift}"


def draw_text(circuit: Circuit, width: int = 100) -> str:
    """The circuit as text, time from left to right, two lines a wire.

    Args:
        circuit: what is drawn.
        width: characters of a line; the circuit goes on below where it is longer.
    """
    head = len(f"q{circuit.n_qubits - 1}: ")
    columns = list(_columns(circuit))
    blocks: list[list[list[str]]] = [[]]
    used = head + 1
    for column in columns:
        if blocks[-1] and used + len(column[0]) > width:
            blocks.append([])
            used = head + 1
        blocks[-1].append(column)
        used += len(column[0])
    drawn = []
    for block in blocks:
        for line in range(2 * circuit.n_qubits - 1):
            name = f"q{line // 2}: ".rjust(head) + "─" if line % 2 == 0 else " " * (head + 1)
            drawn.append((name + "".join(column[line] for column in block)).rstrip())
        drawn.append("")
    return "\n".join(drawn[:-1])


def _columns(circuit: Circuit) -> Iterator[list[str]]:
    """Lines of equal length, two a wire, of every column."""
    found = symbols(circuit)
    for place in range(1 + max((symbol.column for symbol in found), default=-1)):
        here = [symbol for symbol in found if symbol.column == place]
        longest = max(len(mark) for symbol in here for mark in symbol.marks.values())
        lines = [("─" if line % 2 == 0 else " ") * longest for line in range(2 * circuit.n_qubits - 1)]
        for symbol in here:
            for line in range(2 * symbol.span[0], 2 * symbol.span[-1] + 1):
                wire, on_wire = divmod(line, 2)
                if on_wire == 0 and wire in symbol.marks:
                    lines[line] = symbol.marks[wire].center(longest, "─")
                else:
                    lines[line] = ("│" if on_wire else "┼").center(longest, lines[line][0])
        yield [line + ("──" if number % 2 == 0 else "  ") for number, line in enumerate(lines)]


def draw_figure(circuit: Circuit, columns: int = 20) -> Any:
    """The circuit as a matplotlib Figure.

    Args:
        circuit: what is drawn.
        columns: of gates in a row; the circuit goes on below where it has more.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("drawing a circuit as a figure", "matplotlib", "train") from error
    found = symbols(circuit)
    total = 1 + max((symbol.column for symbol in found), default=0)
    rows = -(-total // columns)
    figure = Figure(figsize=(0.85 * min(total, columns) + 1.0, 0.55 * rows * (circuit.n_qubits + 0.5) + 0.3))
    draw_on(figure.add_axes((0, 0, 1, 1)), circuit, columns)
    return figure


def draw_on(axes: Any, circuit: Circuit, columns: int = 20) -> None:
    """Draw into matplotlib axes, which show nothing else.

    Args:
        axes: where.
        circuit: what is drawn.
        columns: of gates in a row.
    """
    from matplotlib.patches import Rectangle

    found = symbols(circuit)
    total = 1 + max((symbol.column for symbol in found), default=0)
    rows, n = -(-total // columns), circuit.n_qubits
    widest = min(total, columns)
    axes.set_xlim(-1.0, widest - 0.3)
    axes.set_ylim(-(rows * (n + 0.5)) + 0.9, 0.6)
    axes.set_axis_off()
    axes.set_aspect("auto")
    for row in range(rows):
        last = min(total - row * columns, columns) - 0.4
        for wire in range(n):
            y = -(row * (n + 0.5) + wire)
            axes.plot([-0.6, last], [y, y], color="0.35", lw=0.8, zorder=1)
            axes.text(-0.65, y, f"q{wire}", ha="right", va="center", fontsize=9)
    for symbol in found:
        row, x = divmod(symbol.column, columns)
        top = -(row * (n + 0.5))
        axes.plot([x, x], [top - symbol.span[0], top - symbol.span[-1]], color="0.2", lw=1.0, zorder=2)
        for wire, mark in symbol.marks.items():
            y = top - wire
            if mark == CONTROL:
                axes.plot([x], [y], marker="o", ms=5, color="0.2", zorder=3)
            elif mark in (FLIP, SWAP):
                axes.plot([x], [y], marker="+" if mark == FLIP else "x", ms=9, mew=1.2, color="0.2", zorder=4)
                if mark == FLIP:
                    axes.plot([x], [y], marker="o", ms=9, mfc="white", mec="0.2", mew=1.0, zorder=3)
            else:
                axes.add_patch(Rectangle((x - 0.42, y - 0.34), 0.84, 0.68, fc="#e8eef7", ec="0.3", lw=0.8, zorder=3))
                axes.text(x, y, _lines(mark), ha="center", va="center", fontsize=_size(mark), zorder=5)


def _lines(mark: str) -> str:
    """The name over its angles."""
    name, _, angles = mark.removesuffix(")").partition("(")
    return "\n".join([name, *filter(None, angles.split(", "))])


def _size(mark: str) -> float:
    """Points in which all lines fit into the box."""
    lines = _lines(mark).split("\n")
    return min(9.0, 52 / max(map(len, lines)), 22 / len(lines))
