"""The command that does a run again."""

from __future__ import annotations

import inspect
import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from zoo.composition import SLOTS
from zoo.registry import is_model
from zoo.training.recorded import AUTOMATIC
from zoo.training.reporting.facts import RunFacts

#: Settings that are said otherwise, or that change nothing in what is learned.
_LEFT_OUT = {"model", "model_args", "workers", "save_every", "keep_last"}
#: Settings that only Python takes.
_PYTHON = ("transform", "scale")
#: A validation split and a teacher that were objects of Python's.
_OBJECTS = {"val": "VAL", "teacher": "TEACHER"}
#: Settings of what some runs do not have, which are stored as None then.
_PERHAPS = ("distillation", "distillation_alpha", "distillation_tau", "stitch_sampling", "stitch_init")


def command(run: RunFacts) -> str:
    """`zoo train …` with the settings of a run that are not the defaults; or a call of `zoo.finetune`, where a shell
    cannot say it. What the run does not know is written MODEL, DATA, VAL and TEACHER.
    """
    defaults = _defaults()
    changed = {k: v for k, v in settings(run).items() if k in defaults and v != defaults[k]}
    plan = changed.get("unfreeze") or {}
    if any(name in changed for name in _PYTHON) or any(isinstance(spec, list) for spec in plan.values()):
        return _call(run, changed)
    words = ["zoo", "train", _model(run), run.source or "DATA"]
    for slot, part in _parts(run).items():
        words += [f"--{slot}", _part(part)]
    for name, value in _other(run).items():
        words += ["--model-arg", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    if isinstance(started := run.given.get("pretrained"), bool):
        words.append("--pretrained" if started else "--from-scratch")
    for name, value in changed.items():
        words += _option(name, value)
    return shlex.join(words)


def settings(run: RunFacts) -> dict[str, Any]:
    """The settings of a run; those that follow from others as if they had been left alone."""
    found: dict[str, Any] = {
        k: v for k, v in run.options.items() if k not in _LEFT_OUT and (v is not None or k not in _PERHAPS)
    }
    if found.get("warmup_epochs") == min(5.0, found["epochs"] / 10):
        found["warmup_epochs"] = None
    if found["monitor"] == ("auroc" if run.multi_label else "accuracy"):
        found["monitor"] = "auto"
    if "clip_grad" in found:
        found["clip_grad"] = found["clip_grad"] or 0
    if found.get("unfreeze"):
        found["unfreeze"] = {int(epochs): spec for epochs, spec in found["unfreeze"].items()}
    for name in ("val", "on_bad", "teacher"):
        if name in run.given:
            found[name] = run.given[name]
    for name, word in _OBJECTS.items():
        if isinstance(found.get(name), dict):
            found[name] = word
    for name in AUTOMATIC:
        # The rate also follows the number of processes, which no command of one process repeats.
        if name in found and run.given.get(name) == "auto" and (name != "lr" or run.args["processes"] == 1):
            found[name] = "auto"
    if run.given.get("class_weights"):
        found["class_weights"] = run.given["class_weights"]
    return found


def unknown(run: RunFacts) -> list[str]:
    """The words in capitals of the command: what the run does not know."""
    said = settings(run)
    known = {"MODEL": _model(run) != "MODEL", "DATA": bool(run.source)}
    known |= {word: said.get(name) != word for name, word in _OBJECTS.items()}
    return [word for word, is_known in known.items() if not is_known]


def changed_settings(run: RunFacts) -> set[str]:
    """The names of the settings that differ from the defaults."""
    defaults = _defaults()
    return {k for k, v in settings(run).items() if k in defaults and v != defaults[k]}


def _defaults() -> dict[str, Any]:
    from zoo.training.finetuning import finetune

    return {
        name: parameter.default
        for name, parameter in inspect.signature(finetune).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }


def _call(run: RunFacts, changed: Mapping[str, Any]) -> str:
    model = _model(run)
    source = repr(run.source) if run.source else "DATA"
    words = [model if model == "MODEL" else repr(model), source]
    if arguments := {**_parts(run), **_other(run)}:
        words.append(f"model_args={arguments!r}")
    if isinstance(started := run.given.get("pretrained"), bool):
        words.append(f"pretrained={started}")
    words += [f"{k}={v if v == _OBJECTS.get(k, ...) else repr(v)}" for k, v in changed.items()]
    return f"zoo.finetune({', '.join(words)})"


def _model(run: RunFacts) -> str:
    given = run.given.get("model")
    if isinstance(given, str):
        return given
    if "model" in run.given:
        return "MODEL"  # a module, of which the name says too little
    name = run.options["model"]
    if is_model(name):
        return name
    import timm

    return name if timm.is_model(name) else "MODEL"


def _made_of(run: RunFacts) -> dict[str, Any]:
    """What a named model was made with; a module has its parts already."""
    module = "model" in run.given and run.given["model"] is None
    return {} if module else run.options.get("model_args") or {}


def _parts(run: RunFacts) -> dict[str, Any]:
    given = _made_of(run)
    return {slot: given[slot] for slot in SLOTS if given.get(slot) is not None}


def _other(run: RunFacts) -> dict[str, Any]:
    return {k: v for k, v in _made_of(run).items() if k not in SLOTS}


def _part(part: Any) -> str:
    if isinstance(part, Mapping) and set(part) == {"type"}:
        part = part["type"]
    return part if isinstance(part, str) else json.dumps(part)


def _option(name: str, value: Any) -> Iterator[str]:
    flag = f"--{name.replace('_', '-')}"
    if value is False:
        yield from (flag, "no") if name == "val" else (f"--no-{name.replace('_', '-')}",)
    elif value is True:
        yield flag
    elif name == "freeze":
        for pattern in [value] if isinstance(value, str) else value:
            yield from (flag, pattern)
    elif name == "unfreeze":
        for epochs, spec in value.items():
            yield from (flag, f"{epochs}:{spec or 'none'}")
    elif name == "class_weights" and not isinstance(value, str):
        yield from (flag, ",".join(map(str, value)))
    else:
        yield from (flag, json.dumps(value) if isinstance(value, dict | list) else str(value))
