"""What a model answers to sequences of letters."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import DataError
from zoo.models.class_scores import as_logits
from zoo.naming import did_you_mean
from zoo.training.data.bags_batch import answer
from zoo.training.data.sequence_files import SEQUENCES, holds_sequences, open_sequences
from zoo.training.data.sequences import SequenceSet, written
from zoo.training.data.source import BUILT_IN, Opened, one_split, open_split
from zoo.training.data.token_batch import join_tokens
from zoo.training.preparation import cut_notes, pipeline_for

#: A text that stands alone is one of letters if it has capitals only, which no data set has in its name.
_CAPITALS = re.compile(r"[A-Z\s*-]*")
_NAME = "the sequences"
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
        given: a source of sequences as `zoo.finetune` takes it, with or without labels; a text of capital letters; a
            list of texts of letters, which are called by their numbers.
        batch_size: sequences at a time.
        device: where to run.
        note: told what was decided on the way.

    Raises:
        DataError: sequences that cannot be read, or an answer that is not finite.
    """
    data, notes = _open(given)
    for text in [*notes, *cut_notes(net, [data])]:
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
    if isinstance(given, list | tuple) and len(given) == 1 and isinstance(given[0], os.PathLike | SequenceSet):
        given = given[0]
    if isinstance(given, SequenceSet):
        return given, []
    if given is None or (isinstance(given, list | tuple) and not given):
        raise DataError(f"no sequences were given; {_FORMS}")
    if isinstance(given, list | tuple):
        return _of_texts(given), []
    if isinstance(given, str) and not _is_there(given):
        if _CAPITALS.fullmatch(given):
            return _of_texts([given]), []
        if given.isalpha() and given not in BUILT_IN:
            near = did_you_mean(given[:40], BUILT_IN) or "."
            raise DataError(f"no data at {given[:40]!r}{near} A sequence is written in capitals, or in a list")
    opened = _opened(given)
    if not isinstance(opened.images, SequenceSet):
        raise DataError(f"{opened.name} has {opened.images.noun}s, the model takes sequences of letters; {_FORMS}")
    answered = f"{opened.name} has splits: the {len(opened.images)} sequences of {opened.split} are answered"
    # That all of a source without splits is taken needs no note here.
    return opened.images, opened.notes[:-1] if opened.split == "all" else [*opened.notes, answered]


def _opened(given: Any) -> Opened:
    if isinstance(given, str | os.PathLike):
        text = os.fspath(given)
        named = text.startswith(SEQUENCES)
        if named or (os.path.isfile(os.path.expanduser(text.partition("?")[0])) and holds_sequences(text)):
            return one_split(open_sequences(text.removeprefix(SEQUENCES), labelled=False), "test")
    return open_split(given)


def _of_texts(texts: list[Any] | tuple[Any, ...]) -> SequenceSet:
    """The texts of a list, each of which is one wherever it stands."""
    for k, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"sequences are texts of letters, got {text!r:.60} at place {k}; {_FORMS}")
        if text in BUILT_IN or (_is_there(text) and not _CAPITALS.fullmatch(text)):
            raise DataError(
                f"{text!r} at place {k} is the name of data, and a list is of sequences; give it alone, several FASTA "
                f"files as {SEQUENCES}a.fasta,b.fasta"
            )
    return written(texts, _NAME)


def _is_there(text: str) -> bool:
    """Whether there is a file or folder of this name; no text is too long for this question."""
    return bool(text) and os.path.exists(os.path.expanduser(text))
