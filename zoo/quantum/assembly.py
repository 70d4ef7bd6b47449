"""The circuit of a layer, put together from an encoding and an ansatz."""

from typing import NamedTuple

from zoo.quantum.ansatze import ansatz, ansatz_named
from zoo.quantum.circuit import Circuit
from zoo.quantum.feature_maps import FeatureMap, feature_map


class Assembly(NamedTuple):
    """What a layer runs.

    Attributes:
        circuit: encoding and ansatz; its inputs are the encoding's angles, once for each time that it encodes.
        encoding: the feature map.
        shape: of the weights, a row a layer.
        unit: radians of a weight of 1.
    """

    circuit: Circuit
    encoding: FeatureMap
    shape: tuple[int, ...]
    unit: float


def assemble(
    in_features: int, n_qubits: int | None, n_layers: int, encoding: str, ansatz_name: str, reupload: bool
) -> Assembly:
    """Encode, then every layer of the ansatz; with `reupload`, encode before each layer.

    Raises:
        ValueError: see `zoo.quantum.feature_map` and `zoo.quantum.ansatz`; an encoding by phases of |0> alone; one by
            the first state with `reupload`.
    """
    features = feature_map(encoding, in_features, n_qubits)
    found, rotation = ansatz_named(ansatz_name)
    n_qubits = features.n_qubits
    if features.name == "angle:z" and not reupload:
        raise ValueError(
            "encoding 'angle:z' changes |0> by a phase that no output depends on: take 'angle:hz', or reupload=True"
        )
    if features.family == "amplitude" and reupload:
        raise ValueError(
            "encoding 'amplitude' is the state that a circuit begins in and cannot be repeated: reupload=False"
        )
    circuit = Circuit(n_qubits)
    if not reupload:
        circuit.compose(features.circuit).compose(ansatz(ansatz_name, n_qubits, n_layers))
    else:
        for layer in range(n_layers):
            wall = None if layer == n_layers - 1 else False
            circuit.compose(features.circuit)
            circuit.compose(ansatz(ansatz_name, n_qubits, first_layer=layer, final_wall=wall))
    angles = found.angles(n_qubits, rotation)
    # Without re-uploading one wire of some ansätze has one layer whatever the number.
    return Assembly(circuit, features, (circuit.n_weights // angles if angles else n_layers, angles), found.unit)
