"""Matrix product states: circuits too wide for a vector of all amplitudes.

`products` writes gates as sums of products of one-qubit matrices, `chain` applies these to the tensors, `narrowing`
cuts bonds that have grown too wide, `measure` contracts; `state` runs a circuit, `shots` reads it a number of times.
"""

from zoo.quantum.mps.state import MPS

__all__ = ["MPS"]
