"""OpenQASM 3: circuits written as programs and read from them."""

from zoo.quantum.qasm.read import from_openqasm3
from zoo.quantum.qasm.write import to_openqasm3

__all__ = ["from_openqasm3", "to_openqasm3"]
