"""What a model answers to sequences of letters."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo.errors import DataError
from zoo.models.class_scores import as_logits
from zoo.training.data.bags_batch import answer
from zoo.training.data.sequence_files import SEQUENCES, holds_sequences, open_sequences
from zoo.training.data.sequences import SequenceSet
from zoo.training.data.source import one_split, open_split
from zoo.training.data.token_batch import join_tokens
from zoo.training.preparation import pipeline_for

_FORMS = "give FASTA, a table with a column 'sequence', sequences:FILE, 'peptides', or texts of letters"


def sequence_answers(
    net: nn.Module,
    given: Any,
    batch_size: int,
    device: torch.device | str,
    *,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[tuple[str, Tensor]]:
    """For each sequence what it is called and the model's scores.

    Args:
        net: in evaluation mode, on the device.
        given: a source of sequences as `zoo.finetune` takes it, with or without labels; a text of letters; a list of
            such, which are called by their numbers.
        batch_size: sequences at a time.
        device: where to run.
        note: told what was decided on the way.

    Raises:
        DataError: sequences that cannot be read, or an answer that is not finite.
    """
    data, notes = _open(given)
    for text in notes:
        note(text)
    pipeline = pipeline_for(net, data)
    for start in range(0, len(data), batch_size):
        numbers = range(start, min(start + batch_size, len(data)))
        batch = join_tokens([pipeline(data.image(i), data.where(i)) for i in numbers])  # pyright: ignore - of sequences
        scores = as_logits(net, answer(net, batch.to(device)))
        bad = (~torch.isfinite(scores).all(1)).nonzero()
        if len(bad):
            raise DataError(f"the model's answer to {data.where(numbers[int(bad[0])])} is not finite: it has diverged")
        yield from ((data.ids[i], row) for i, row in zip(numbers, scores, strict=True))


def _open(given: Any) -> tuple[SequenceSet, list[str]]:
    if isinstance(given, list | tuple) and len(given) == 1:
        given = given[0]
    if isinstance(given, SequenceSet):
        return given, []
    if isinstance(given, list | tuple) and given and all(isinstance(text, str) for text in given):
        return _of_texts(given), []
    if isinstance(given, str) and not Path(given).exists() and given.isalpha() and given.isupper():
        return _of_texts([given]), []
    if isinstance(given, str | os.PathLike):
        text = os.fspath(given)
        path = Path(text.partition("?")[0]).expanduser()
        if text.startswith(SEQUENCES) or (path.is_file() and holds_sequences(text)):
            opened = one_split(open_sequences(text.removeprefix(SEQUENCES), labelled=False), "test")
        else:
            opened = open_split(text)
    elif isinstance(given, list | tuple) and given:
        wrong = next(k for k, text in enumerate(given) if not isinstance(text, str))
        raise DataError(f"sequences are texts of letters, got {given[wrong]!r} at place {wrong}; {_FORMS}")
    elif given is None or isinstance(given, list | tuple):
        raise DataError(f"no sequences were given; {_FORMS}")
    else:
        opened = open_split(given)
    if not isinstance(opened.images, SequenceSet):
        raise DataError(f"{opened.name} has {opened.images.noun}s, the model takes sequences of letters; {_FORMS}")
    answered = f"{opened.name} has splits: the {len(opened.images)} sequences of {opened.split} are answered"
    # That all of a source without splits is taken needs no note here.
    return opened.images, opened.notes[:-1] if opened.split == "all" else [*opened.notes, answered]


def _of_texts(texts: Sequence[str]) -> SequenceSet:
    ids = [str(k) for k in range(len(texts))]
    return SequenceSet(texts, np.zeros(len(texts), dtype=np.int64), ["?"], name="the sequences", ids=ids)
