"""The Accelerate side of a run: device, processes and precision, without disturbing an Accelerator of the caller."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import nn

from zoo.device import check_device
from zoo.errors import TrainingError

PRECISIONS = ("auto", "no", "bf16", "fp16")


def resolve_amp(amp: str, device: str | None = None) -> str:
    """The precision of a run: "no", "bf16" or "fp16".

    "auto" takes what `accelerate launch` was told, else bfloat16 on CUDA devices that have it, float16 on others, and
    no reduced precision off CUDA.

    Raises:
        ValueError: an unknown word, or "fp16" without CUDA.
    """
    if amp not in PRECISIONS:
        raise ValueError(f"amp must be one of {', '.join(PRECISIONS)}, got {amp!r}")
    on_cuda = torch.cuda.is_available() and (device or "cuda").startswith("cuda")
    if amp == "auto":
        told = os.environ.get("ACCELERATE_MIXED_PRECISION", "")
        if told in PRECISIONS[1:]:
            return told
        return ("bf16" if torch.cuda.is_bf16_supported() else "fp16") if on_cuda else "no"
    if amp == "fp16" and not on_cuda:
        raise ValueError("amp='fp16' needs a CUDA device; use amp='bf16' or amp='no' (--amp bf16, --amp no)")
    return amp


def check_accelerate_device(device: str | None) -> None:
    """Refuse a device that Accelerate cannot take, or that is not there.

    Raises:
        ValueError: naming what can be taken.
    """
    if device not in (None, "cpu", "cuda", "mps"):
        raise ValueError(
            f"device must be None, 'cpu', 'cuda' or 'mps', got {device!r}; pick a GPU with CUDA_VISIBLE_DEVICES"
        )
    check_device(device)


#: What `accelerate launch` sets in the environment for ways of running that are not supported, and their names.
_SHARDED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config",
}


def _check_launch() -> None:
    """Refuse a launch that splits the model over the processes: a run's checkpoints hold it whole.

    Raises:
        TrainingError: naming what was asked for, and what to use instead.
    """
    for variable, name in _SHARDED.items():
        if os.environ.get(variable, "").lower() in ("1", "true", "yes", "on"):
            raise TrainingError(
                f"zoo.finetune does not run under {name} ({variable}): every process holds the whole model. Launch "
                "without it (accelerate launch --multi_gpu …); if memory is short, use amp='bf16', "
                "model.set_grad_checkpointing(), batch_size='auto' or lora=8"
            )


_TRACES = ("forward", "_original_forward", "_is_accelerate_prepared")


@contextmanager
def untouched(model: nn.Module) -> Iterator[Callable[[], None]]:
    """Remove at the end what Accelerate leaves on a model that it has prepared; yields what removes it earlier.

    Its autocast wrapper would stay on `forward`, and its mark would keep a later run from preparing the model.
    """

    def give_back() -> None:
        for name in _TRACES:
            vars(model).pop(name, None)
        vars(model).update(before)

    before = {name: vars(model)[name] for name in _TRACES if name in vars(model)}
    for name in _TRACES[1:]:
        vars(model).pop(name, None)
    try:
        yield give_back
    finally:
        give_back()


@contextmanager
def engine(amp: str, device: str | None = None, *, unused_parameters: bool = False) -> Iterator[Accelerator]:
    """An Accelerator for one call.

    Accelerate keeps its state in class attributes, one precision a process. Those are put back at the end, so that
    runs of different precision can follow one another and a caller's own Accelerator is not changed.

    Args:
        amp: "no", "bf16" or "fp16".
        device: None for Accelerate's choice, or "cpu".
        unused_parameters: parameters may sit out an update (gradual unfreezing with several processes).

    Raises:
        ValueError: another device than these, or one that is not there.
        TrainingError: a launch that splits the model over the processes, or whose processes do not know of one another.
    """
    check_accelerate_device(device)
    _check_launch()
    states = [AcceleratorState, GradientState]
    alone = not PartialState._shared_state or PartialState().num_processes == 1
    if alone and not torch.distributed.is_initialized():
        states.append(PartialState)
    kept = [dict(state._shared_state) for state in states]
    for state in states:
        state._shared_state.clear()
    try:
        accelerator = Accelerator(
            mixed_precision=amp,
            cpu=device == "cpu",
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused_parameters)],
        )
        started = int(os.environ.get("WORLD_SIZE", "1"))
        if accelerator.num_processes != started:
            raise TrainingError(
                f"{started} processes were started, but Accelerate runs this one alone: processes without a GPU each "
                "work together with device='cpu' (--device cpu)"
            )
        yield accelerator
    finally:
        # A process group that Accelerate opened lives on, and so does what it knows of it.
        if PartialState in states and PartialState().num_processes > 1:
            kept, states = kept[:-1], states[:-1]
        for state, values in zip(states, kept, strict=True):
            state._shared_state.clear()
            state._shared_state.update(values)
