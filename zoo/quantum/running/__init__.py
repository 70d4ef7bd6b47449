"""From a call of a circuit to its answer: the tensors checked, a way to simulate chosen, the answer differentiated."""
