"""`zoo.compare`: the same backbone with different parts, fine-tuned under the same recipe."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from zoo.composition import SLOTS
from zoo.device import check_device
from zoo.errors import MissingExtraError, TrainingError
from zoo.naming import check_keywords
from zoo.training.comparison_result import FILES, FORMAT, Comparison, Row, Run
from zoo.training.data.bags import BagSet
from zoo.training.data.source import open_splits
from zoo.training.finetuning import finetune
from zoo.training.measured_run import (
    Job,
    only_here,
    read_record,
    run_apart,
    run_here,
    users_entries,
    why_not_sent,
)
from zoo.training.model_source import model_name
from zoo.training.options import Options, check_seed
from zoo.training.out_folder import check_out, is_free
from zoo.training.progress import Progress
from zoo.training.randomness import kept_random_state
from zoo.training.run_folder import safe_name
from zoo.training.settings import resolve
from zoo.training.signals import StopRequest
from zoo.training.variants import Variant, build_without_memory, make_variants

#: Arguments of `zoo.finetune` that a comparison decides itself.
_OWN = ("model", "data", "out", "resume")
_IMPORTABLE = "define it in a file that can be imported"
_DEFAULTS = {k: p.default for k, p in inspect.signature(finetune).parameters.items() if k not in _OWN}


def compare(
    base: str | os.PathLike[str],
    data: Any,
    *,
    head: Any = None,
    mlp: Any = None,
    mixer: Any = None,
    pool: Any = None,
    act: Any = None,
    out: str | os.PathLike[str] | None = None,
    seeds: int = 1,
    **options: Any,
) -> Comparison:
    """Fine-tune variants of a model under the same recipe, and tell what each reaches and costs.

        zoo.compare("resnet18", "digits", head=["none", "kan"], epochs=10, seeds=3)

    A part that is given as a list makes a variant of each choice; of several lists, every combination. All variants
    see the same data in the same order with the same settings; each run has a process of its own, so that its peak
    memory is its own and the others go on if it fails. Before any training, every variant is built without memory, so
    that one that cannot be built is told at once.

    The results are in `out`: `comparison.csv`, `comparison.json`, `comparison.png` and a run folder for every variant
    and seed. The same call again trains only what is not finished; further choices and seeds can be added.

    In a script, call it under `if __name__ == "__main__":`, for every run imports the script. With a class that was
    typed into a notebook, which no other process can know, the runs take place in this one.

    Args:
        base: model by name: a registered name of ours or timm's, a run folder, `local-dir:…` or `hf-hub:…`.
        data: what `zoo.finetune` takes. It is sent to the runs' processes: a path is best, another object must be
            picklable.
        head, mlp, mixer, pool, act: what takes the place of which part, as in `zoo.create_model`: one choice, the same
            in all variants, or a list of choices. "none" (or `None` in a list) keeps what the model has.
        out: folder of the comparison: new, empty, or an earlier comparison's with the same settings. Default:
            `runs/compare-BASE-DATA`, numbered if that is taken.
        seeds: runs of each variant, with the seeds `seed`, `seed + 1`, …: they differ in the order of the data, in
            augmentation, in new parameters, and in what is held out where the data has no validation split.
        **options: of `zoo.finetune`: `epochs`, `batch_size`, `lr`, `pretrained`, `img_size`, `freeze`, `seed`,
            `device`, `progress`, ….

    Returns:
        The `Comparison`; printed, a table. A variant whose runs failed has `error` in its row.

    Raises:
        ValueError: nothing to compare, bags, data without a split to compare on, a setting out of range, or `out` holds
            other files.
        UnknownModelError, UnknownModuleError: no such model or module, with near names.
        UnsupportedSurgery: a variant that cannot be built, named before the reason.
        TypeError: an option that there is not; a module instead of a name; data that cannot be sent.
        TrainingError: `out` holds a comparison with other settings.
        MissingExtraError: without the extra `train`.
        KeyboardInterrupt, SystemExit: on Ctrl-C and SIGTERM, after the run under way has written a checkpoint.
    """
    check_keywords(options, [k for k in _DEFAULTS if k not in SLOTS], "zoo.compare")
    settings = {**_DEFAULTS, **options}
    _check_call(base, seeds, settings)
    check_seed(settings["seed"])
    variants = make_variants({"head": head, "mlp": mlp, "mixer": mixer, "pool": pool, "act": act})
    show = Progress(settings["progress"], settings["epochs"])
    with kept_random_state():
        splits = open_splits(data, val=settings["val"], seed=settings["seed"], on_bad=settings["on_bad"])
        if isinstance(splits.train, BagSet):
            raise ValueError(
                "zoo.compare exchanges parts of models of images, the data are bags of instances; train models of bags "
                "one by one, with other model_args (zoo train --model-arg KEY=VALUE)"
            )
        split = next((name for name in ("test", "val") if name in splits.present()), None)
        if split is None:
            raise ValueError(
                f"{splits.name} has no test split and val=False leaves none to compare on; leave val (--val) out"
            )
        given = {**settings, "model": base, "data": data}
        try:
            plan = resolve(given, splits, model_name(base))
        except ImportError as error:
            raise MissingExtraError("zoo.compare", getattr(error, "name", None) or "accelerate", "train") from error
        classes = len(splits.present()["train"].classes)
        sizes = [build_without_memory(base, v, classes, plan, settings["model_args"] or {}) for v in variants]
    facts = {
        "base": os.fspath(base),
        "data": {"name": splits.name, "fingerprint": splits.fingerprint()},
        "pretrained": settings["pretrained"],
        "early_stop": plan.early_stop,
        "options": plan.as_json(),
    }
    folder = _choose_folder(out, facts, plan, splits.name)
    numbers = range(plan.seed, plan.seed + seeds)
    rows = [
        Row(
            variant.label,
            variant.content,
            *size,
            [Run(seed, folder / variant.folder / f"seed-{seed}") for seed in numbers],
        )
        for variant, size in zip(variants, sizes, strict=True)
    ]
    for run in (run for row in rows for run in row.runs):
        check_out(run.folder, data, settings["val"])
    comparison = Comparison(os.fspath(base), splits.name, plan.monitor, split, rows, folder, facts)
    _check_sent(variants, data, settings)
    comparison.save()
    _run_all(comparison, variants, given, show)
    try:
        comparison.plot()
    except MissingExtraError as error:
        show.note(f"no plot: {error}")
    show.note(f"{', '.join(FILES)} in {folder}")
    return comparison


def _check_call(base: Any, seeds: Any, settings: Mapping[str, Any]) -> None:
    if isinstance(base, nn.Module) or not isinstance(base, str | os.PathLike):
        raise TypeError(
            f"zoo.compare takes a model by name, since it builds one for every variant; got a {type(base).__name__}"
        )
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        raise ValueError(f"seeds must be a whole number from 1, got {seeds!r}")
    if parts := sorted(set(settings["model_args"] or {}) & set(SLOTS)):
        raise ValueError(f"give {', '.join(parts)} to zoo.compare itself, not in model_args")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainingError("zoo.compare starts a process for every run itself: call it without accelerate launch")
    check_device(settings["device"])


def _check_sent(variants: Sequence[Variant], data: Any, settings: Mapping[str, Any]) -> None:
    """Refuse what the runs' processes could not be given.

    Raises:
        TypeError: with the reason.
    """
    sent = ("val", "model_args", "tracker", "callbacks")
    for name, value in {"data": data, **{k: v for k, v in settings.items() if k in sent}}.items():
        if reason := why_not_sent(value):
            way = "give a folder, an .npz file or arrays" if name in ("data", "val") else _IMPORTABLE
            raise TypeError(
                f"{name} is sent to the runs' processes, and a {type(value).__name__} cannot be ({reason}); {way}"
            )
    for variant in variants:
        if reason := why_not_sent(variant.parts):
            raise TypeError(
                f"{variant.label}: the class cannot be sent to the runs' processes ({reason}); {_IMPORTABLE}"
            )


def _choose_folder(out: str | os.PathLike[str] | None, facts: Mapping[str, Any], plan: Options, data_name: str) -> Path:
    """The folder of a comparison, as the folder of a run is chosen."""
    if out is not None:
        folder = Path(out).expanduser()
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"the folder of the comparison, {str(folder)!r}, is a file; choose another out (--out)")
        if not is_free(folder):
            stored = _stored(folder)
            if stored is None:
                raise ValueError(f"{str(folder)!r} holds other files and no comparison; choose another out (--out)")
            if differing := _differences(stored, facts, plan):
                raise TrainingError(
                    f"{folder} holds a comparison with other settings ({'; '.join(differing)}). Give them back to go "
                    "on with it, or take another out (--out)"
                )
        return folder
    number = 1
    while True:
        name = f"compare-{safe_name(model_name(facts['base']))}-{safe_name(data_name)}"
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        stored = None if is_free(folder) else _stored(folder)
        if is_free(folder) or (stored is not None and not _differences(stored, facts, plan)):
            return folder
        number += 1


def _stored(folder: Path) -> dict[str, Any] | None:
    """The settings of the comparison in a folder."""
    try:
        content = json.loads((folder / "comparison.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(content, dict) and content.get("format") == FORMAT and isinstance(content.get("settings"), dict)
    return content["settings"] if ours else None


def _differences(stored: Mapping[str, Any], facts: Mapping[str, Any], plan: Options) -> list[str]:
    now = dict(facts["options"])
    before = dict(stored.get("options") or {})
    found = [
        f"{key} was {stored.get(key)!r}, is {facts[key]!r}"
        for key in ("base", "pretrained", "early_stop")
        if stored.get(key) != facts[key]
    ]
    if stored.get("data") != facts["data"]:
        found.append("the data is another or has changed")
    names = plan.same_run(before)
    names = [n for n in names if n not in plan.derived] or names
    return found + [f"{n} was {before.get(n)!r}, is {now[n]!r}" for n in names if n != "model"]


def _run_all(comparison: Comparison, variants: Sequence[Variant], given: Mapping[str, Any], show: Progress) -> None:
    """Do what is not done; every seed of all variants before the next seed."""
    entries = users_entries()
    here = only_here([*(e.target for e in entries), *(part for v in variants for part in v.parts.values())])
    if here:
        show.note("no other process can know this session's classes or script: the runs take place in this one")
    runs = [
        (variant, row, row.runs[place])
        for place in range(len(comparison.rows[0].runs))
        for variant, row in zip(variants, comparison.rows, strict=True)
    ]
    with StopRequest() as stop:
        for number, (variant, row, run) in enumerate(runs, 1):
            title = f"run {number} of {len(runs)}: {row.variant}, seed {run.seed}"
            record_path = run.folder.with_name(f"{run.folder.name}.json")
            record = read_record(record_path)
            if record is not None and "error" not in record and run.folder.is_dir():
                run.take(record)
                show.note(f"{title}: finished before")
                continue
            show.note(title)
            arguments = {
                **given,
                "model": os.fspath(given["model"]),
                "out": run.folder,
                "seed": run.seed,
                "model_args": {**(given["model_args"] or {}), **variant.parts} or None,
            }
            record_path.parent.mkdir(parents=True, exist_ok=True)
            job = Job(record_path, arguments, comparison.metric, entries)
            record = run_here(job) if here else run_apart(job, stop)
            if stop.signal is not None:
                comparison.save()
                stop.leave(f"stopped in {title}; compare again with out={str(comparison.folder)!r} (--out) to go on")
            run.take(record)
            if run.error:
                show.note(f"{row.variant}, seed {run.seed} failed: {run.error}")
            comparison.save()
    comparison.save()
