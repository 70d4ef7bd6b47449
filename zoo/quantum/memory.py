"""How much memory a run of a circuit takes, whether it is there, and which way of running it fits."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from zoo.errors import CircuitTooLarge
from zoo.quantum.circuit import Circuit
from zoo.quantum.lightcone import cones, work
from zoo.quantum.mps.products import MOST_WIRES, has_products, widest_bond
from zoo.quantum.noise.trajectories import at_once
from zoo.quantum.observables import Hermitian, Observable

#: The part of the free memory that a run may take.
SHARE = 0.8
#: Bytes that one sample may take while a circuit is compiled or exported, when memory is not looked at.
UNSEEN = 2**33
#: States held at once: with a gradient the last state, its cotangent and three that are undone; else the last two.
_STATES = {True: 5, False: 2}
#: Up to here all amplitudes together are less work than anything that avoids them.
_SMALL = 12
#: Amplitudes times gates of a sample, from where on a matrix product state without loss is less work.
_MUCH = 2**28
#: Density matrices are chosen by themselves up to here.
_DENSITY = 10
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


@dataclass(frozen=True)
class Run:
    """What is to be run.

    Args:
        circuit: the circuit.
        batch: samples.
        dtype: the real type.
        device: where.
        gradient: whether one is wanted.
        max_memory: bytes that may be taken; None for 80 % of what is free.
        trajectories: how many, where noise is drawn.
        given: whether there is a state to begin with.
        columns: states a sample: 2^n for a matrix.
        answer: numbers of the result of one of them, beside its amplitudes.
        noisy: whether there are channels.
        max_bond: the widest bond that a matrix product state may have.
    """

    circuit: Circuit
    batch: int = 1
    dtype: torch.dtype = torch.float32
    device: torch.device | str = "cpu"
    gradient: bool = False
    max_memory: int | None = None
    trajectories: int = 128
    given: bool = False
    columns: int = 1
    answer: int = 0
    noisy: bool = False
    max_bond: int = 64

    @property
    def amplitude(self) -> int:
        """Bytes of a complex number."""
        return 2 * self.dtype.itemsize

    @property
    def limit(self) -> int:
        """Bytes that may be taken. What is compiled does not depend on the memory that happens to be free."""
        if self.max_memory is not None:
            return int(self.max_memory)
        return UNSEEN if torch.compiler.is_compiling() else int(SHARE * free_memory(self.device))


def free_memory(device: torch.device | str = "cpu") -> int:
    """Bytes that are free on a device, or held by torch but not in use; within the limit of a container for the CPU."""
    device = torch.device(device)
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    info = Path("/proc/meminfo")
    if info.exists():
        found = dict(line.split(":", 1) for line in info.read_text().splitlines())
        free = 1024 * int(found.get("MemAvailable", f"{free // 1024} kB").split()[0])
    most, now = _number("/sys/fs/cgroup/memory.max"), _number("/sys/fs/cgroup/memory.current")
    return free if most is None or now is None else max(0, min(free, most - now))


def _number(path: str) -> int | None:
    """The number in a file of the system; None where there is no such file, or it says "max"."""
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None


def needed(run: Run, method: str, observables: Sequence[Observable] | None = None) -> int:
    """Bytes that a run takes, of states alone.

    Args:
        run: what is run.
        method: "statevector", "reference", "density", "trajectories", "lightcone" or "mps" (of which only is known
            beforehand that it begins as a product state).
        observables: what is measured, for "lightcone".
    """
    n, batch = run.circuit.n_qubits, max(run.batch, 1) * run.columns
    states = _STATES[run.gradient]
    if run.gradient and (method in ("reference", "density", "trajectories") or not run.circuit.unitary_only):
        states += len(run.circuit)  # autograd keeps one a gate
    if method == "mps":
        return run.amplitude * batch * (2 * n + run.answer)
    if method == "lightcone":
        found = cones(run.circuit, observables or ())
        kept = found.all_amplitudes(batch, run.noisy) if run.gradient else 0
        return run.amplitude * (states * found.amplitudes(batch, run.noisy) + kept + batch * run.answer)
    if method == "trajectories":
        batch *= run.trajectories if run.gradient else min(run.trajectories, at_once(n, batch))
    return run.amplitude * batch * (states * (4 if method == "density" else 2) ** n + run.answer)


def check_memory(run: Run, method: str, observables: Sequence[Observable] | None = None) -> None:
    """Refuse a run that does not fit, before it starts.

    Raises:
        CircuitTooLarge: names the size and the other ways.
    """
    bytes_, limit = needed(run, method, observables), run.limit
    if bytes_ > limit:
        raise CircuitTooLarge(_too_large(run, method, bytes_, limit, observables))


def choose_method(run: Run, observables: Sequence[Observable] | None, *, sampled: bool = False) -> str:
    """The way to run a circuit: "statevector", "lightcone", "mps", "density" or "trajectories".

    Few qubits: all amplitudes. More: by cones, if that is less work; all amplitudes, if they fit; cones, if these do; a
    matrix product state, if nothing else fits, or if all else is much work and no bond can grow beyond `max_bond`. With
    noise: the density matrix up to 10 qubits if it fits, those of cones up to 10 qubits, trajectories beyond.

    Args:
        run: what is run.
        observables: what is measured (`state_of` for the state of some wires); None where all amplitudes are wanted.
        sampled: outcomes are drawn, of which there need be no probabilities.

    Raises:
        CircuitTooLarge: no way fits; names the size and the other ways.
    """
    if run.noisy:
        method = _with_noise(run, None if sampled else observables)
    elif run.given or (observables is None and not sampled):
        method = "statevector"
    elif sampled:
        whole = needed(run, "statevector") <= run.limit
        method = "statevector" if whole or not _by_chain(run, observables) else "mps"
    else:
        method = _of_expectations(run, observables or ())
    check_memory(run, method, observables)
    return method


def _with_noise(run: Run, observables: Sequence[Observable] | None) -> str:
    if run.circuit.n_qubits <= _DENSITY and needed(run, "density") <= run.limit:
        return "density"
    narrow = observables and not run.given and work(run.circuit, *observables)[1] <= _DENSITY
    if narrow and needed(run, "lightcone", observables) <= run.limit:
        return "lightcone"
    # Trajectories cannot be post-selected.
    selected = any(op.gate.name == "post_select" for op in run.circuit)
    return "density" if selected else "trajectories"


def _of_expectations(run: Run, observables: Sequence[Observable]) -> str:
    n, limit = run.circuit.n_qubits, run.limit
    whole = needed(run, "statevector") <= limit
    if whole and n <= _SMALL:
        return "statevector"
    by_cones, by_all = work(run.circuit, *observables)[0], len(run.circuit) * 2**n
    much = min(by_cones, by_all) > _MUCH and widest_bond(run.circuit.ops, n) <= run.max_bond
    if much and _by_chain(run, observables):
        return "mps"
    if whole and by_cones >= by_all:
        return "statevector"
    if needed(run, "lightcone", observables) <= limit:
        return "lightcone"
    return "mps" if not whole and _by_chain(run, observables) else "statevector"


def _by_chain(run: Run, observables: Sequence[Observable] | None) -> bool:
    """Whether a matrix product state gives it."""
    narrow = all(len(o.wires) <= MOST_WIRES for o in observables or () if isinstance(o, Hermitian))
    fits = needed(run, "mps") <= run.limit
    return not run.given and narrow and fits and all(has_products(op) for op in run.circuit)


def _too_large(run: Run, method: str, bytes_: int, limit: int, observables: Sequence[Observable] | None) -> str:
    n, batch = run.circuit.n_qubits, max(run.batch, 1)
    whose = "max_memory" if run.max_memory is not None else f"{SHARE:.0%} of what is free"
    ways = _ways_out(run, method, bytes_, limit, observables)
    many = f", {run.columns} states each," if run.columns > 1 else ""
    narrow = ": with noise, what is measured of a wide circuit must depend on few wires" if run.noisy else ""
    return (
        f"{n} qubits in a batch of {batch}{many} by method={method!r} take {_size(bytes_)} of states, more than the "
        f"{_size(limit)} that may be taken ({whose}); "
        + (f"what fits: {', '.join(ways)}" if ways else f"no other way fits either{narrow}")
    )


def _ways_out(run: Run, method: str, bytes_: int, limit: int, observables: Sequence[Observable] | None) -> list[str]:
    """What would fit, the nearest to what was asked for first."""
    batch, ways = max(run.batch, 1), []
    if run.max_memory is not None and bytes_ <= replace(run, max_memory=None).limit:
        ways.append(f"max_memory of {_size(bytes_)}")
    if run.dtype == torch.float64 and needed(replace(run, dtype=torch.float32), method, observables) <= limit:
        ways.append("float32")
    if run.gradient and needed(replace(run, gradient=False), method, observables) <= limit:
        ways.append("torch.no_grad(), if no gradient is needed")
    fewer = limit // (bytes_ // batch)
    if fewer and needed(replace(run, batch=fewer), method, observables) <= limit:
        ways.append(f"batches of {fewer}")
    if method == "trajectories" and needed(replace(run, trajectories=1), method) <= limit:
        ways.append("fewer trajectories")
    selected = any(op.gate.name == "post_select" for op in run.circuit)
    if method == "density" and not selected and needed(run, "trajectories") <= limit:
        ways.append("method='trajectories'")
    if run.columns > 1 and needed(replace(run, columns=1), method) <= limit:
        ways.append("state(state=...) of one column after the other")
    if run.answer and needed(replace(run, answer=0), method, observables) <= limit:
        ways.append("a result of fewer wires or shots")
    if run.given:
        return ways
    if observables and method != "mps" and not run.noisy and _by_chain(run, observables):
        ways.append("method='mps'")
    if observables and method != "lightcone" and needed(run, "lightcone", observables) <= limit:
        ways.append(f"method='lightcone' (the widest cone has {cones(run.circuit, observables).widest} qubits)")
    if not ways and not run.noisy and _by_chain(replace(run, answer=0), None):
        ways.append("expectations, samples, and probabilities of few wires, by method='mps'")
    return ways


def _size(bytes_: int) -> str:
    unit = min(len(_UNITS) - 1, max(0, bytes_.bit_length() - 1) // 10)
    return f"{bytes_ / 1024**unit:.3g} {_UNITS[unit]}"
