"""What can be asked of a circuit, as its methods; the answers are those of the functions in `zoo.quantum.simulate`."""

from typing import Any

from torch import Tensor

from zoo.quantum.integers import integer


class Simulable:
    """The functions of `zoo.quantum.simulate` as methods of a circuit.

    All take weights and inputs, then the options of `zoo.quantum.simulate.Options` by name.
    """

    def state(self, weights: Any = None, inputs: Any = None, **options: Any) -> Tensor:
        """(*, 2^n) complex amplitudes."""
        return _ask("state", self, weights, inputs, **options)

    def probs(self, weights: Any = None, inputs: Any = None, **options: Any) -> Tensor:
        """(*, 2^k) probabilities of the outcomes of `wires`, by default of all."""
        return _ask("probs", self, weights, inputs, **options)

    def expval(self, observables: Any, weights: Any = None, inputs: Any = None, **options: Any) -> Tensor:
        """Expectations: (*) of one observable, (*, n_observables) of a list or of "z"."""
        return _ask("expval", self, observables, weights, inputs, **options)

    def var(self, observables: Any, weights: Any = None, inputs: Any = None, **options: Any) -> Tensor:
        """Variances; shapes as `expval`."""
        return _ask("var", self, observables, weights, inputs, **options)

    def sample(self, weights: Any = None, inputs: Any = None, **options: Any) -> Tensor:
        """(*, shots, k) bits of `wires`, by default of all; takes `shots`."""
        return _ask("sample", self, weights, inputs, **options)

    def counts(self, weights: Any = None, inputs: Any = None, **options: Any) -> Any:
        """{"010": 17, ...}: how often each outcome came; takes `shots`."""
        return _ask("counts", self, weights, inputs, **options)

    def density_matrix(self, weights: Any = None, inputs: Any = None, **options: Any) -> Tensor:
        """(*, 2^k, 2^k) density matrix of `wires`, by default of all."""
        return _ask("density_matrix", self, weights, inputs, **options)

    def matrix(self, weights: Any = None, inputs: Any = None, **options: Any) -> Tensor:
        """(*, 2^n, 2^n) unitary matrix of the circuit."""
        return _ask("unitary", self, weights, inputs, **options)

    def draw(self, kind: str = "text", *, width: int = 100, columns: int = 20) -> Any:
        """The circuit as text (kind="text"), or as a matplotlib Figure (kind="mpl").

        Args:
            kind: "text" or "mpl".
            width: characters of a line of text.
            columns: of gates in a row of a figure.

        Raises:
            ValueError: another kind, a width or columns below 1.
            MissingExtraError: matplotlib is not installed.
        """
        from zoo.quantum import drawing

        if kind not in drawing.KINDS:
            raise ValueError(f"kind is one of {', '.join(map(repr, drawing.KINDS))}, got {kind!r}")
        circuit: Any = self
        if kind == "text":
            return drawing.draw_text(circuit, integer("width", width))
        return drawing.draw_figure(circuit, integer("columns", columns))


def _ask(name: str, *arguments: Any, **options: Any) -> Any:
    from zoo.quantum import simulate

    return getattr(simulate, name)(*arguments, **options)
