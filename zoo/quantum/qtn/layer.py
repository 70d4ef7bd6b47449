"""A quantum tensor network that classifies sequences of tokens."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from zoo.eager import no_autocast
from zoo.naming import did_you_mean
from zoo.quantum.ansatze import ansatz as ansatz_circuit
from zoo.quantum.memory import free_memory
from zoo.quantum.qtn.boxes import box_outcomes, kept_wires, readout_wires, word_states
from zoo.quantum.qtn.ctn import convolutional_state
from zoo.quantum.qtn.padding import PADS, Grid, centred, check_tokens, power_of_two, right_padded, words_in
from zoo.quantum.qtn.pauli_transfer import pauli_basis, pauli_channel, pauli_effects, pauli_states
from zoo.quantum.qtn.ptn import path_state
from zoo.quantum.qtn.scan import Rescaler
from zoo.quantum.qtn.success import check_success
from zoo.quantum.qtn.targets import class_shares
from zoo.quantum.qtn.ttn import tree_state
from zoo.quantum.qtn.unitaries import SmallCircuit

TOPOLOGIES = {"ptn": "a path", "ttn": "a balanced tree", "ctn": "a convolutional tree"}
SHARINGS = ("uniform", "hierarchical")
#: Added to probabilities before their logarithm.
EPSILON = 1e-7


class Angles(nn.Module):
    """Rows of angles, (rows, angles), in the unit of their ansatz."""

    def __init__(
        self, rows: int, angles: int, *, scale: float, device: torch.device | str | None, dtype: torch.dtype | None
    ):
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(rows, angles, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform between 0 and `scale`."""
        nn.init.uniform_(self.weight, 0, self.scale)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"


class Tensors(NamedTuple):
    """What a network computes with, of the states of a wire: D complex amplitudes, or 4**q real Pauli expectations.

    Attributes:
        words: (V, D).
        boxes: (R, D, D, D), as out, left, right.
        disentanglers: (R, D, D, D, D), as two out, two in; None but in a CTN.
        readout: (K, D).
    """

    words: Tensor
    boxes: Tensor
    disentanglers: Tensor | None
    readout: Tensor


class QTN(nn.Module):
    """Probabilities of the classes of sequences: words are states, and boxes of parametrised gates merge two into one.

    A word v is the state w_v = A_q(words[v])|0...0> on q qubits. A box is A_2q(rule) on the 2 q qubits of two wires, of
    which the even ones are kept and the odd ones are post-selected on 0, or discarded. "ptn", a path, merges every word
    into the state of those before it; "ttn", a balanced tree, merges neighbours, level by level; "ctn" does so after
    unitaries across the borders of the pairs. A_q(readout) acts on what is left, and the middle qubits are read. After
    post-selection the probabilities are divided by their sum.

    Shapes: tokens (B, T) integers -> (B, num_classes), real. State dict, all in the unit of the ansatz, full turns for
    the default: `words.weight` (V, p(q)), `rules.weight` (R, p(2q)), in a CTN `disentangler.weight` and
    `isometry.weight` instead, `readout.weight` (1, p(q)). Autocast is left aside.

    Args:
        vocab_size: words, V.
        num_classes: classes, at most 2**qubits. Where they are not a power of two, the outcomes beyond them are
            post-selected away.
        max_len: the longest sequence that a hierarchical network has rules for.
        topology: "ptn", a path, "ttn", a tree, or "ctn", a convolutional tree.
        sharing: "uniform", one rule for all, or "hierarchical", one a step of a path or a level of a tree.
        qubits: of a wire, q.
        ansatz: name of A, of `zoo.quantum.ansatz`.
        n_layers: of A.
        post_select: post-select what is not kept; False discards it.
        pad: what is done about sequences that are shorter than the longest of a batch, and in a tree about lengths that
            are no powers of two. "identity": where there is no word nothing is merged, exactly as if the sequence were
            alone. "token": `pad_token` fills up, in a path behind the words up to `max_len`, in a tree around them, the
            odd place on the right, up to the next power of two. "none": they are refused.
        pad_token: a word of the vocabulary; None for the last one.
        max_bond: of a convolutional tree, the widest bond between two levels, beyond which answers and gradients are
            near. None for exact ones, with bonds of T / 2 states for q = 1, or of their square with discarding.
        init_scale: angles begin uniform between 0 and this.

    Raises:
        ValueError: a size out of range, an unknown name; in the call, a token outside the vocabulary, fewer than two
            words, more than a hierarchical network has rules for, lengths that pad="none" does not take.
        TypeError: in the call, no tensor.
        PostSelectionError: in the call, a sequence that is never post-selected.

    Source: Harvey et al., "Sequence Processing with Quantum Tensor Networks" (2023, arXiv 2308.07865); Kundu et al.,
    "Application of Quantum Tensor Networks for Protein Classification" (2024, arXiv 2403.06890).
    """

    def __init__(
        self,
        vocab_size: int,
        num_classes: int = 2,
        *,
        max_len: int,
        topology: str = "ptn",
        sharing: str = "uniform",
        qubits: int = 1,
        ansatz: str = "qtn14",
        n_layers: int = 1,
        post_select: bool = True,
        pad: str = "identity",
        pad_token: int | None = None,
        max_bond: int | None = None,
        init_scale: float = 0.01,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("vocab_size", vocab_size, 1), ("max_len", max_len, 2),
            ("qubits", qubits, 1), ("n_layers", n_layers, 1), ("max_bond", 1 if max_bond is None else max_bond, 1),
        ):  # fmt: skip
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number from {least}, got {value!r}")
        self.qubits = qubits
        self._check_classes(num_classes)
        self.topology = _one_of("topology", topology, TOPOLOGIES)
        self.sharing = _one_of("sharing", sharing, SHARINGS)
        self.pad = _one_of("pad", pad, PADS)
        self.vocab_size, self.num_classes, self.max_len = vocab_size, num_classes, max_len
        self.ansatz, self.n_layers, self.post_select = ansatz, n_layers, post_select
        self.pad_token = vocab_size - 1 if pad_token is None else pad_token
        if not 0 <= self.pad_token < vocab_size:
            raise ValueError(f"pad_token must be a word, from 0 to {vocab_size - 1}, got {pad_token}")
        if not isinstance(post_select, bool):
            raise ValueError(f"post_select must be True or False, got {post_select!r}")
        if not 0 <= init_scale < float("inf"):
            raise ValueError(f"init_scale must be a number from 0, got {init_scale!r}")
        self.init_scale, self.max_bond = init_scale, max_bond
        self._wire = SmallCircuit(ansatz_circuit(ansatz, qubits, n_layers))
        self._pair = SmallCircuit(ansatz_circuit(ansatz, 2 * qubits, n_layers))
        _check_words(vocab_size, self._wire.n_weights, device, dtype)
        steps = max_len - 1 if topology == "ptn" else power_of_two(max_len).bit_length() - 1
        rules = steps if sharing == "hierarchical" else 1
        options = {"scale": init_scale, "device": device, "dtype": dtype}
        self.words = Angles(vocab_size, self._wire.n_weights, **options)
        for name in self._rule_names:
            setattr(self, name, Angles(rules, self._pair.n_weights, **options))
        self.readout = Angles(1, self._wire.n_weights, **options)

    def _check_classes(self, num_classes: int) -> None:
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
            raise ValueError(f"num_classes must be a whole number from 2, got {num_classes!r}")
        if num_classes > 2**self.qubits:
            raise ValueError(
                f"{num_classes} classes need {(num_classes - 1).bit_length()} qubits to be read, a wire has "
                f"{self.qubits}; set qubits="
            )

    @property
    def _rule_names(self) -> tuple[str, ...]:
        return ("disentangler", "isometry") if self.topology == "ctn" else ("rules",)

    def reset_parameters(self) -> None:
        """Draw all angles anew."""
        for part in (self.words, *(getattr(self, name) for name in self._rule_names), self.readout):
            part.reset_parameters()

    def forward(
        self,
        tokens: Int[Tensor, "batch length"],
        lengths: Int[Tensor, " batch"] | None = None,
        mask: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch classes"]:
        """Probabilities.

        Args:
            tokens: numbers of words.
            lengths: words of each sequence, from 2; None for T.
            mask: instead of lengths, True behind a sequence's end.
        """
        with no_autocast(self.words.weight):
            probabilities, total, _ = self._outcomes(tokens, lengths, mask)
            return (probabilities / total).to(self.words.weight.dtype)

    def log_success(
        self,
        tokens: Int[Tensor, "batch length"],
        lengths: Int[Tensor, " batch"] | None = None,
        mask: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """The natural logarithm of the probability that all post-selected qubits are found in 0.

        A device has to repeat the circuit exp(-log_success) times for every run that counts; 0 where all is discarded.
        """
        with no_autocast(self.words.weight):
            _, total, rescale = self._outcomes(tokens, lengths, mask)
            log = total.squeeze(1).log() + (0 if rescale is None else 2 * rescale.log)
            return log.to(self.words.weight.dtype)

    def as_logits(self, probabilities: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch classes"]:
        """Their logarithms, whose cross-entropy is the loss."""
        return (probabilities + EPSILON).log()

    def loss(
        self, probabilities: Float[Tensor, "batch classes"], target: Tensor, *, reduction: str = "mean"
    ) -> Float[Tensor, ""]:
        """-sum_c y_c log(p_c + 1e-7).

        Args:
            probabilities: of `forward`.
            target: (B,) class numbers, or (B, K) probabilities.
            reduction: "mean" or "sum" over the batch; of an empty one the mean is NaN, as PyTorch's are.

        Raises:
            ValueError: a target of another shape, or a number of no class.
        """
        _one_of("reduction", reduction, ("mean", "sum"))
        logs = self.as_logits(probabilities)
        losses = -(class_shares(target, logs) * logs).sum(1)
        return losses.mean() if reduction == "mean" else losses.sum()

    def extra_repr(self) -> str:
        return (
            f"{self.sharing} {self.topology}, {self.num_classes} classes, max_len={self.max_len}, "
            f"qubits={self.qubits}, ansatz={self.ansatz!r}, n_layers={self.n_layers}, "
            f"post_select={self.post_select}, pad={self.pad!r}"
        )

    def _outcomes(
        self, tokens: Tensor, lengths: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Rescaler | None]:
        """Unnormalised probabilities (B, K), their sums (B, 1), and what the amplitudes were divided by."""
        grid, tensors = self.grid(tokens, lengths, mask), self.tensors()
        words, boxes, across, readout = tensors
        rescale = Rescaler(len(tokens), words) if self.post_select else None
        if across is not None:
            state = convolutional_state(words, across, boxes, *grid, rescale, self.max_bond)
        else:
            state = (path_state if self.topology == "ptn" else tree_state)(words, boxes, *grid, rescale)
        found = state @ readout.mT
        if rescale is None:
            return found, found.sum(1, keepdim=True), None
        probabilities = torch.view_as_real(found).square().sum(2)
        total = probabilities.sum(1, keepdim=True)
        check_success(total.squeeze(1), rescale, "other angles, or post_select=False, help")
        return probabilities, total, rescale

    def grid(self, tokens: Tensor, lengths: Tensor | None = None, mask: Tensor | None = None) -> Grid:
        """The tokens with their padding as the topology takes them.

        Raises:
            ValueError, TypeError: as the call.
        """
        if not isinstance(tokens, Tensor):
            raise TypeError(f"tokens must be a tensor (batch, length), got {type(tokens).__name__}; torch.as_tensor")
        if tokens.device != (own := self.words.weight.device):
            raise ValueError(f"tokens are on {tokens.device}, the network is on {own}")
        if tokens.ndim != 2 or tokens.is_floating_point() or tokens.is_complex() or tokens.dtype is torch.bool:
            raise ValueError(f"tokens must be (batch, length) whole numbers, got {tokens.dtype} {tuple(tokens.shape)}")
        longest = tokens.shape[1]
        if longest < 2:
            raise ValueError(f"a sequence has at least two words, got {longest}")
        if longest > self.max_len and (self.sharing == "hierarchical" or self.pad == "token"):
            raise ValueError(f"{longest} words are more than max_len={self.max_len}, for which there are rules")
        tokens = tokens.long()
        lengths = words_in(tokens, lengths, mask)
        tree, filler = self.topology != "ptn", self.pad_token if self.pad == "token" else None
        length = power_of_two(longest) if tree else self.max_len if filler is not None else longest
        if self.pad == "none" and (length != longest or (lengths is not None and bool((lengths < longest).any()))):
            what = "a power of two" if length != longest else "all of one length"
            raise ValueError(
                f"with pad='none' sequences are {what}, got {longest if lengths is None else lengths.tolist()} words; "
                "set pad='identity' or pad='token'"
            )
        there = None if lengths is None else torch.arange(longest, device=tokens.device) >= lengths.unsqueeze(1)
        check_tokens(tokens, self.vocab_size, there)
        if tree and filler is not None:
            return centred(tokens, lengths, length, filler)
        return right_padded(tokens, lengths, length, filler)

    def tensors(self) -> Tensors:
        """Words, boxes and readout as tensors, out of the angles."""
        rules = [getattr(self, name) for name in self._rule_names]
        wires = _unitaries(self._wire, self.words, self.readout)
        words = word_states(wires[:-1])
        outcomes = box_outcomes(_unitaries(self._pair, rules[-1]))
        across = _unitaries(self._pair, rules[0]) if len(rules) > 1 else None
        bits = (self.num_classes - 1).bit_length()
        rows = kept_wires(wires[-1:], readout_wires(self.qubits, bits))[0, :, : self.num_classes]
        dim = words.shape[1]
        if across is not None:
            across = across.reshape(-1, dim, dim, dim, dim)
        if self.post_select:
            return Tensors(words, outcomes[:, 0], across, rows[0])
        paulis = pauli_basis(self.qubits, words)
        if across is not None:
            across = pauli_channel(across.unsqueeze(1), paulis, inputs=2, outputs=2)
        return Tensors(
            pauli_states(words, paulis), pauli_channel(outcomes, paulis, inputs=2), across, pauli_effects(rows, paulis)
        )


def _check_words(words: int, angles: int, device: torch.device | str | None, dtype: torch.dtype | None) -> None:
    """Refuse a vocabulary whose angles do not fit.

    Raises:
        ValueError: naming its size.
    """
    like = torch.empty(0, device=device, dtype=dtype)
    free = free_memory(like.device)
    if words * angles * like.element_size() > free:
        raise ValueError(
            f"vocab_size={words:,} words of {angles} angles are more than fit into the {free / 2**30:.3g} GiB of free "
            "memory; a tokenizer has fewer words with a smaller k, or a smaller alphabet"
        )


def _unitaries(circuit: SmallCircuit, *angles: Angles) -> Tensor:
    """(rows, d, d), of single or double precision."""
    weights = angles[0].weight if len(angles) == 1 else torch.cat([part.weight for part in angles])
    return circuit.unitaries(weights if weights.dtype is torch.float64 else weights.float())


def _one_of(name: str, given: Any, allowed: Mapping[str, str] | tuple[str, ...]) -> Any:
    """What was given, if it is among those allowed, of which a mapping says what they are.

    Raises:
        ValueError: it is not; with those that are, and the nearest.
    """
    if given not in tuple(allowed):
        meanings: Mapping[Any, str] = allowed if isinstance(allowed, Mapping) else {}
        choices = ", ".join(f"{one!r} ({meanings[one]})" if one in meanings else repr(one) for one in allowed)
        near = did_you_mean(str(given), allowed)
        raise ValueError(f"{name} must be one of {choices}, got {given!r}{near}")
    return given
