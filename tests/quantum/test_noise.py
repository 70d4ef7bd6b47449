"""Noise: golden cases, density matrices that are such, trajectories that agree with them, errors of the readout."""

import json

import pytest
import torch
from torch import Tensor

from tests.layers.answers import answers
from tests.quantum.goldens import DTYPES, golden
from zoo.errors import PostSelectionError
from zoo.quantum.circuit import Circuit, feature, weight
from zoo.quantum.expectation import expectations
from zoo.quantum.noise import CHANNELS, NoiseModel, ReadoutError, make_channel
from zoo.quantum.noise.density import density_expectations, density_matrix, density_probs
from zoo.quantum.noise.trajectories import trajectory_means, trajectory_states
from zoo.quantum.observables import Hermitian, parse_observables
from zoo.quantum.reference import reference_state

NOTHING = torch.empty(0, dtype=torch.float64)
STRENGTHS = {one["channel"]: one["p"] for one in golden("noise_n3").kwargs["channels"]}


def layers(n: int = 3) -> Circuit:
    circuit = Circuit(n)
    for layer in range(2):
        for wire in range(n):
            circuit.ry(weight(layer * n + wire), wire)
        for wire in range(n - 1):
            circuit.cx(wire, wire + 1)
    return circuit


def noise_of(name: str) -> NoiseModel:
    channel = make_channel(name, STRENGTHS[name])
    return NoiseModel(after={"1q": channel, "2q": channel})


def random_channel(branches: int, wires: int, seed: int) -> Tensor:
    """Kraus operators: the blocks of an isometry."""
    generator = torch.Generator().manual_seed(seed)
    d = 2**wires
    return torch.linalg.qr(torch.randn(branches * d, d, dtype=torch.complex128, generator=generator))[0].reshape(
        -1, d, d
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", STRENGTHS)
def test_density_matrices(name, dtype):
    case = golden("noise_n3", dtype)
    w = case["in.weights"].flatten()
    rho = density_matrix(layers(), w, w.new_empty(0), noise=noise_of(name))
    case.check(rho[0], case.complex(f"out.rho.{name}"), name)
    case.check(density_expectations(rho, parse_observables("z", 3), 3)[0], case[f"out.expval_z.{name}"], name)
    assert (torch.linalg.eigvalsh(rho) > -1e-6).all()
    torch.testing.assert_close(density_probs(rho).sum(-1), torch.ones_like(w[:1]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_readout_error(dtype):
    case = golden("noise_n3", dtype)
    w = case["in.weights"].flatten()
    chances = density_probs(density_matrix(layers(), w, w.new_empty(0), noise=noise_of("depolarizing")))
    read = ReadoutError(case.kwargs["readout_error"]).apply(chances, range(3))
    case.check(read[0], case["out.probs_depol_readout"])


def test_explicit_channels_are_those_of_the_model():
    """The golden circuit, written with its channels."""
    case, name = golden("noise_n3"), "amplitude_damping"
    circuit = Circuit(3)
    for op in layers():
        circuit.append(op)
        for wire in op.wires:
            circuit.channel(name, STRENGTHS[name], wire)
    rho = density_matrix(circuit, case["in.weights"].flatten(), NOTHING)
    case.check(rho[0], case.complex(f"out.rho.{name}"))


def test_a_named_channel_on_several_wires_acts_on_each():
    both = Circuit(2).h(0).cx(0, 1).channel("phase_damping", 0.3, 0, 1)
    each = Circuit(2).h(0).cx(0, 1).channel("phase_damping", 0.3, 0).channel("phase_damping", 0.3, 1)
    torch.testing.assert_close(density_matrix(both, NOTHING, NOTHING), density_matrix(each, NOTHING, NOTHING))


@pytest.mark.parametrize("name", STRENGTHS)
def test_trajectories_agree_with_the_density_matrix(name):
    """20 seeds: each mean within 4 sigma (from the spread of its trajectories), and the mean of all within theirs."""
    w = golden("noise_n3")["in.weights"].flatten()
    observables = parse_observables(["Z0", "Z1", "X2", "Y0 Z1", "Z0 Z2"], 3)
    exact = density_expectations(density_matrix(layers(), w, NOTHING, noise=noise_of(name)), observables, 3)
    errors, sigmas = [], []
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        states = trajectory_states(layers(), w, NOTHING, noise=noise_of(name), trajectories=500, generator=generator)
        torch.testing.assert_close(states.abs().square().sum(-1), torch.ones(1, 500, dtype=torch.float64))
        found = expectations(states[0], observables, 3)
        errors.append(found.mean(0) - exact[0])
        sigmas.append(found.std(0) / 500**0.5)
    error, sigma = torch.stack(errors), torch.stack(sigmas)
    assert (error.abs() <= 4 * sigma + 1e-12).all()
    assert (error.mean(0).abs() <= 4 * sigma.mean(0) / 20**0.5 + 1e-12).all()


def test_own_kraus_operators_on_two_wires():
    channel = make_channel(random_channel(3, 2, seed=1))
    circuit = Circuit(3).h(0).ry(weight(0), 1).channel(channel, 2, 0).cx(0, 1).channel(channel, 1, 2)
    w = torch.tensor([0.4], dtype=torch.float64)
    rho = density_matrix(circuit, w, NOTHING)
    torch.testing.assert_close(density_probs(rho).sum(-1), torch.ones_like(w))
    assert torch.linalg.eigvalsh(rho).min() > -1e-12
    states = trajectory_states(circuit, w, NOTHING, trajectories=20000, generator=torch.Generator().manual_seed(0))[0]
    found = (states[:, :, None] * states[:, None].conj()).mean(0)
    torch.testing.assert_close(found, rho[0], rtol=0, atol=4 / 20000**0.5)


def test_without_noise_both_are_the_pure_state():
    circuit = Circuit(3).ry(feature(0), 0).cx(0, 2).rzz(weight(0), 1, 2).post_select(0, 1).u3(0.1, weight(1), 0.2, 1)
    w = torch.tensor([0.3, -0.8], dtype=torch.float64)
    x = torch.tensor([[0.5], [1.5], [2.5]], dtype=torch.float64)
    state = reference_state(circuit, w, x)
    torch.testing.assert_close(density_matrix(circuit, w, x), state[:, :, None] * state[:, None].conj())
    torch.testing.assert_close(trajectory_states(circuit, w, x, trajectories=2)[:, 1], state)


def test_post_selection_after_noise():
    """Bayes' rule: flipped with 0.2 after RY, and then the other bit is kept."""
    circuit = Circuit(2).ry(weight(0), 0).cx(0, 1).channel("bit_flip", 0.2, 1).post_select(1, 1)
    w = torch.tensor([1.1], dtype=torch.float64)
    one = torch.sin(w[0] / 2) ** 2
    kept = 0.8 * one + 0.2 * (1 - one)
    rho = density_matrix(circuit, w, NOTHING)
    wanted = torch.stack([torch.zeros_like(one), 0.2 * (1 - one) / kept, torch.zeros_like(one), 0.8 * one / kept])
    torch.testing.assert_close(density_probs(rho)[0], wanted)
    with pytest.raises(ValueError, match="some trajectories more than others: use method='density'"):
        trajectory_states(circuit, w, NOTHING)
    never = Circuit(1).channel("phase_flip", 0.2, 0).post_select(0, 1)
    with pytest.raises(PostSelectionError, match="wire 0 is never 1 in sample 0"):
        density_matrix(never, NOTHING, NOTHING)


def test_initial_states_and_weights_of_each_sample():
    circuit = Circuit(2).ry(weight(0), 0).cx(0, 1).channel("depolarizing", 0.2, 1)
    w = torch.tensor([[0.3], [1.4]], dtype=torch.float64)
    state = torch.linalg.qr(torch.randn(4, 4, dtype=torch.complex128))[0][:2]
    together = density_matrix(circuit, w, NOTHING, state)
    for i in range(2):
        torch.testing.assert_close(density_matrix(circuit, w[i], NOTHING, state[i : i + 1])[0], together[i])
    states = trajectory_states(
        circuit, w, NOTHING, state, trajectories=4000, generator=torch.Generator().manual_seed(1)
    )
    found = torch.einsum("bti,btj->bij", states, states.conj()) / 4000
    torch.testing.assert_close(found, together, rtol=0, atol=4 / 4000**0.5)


def test_a_matrix_measured_of_a_density_matrix():
    w = golden("noise_n3")["in.weights"].flatten()
    rho = density_matrix(layers(), w, NOTHING, noise=noise_of("bit_flip"))
    matrix = torch.tensor([[0.5, 0.2j, 0, 1], [-0.2j, 1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 2]])
    found = density_expectations(rho, [Hermitian(matrix, [2, 0])], 3)
    whole = torch.einsum("abcd,xy->bxadyc", matrix.reshape(2, 2, 2, 2).to(rho.dtype), torch.eye(2, dtype=rho.dtype))
    torch.testing.assert_close(found[0, 0], torch.trace(whole.reshape(8, 8) @ rho[0]).real)


def test_gradients_of_weights_and_of_the_strength():
    circuit = Circuit(2).ry(weight(0), 0).cx(0, 1).channel("amplitude_damping", weight(1), 1).rx(feature(0), 1)
    circuit.channel("depolarizing", 0.5 * feature(1), 0)
    observables = parse_observables(["Z0", "X0 Y1"], 2)
    w = torch.tensor([0.7, 0.3], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[0.2, 0.4], [0.9, 0.6]], dtype=torch.float64, requires_grad=True)

    def run(w: Tensor, x: Tensor) -> Tensor:
        return density_expectations(density_matrix(circuit, w, x), observables, 2)

    assert torch.autograd.gradcheck(run, (w, x))
    assert torch.autograd.gradgradcheck(run, (w, x))


def test_gradients_of_trajectories_are_unbiased():
    """Damping draws its branches by what the weights make of the state; the mean gradient is still the exact one."""
    circuit = Circuit(2).ry(weight(0), 0).channel("amplitude_damping", 0.4, 0).cx(0, 1).ry(weight(1), 1)
    observables = parse_observables(["Z1"], 2)
    w = torch.tensor([0.9, 0.5], dtype=torch.float64, requires_grad=True)
    (exact,) = torch.autograd.grad(density_expectations(density_matrix(circuit, w, NOTHING), observables, 2).sum(), w)

    def measure(state: Tensor) -> Tensor:
        return expectations(state, observables, 2)

    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(40):
        mean = trajectory_means(circuit, w, NOTHING, measure, trajectories=100, generator=generator)
        found.append(torch.autograd.grad(mean.sum(), w)[0])
    gradients = torch.stack(found)
    assert ((gradients.mean(0) - exact).abs() < 4 * gradients.std(0) / 40**0.5).all()


def test_trajectories_in_chunks(monkeypatch):
    w = golden("noise_n3")["in.weights"].flatten()
    monkeypatch.setattr("zoo.quantum.noise.trajectories._AT_ONCE", 8 * 30)
    sizes = []

    def measure(state: Tensor) -> Tensor:
        sizes.append(len(state))
        return state.abs().square()

    noise = noise_of("bit_flip")
    mean = trajectory_means(layers(), w, NOTHING, measure, noise=noise, trajectories=100)
    assert sizes == [30, 30, 30, 10]
    torch.testing.assert_close(mean.sum(-1), torch.ones(1, dtype=torch.float64))


def test_equal_seeds_draw_equal_trajectories():
    w, noise = golden("noise_n3")["in.weights"].flatten(), noise_of("depolarizing")

    def states(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return trajectory_states(layers(), w, NOTHING, noise=noise, trajectories=20, generator=generator)

    assert torch.equal(states(3), states(3))
    assert not torch.equal(states(3), states(4))


@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_channels_keep_the_trace(name, p):
    kraus = make_channel(name, p).kraus()
    torch.testing.assert_close((kraus.mH @ kraus).sum(0), torch.eye(2, dtype=torch.complex128))


def test_full_damping_and_flips():
    flipped = density_matrix(Circuit(1).channel("bit_flip", 1.0, 0), NOTHING, NOTHING)
    torch.testing.assert_close(density_probs(flipped), torch.tensor([[0.0, 1.0]], dtype=torch.float64))
    damped = trajectory_states(Circuit(1).x(0).channel("amplitude_damping", 1.0, 0), NOTHING, NOTHING, trajectories=50)
    torch.testing.assert_close(damped[0].abs(), torch.tensor([[1.0, 0.0]]).double().expand(50, 2))


def test_asymmetric_readout_and_its_inverse():
    error = ReadoutError([0.02, 0.1], [0.05, 0.2])
    chances = torch.tensor([[0.1, 0.2, 0.3, 0.4], [1, 0, 0, 0]], dtype=torch.float64)
    first = torch.tensor([[0.98, 0.05], [0.02, 0.95]], dtype=torch.float64)
    second = torch.tensor([[0.9, 0.2], [0.1, 0.8]], dtype=torch.float64)
    read = error.apply(chances, [0, 1])
    torch.testing.assert_close(read, chances @ torch.kron(first, second).T)
    torch.testing.assert_close(error.apply(chances, [1, 0]), chances @ torch.kron(second, first).T)
    torch.testing.assert_close(error.mitigate(read, [0, 1]), chances)


def test_misread_bits():
    bits = torch.tensor([0, 1]).expand(20000, 2)
    found = ReadoutError(0.1, 0.4).misread(bits, [0, 1], torch.Generator().manual_seed(0)).double().mean(0)
    torch.testing.assert_close(found, torch.tensor([0.1, 0.6]).double(), rtol=0, atol=4 * 0.5 / 20000**0.5)


def test_what_follows_which_gate():
    flip, phase, damp = (make_channel(name, 0.1) for name in ("bit_flip", "phase_flip", "phase_damping"))
    pair = make_channel(random_channel(2, 2, seed=0))
    model = NoiseModel(after={"1q": [flip, phase], "2q": pair, "cz": damp})
    assert model.following("rx", (2,)) == [(flip, (2,)), (phase, (2,))]
    assert model.following("cx", (2, 0)) == [(pair, (2, 0))]
    assert model.following("cz", (1, 0)) == [(damp, (1,)), (damp, (0,))]
    with pytest.raises(ValueError, match="on 2 wires cannot follow gate 'ccx' on 3"):
        model.following("ccx", (0, 1, 2))


def test_models_go_through_json():
    own = make_channel(random_channel(2, 1, seed=2))
    model = NoiseModel(after={"2q": [make_channel("depolarizing", 0.01), own]}, readout=ReadoutError(0.02, [0.1, 0.2]))
    again = NoiseModel.from_dict(json.loads(json.dumps(model.to_dict())))
    assert again == model
    assert NoiseModel.from_dict(NoiseModel().to_dict()) == NoiseModel()


def test_short_forms():
    flip, phase = make_channel("bit_flip", 0.1), make_channel("phase_flip", 0.2)
    wanted = NoiseModel(after={"1q": [flip, phase], "cx": flip}, readout=ReadoutError(0.1))
    for both in (
        [("bit_flip", 0.1), ["phase_flip", 0.2]],
        {"bit_flip": 0.1, "phase_flip": 0.2},
        [{"bit_flip": 0.1}, phase],
    ):
        fields = {"after": {"1q": both, "cx": ["bit_flip", 0.1]}, "readout": 0.1}
        assert NoiseModel.from_dict(fields) == NoiseModel(**fields) == wanted
    assert NoiseModel.from_dict({"readout": 0.1}) == NoiseModel(readout=0.1)
    assert NoiseModel.from_dict({}) == NoiseModel()


@pytest.mark.parametrize(
    ("name", "ours"), [("CNOT", "cx"), ("RX", "rx"), ("toffoli", "ccx"), ("pauliX", "x"), ("IsingZZ", "rzz")]
)
def test_gates_by_the_names_of_other_libraries(name, ours):
    assert NoiseModel(after={name: ("bit_flip", 0.1)}) == NoiseModel(after={ours: ("bit_flip", 0.1)})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_channel("depolarising", 0.1), r"unknown channel 'depolarising'; did you mean 'depolarizing'"),
        (lambda: make_channel("bit_flip", 1.2), r"probability of channel 'bit_flip' must lie in \[0, 1\], got 1.2"),
        (lambda: make_channel("bit_flip", float("nan")), r"must lie in \[0, 1\], got nan"),
        (lambda: make_channel([torch.eye(2)], 0.1), "got p=0.1 beside operators"),
        (lambda: make_channel([]), "at least one Kraus operator"),
        (
            lambda: make_channel([torch.eye(2), 0.1 * torch.eye(2)]),
            r"Σ K†K = 1; these deviate by 0.01 \(allowed 1e-05\)",
        ),
        (lambda: make_channel([torch.eye(3)]), r"a power of two; got \[\(3, 3\)\]"),
        (lambda: make_channel([torch.ones(2)]), r"square matrices, got one of shape \(2,\)"),
        (lambda: NoiseModel(after={"2qubits": make_channel("bit_flip", 0.1)}), "'1q', '2q' or a gate.*got '2qubits'"),
        (lambda: NoiseModel(after={"post_select": ("bit_flip", 0.1)}), "'post_select' is none"),
        (lambda: NoiseModel(after={"cx": ("bit_flip", 0.1), "CNOT": ("bit_flip", 0.2)}), "'cx' comes noise twice"),
        (lambda: NoiseModel(after={"cnto": ("bit_flip", 0.1)}), "a gate by its name, got 'cnto'; did you mean 'cnot'"),
        (lambda: NoiseModel(after={"1q": {"bit_filp": 0.1}}), "unknown channel 'bit_filp'; did you mean 'bit_flip'"),
        (lambda: ReadoutError(-0.1), r"must lie in \[0, 1\], got -0.1"),
        (lambda: ReadoutError([0.1, 0.2], [0.1]), r"unequal numbers of wires: \[1, 2\]"),
        (lambda: ReadoutError([0.1]).apply(torch.ones(4) / 4, [0, 1]), "names 1 wires; there is none for wire 1"),
        (
            lambda: ReadoutError(0.5).mitigate(torch.ones(2) / 2, [0]),
            r"readout of wire 0 cannot be undone: p01 \+ p10 is 1",
        ),
        (lambda: ReadoutError(0.1).apply(torch.ones(4) / 4, [0]), "1 wires have 2 outcomes, got 4"),
        (lambda: trajectory_states(Circuit(1), NOTHING, NOTHING, trajectories=0), "at least one trajectory"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("method", ["auto", "density", "reference"])
def test_a_readout_error_of_other_wires(method):
    noise = NoiseModel(readout=ReadoutError([0.1, 0.1, 0.4]))
    for ask in (Circuit(2).probs, lambda **options: Circuit(2).sample(shots=2, wires=[0], **options)):
        with pytest.raises(ValueError, match="names 3 wires, and the circuit has 2"):
            ask(noise=noise, method=method)


#: expression -> what its TypeError says.
TYPES = {
    "NoiseModel(after={'1q': 'depolarizing'})": "such as ('depolarizing', 0.01) or make_channel(kraus), or a list of",
    "NoiseModel(after={'1q': ('depolarizing', '1')})": "takes a probability, such as 0.01; got '1'",
    "NoiseModel(after=3)": "after= is a mapping such as",
    "NoiseModel(readout='x')": "a readout error has a probability, or one a wire; got 'x'",
    "NoiseModel(readout={'p0': 0.1})": "did you mean 'p01'",
    "NoiseModel.from_dict('x')": "a mapping of 'after' and 'readout', got 'x'",
    "NoiseModel.from_dict({'raedout': 0.1})": "did you mean 'readout'",
    "make_channel('bit_flip')": "takes a probability, such as 0.01; got None",
}


@pytest.fixture(scope="module")
def told():
    return answers(TYPES, "from zoo.quantum import NoiseModel, make_channel")


@pytest.mark.parametrize("expression", TYPES)
def test_refused_types(expression, told):
    assert told[expression].startswith("TypeError: ")
    assert TYPES[expression] in told[expression]


def test_a_trained_strength_outside_its_range():
    circuit = Circuit(1).channel("bit_flip", weight(0), 0)
    with pytest.raises(ValueError, match=r"\[0, 1\], got 1.5"):
        density_matrix(circuit, torch.tensor([1.5]), torch.empty(0))
