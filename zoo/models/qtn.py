"""Quantum tensor networks that classify proteins and other sequences of letters.

Source: Kundu et al., "Application of Quantum Tensor Networks for Protein Classification" (2024, arXiv 2403.06890);
Harvey et al., "Sequence Processing with Quantum Tensor Networks" (2023, arXiv 2308.07865).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from zoo.models.no_image import described
from zoo.quantum.qtn.layer import QTN
from zoo.quantum.qtn.tokenizer import KmerTokenizer


class SequenceQTN(QTN):
    """A `QTN` with the tokenizer that makes its words out of letters.

    Shapes: tokens (B, T) integers, and lengths (B,) -> probabilities (B, num_classes).

    Args:
        tokenizer: whose words the network knows.
        num_classes: classes.
        options: of `QTN`.
    """

    def __init__(self, tokenizer: KmerTokenizer, num_classes: int, **options: Any) -> None:
        super().__init__(tokenizer.vocab_size, num_classes, **options)
        self.tokenizer = tokenizer
        self.pretrained_cfg: dict[str, Any] = {
            "input_size": None,
            "classifier": "",  # a row of angles is read for all classes
            "num_classes": num_classes,
        }

    def get_classifier(self) -> nn.Module:
        return self.readout

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Draw the angles of the readout anew, for another number of classes.

        Raises:
            ValueError: fewer than two, or more than the qubits of a wire can tell apart.
        """
        self._check_classes(num_classes)
        self.num_classes = num_classes
        self.pretrained_cfg["num_classes"] = num_classes
        self.readout.reset_parameters()


def qtn(
    num_classes: int = 2,
    *,
    topology: str = "ptn",
    sharing: str = "uniform",
    max_len: int = 64,
    qubits: int = 1,
    ansatz: str = "qtn14",
    n_layers: int = 1,
    post_select: bool = True,
    pad: str = "identity",
    max_bond: int | None = None,
    init_scale: float = 0.01,
    tokenizer: KmerTokenizer | Mapping[str, Any] | None = None,
    registered: str = "qtn_uptn_aa",
    pretrained_cfg: Any = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> SequenceQTN:
    """`SequenceQTN` for sequences of amino acids.

    Args:
        num_classes: at most 2**qubits.
        topology, sharing, qubits, ansatz, n_layers, post_select, pad, max_bond, init_scale: see `QTN`.
        max_len: words that are taken of a sequence; a hierarchical network has rules for so many.
        tokenizer: `KmerTokenizer`, or its arguments; None for single amino acids.
        registered: the name under which the catalogue has these arguments.
    """
    words = tokenizer if isinstance(tokenizer, KmerTokenizer) else KmerTokenizer(**(tokenizer or {}))
    options = {
        "topology": topology,
        "sharing": sharing,
        "max_len": max_len,
        "qubits": qubits,
        "ansatz": ansatz,
        "n_layers": n_layers,
        "post_select": post_select,
        "pad": pad,
        "max_bond": max_bond,
        "init_scale": init_scale,
    }
    model = SequenceQTN(words, num_classes, **options, device=device, dtype=dtype)
    model._model_args = {**options, "tokenizer": words.to_dict()}  # pyright: ignore - read when it is saved
    return described(model, pretrained_cfg, registered)
