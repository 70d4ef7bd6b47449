"""The fast way to the state of a circuit: compiled once per structure, run as few large operations.

`lowering` writes every gate as turns of single wires, phases, permutations of basis states and a few dense matrices;
`schedule` merges them into stages; `program` lays the stages out as tables of indices; `tables` makes all matrices of
a call at once; `steps` apply them to states; `sweep` is the forward and the adjoint backward pass; `whole` contracts
a small circuit to one matrix, of layers that are `walls`; `pulled` are results with gradients by hand; `evolve`
chooses.
"""

from zoo.quantum.engine.evolve import evolve

__all__ = ["evolve"]
