"""`zoo list` and `zoo info`: the catalogue from the shell, without importing torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cli._common import echo_json, friendly, human_count, print_table
from zoo.naming import did_you_mean
from zoo.registry import (
    KINDS,
    Entry,
    default_registry,
    list_models,
    list_modules,
    list_tags,
    model_entry,
    module_entry,
    split_model_name_tag,
    weights_entry,
)


@friendly
def list_(
    filter: Annotated[str, typer.Argument(help="Wildcard pattern, for instance 'medvit2*'; all without it.")] = "",
    modules: Annotated[
        bool, typer.Option("--modules", help="List modules (heads, mlps, mixers, …), not models.")
    ] = False,
    kind: Annotated[str, typer.Option(help=f"Only modules of this kind: {', '.join(KINDS)}.")] = "",
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Only models with weights, with their tags.")
    ] = False,
    source: Annotated[str, typer.Option(help="'zoo' (ours), 'timm' or 'all'; the last two import timm.")] = "zoo",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List models, or modules with --modules."""
    if modules or kind:
        entries = [module_entry(n) for n in list_modules(filter, kind=kind)]
        if json:
            echo_json([_facts(e, e.name) for e in entries])
            return
        print_table(["module", "layout", "what"], [[e.name, e.layout, e.summary] for e in entries])
        return
    names = list_models(filter, pretrained=pretrained, source=source)
    if not names and not json:
        typer.echo(f"no model matches {filter!r}{did_you_mean(filter, default_registry().names())}", err=True)
    if json:
        echo_json([_facts(model_entry(n), n) if default_registry().is_model(n) else {"name": n} for n in names])
        return
    print_table(["model", "parameters", "input", "weights", "what"], [_row(n) for n in names], right=("parameters",))


def _row(name: str) -> list[str]:
    if not default_registry().is_model(name):
        return [name, "–", "–", "–", "timm"]
    entry = model_entry(name)
    size = "×".join(map(str, entry.input_size)) if entry.input_size else "–"
    tag = split_model_name_tag(name)[1]
    tags = tag or ", ".join(list_tags(entry.name)) or "–"
    what = entry.summary if name.partition(".")[0] == entry.name else f"alias of {entry.name}"
    return [name, human_count(entry.params), size, tags, what]


def _facts(entry: Entry, name: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "name": name,
        "kind": entry.kind,
        "family": entry.family.name,
        "summary": entry.summary,
        "paper": entry.family.paper,
        "arxiv": entry.family.arxiv,
        "year": entry.family.year,
        "upstream": entry.family.upstream,
        "upstream_licence": entry.family.licence,
        "source": entry.source,
    }
    if entry.kind != "model":
        return facts | {"layout": entry.layout}
    facts |= {
        "canonical_name": entry.name,
        "aliases": list(entry.aliases),
        "input_size": entry.input_size,
        "params": entry.params,
        "macs": entry.macs,
        "uses": list(entry.uses),
        "args": dict(entry.args),
        "checkpoints": [_weights_facts(f"{entry.name}.{tag}") for tag in list_tags(entry.name)],
    }
    return facts


def _weights_facts(name: str) -> dict[str, Any]:
    row = weights_entry(name)
    if row is None:
        return {}
    return {
        "tag": row.tag,
        "default": row.default,
        "where": "ships with the package" if row.path else f"hf-hub:{row.repo}@{row.revision}",
        "size": row.size,
        "sha256": row.sha256,
        "num_classes": row.num_classes,
        "licence": row.licence,
        "data": row.data,
        "metrics": dict(row.metrics),
        "command": row.command,
    }


def _describe_saved(name: str, json: bool) -> None:
    """What the config.json of a run, a folder or a repository says; reads no weights, builds no model."""
    from zoo.weights import read_config

    scheme, _, rest = name.partition(":")
    if scheme.lower() in ("hf-hub", "hf_hub"):
        from zoo.weights.hub import pull, split_repo

        snapshot = pull(*split_repo(rest))
        config = read_config(snapshot.folder, origin=snapshot.origin)
    else:
        folder = Path(rest if scheme.lower() == "local-dir" else name)
        config = read_config(next((f for f in (folder, folder / "best") if (f / "config.json").is_file()), folder))
    cfg = config.pretrained_cfg
    facts = {
        "name": name,
        "architecture": config.architecture,
        "num_classes": config.num_classes,
        "input_size": cfg.get("input_size"),
        "label_names": list(cfg.get("label_names") or []),
        "licence": cfg.get("license"),
        "params": config.zoo.get("params"),
        "args": config.model_args,
        "metrics": {m["name"]: m["value"] for m in config.zoo.get("metrics") or []},
        "files": config.files,
        "written_by": f"zoo {config.zoo['version']}" if "version" in config.zoo else None,
    }
    if json:
        echo_json(facts)
    else:
        _print_facts(facts)


def _print_facts(facts: dict[str, Any]) -> None:
    width = max(len(key) for key in facts) + 2
    for key, value in facts.items():
        if value in ("", None, [], {}):
            continue
        if key in ("params", "macs"):
            value = f"{value:,} ({human_count(value)})"
        elif key == "size":
            value = f"{value:,} bytes ({human_count(value)}B)"
        elif isinstance(value, list | tuple):
            value = " × ".join(map(str, value)) if key == "input_size" else ", ".join(map(str, value))
        elif isinstance(value, dict):
            value = ", ".join(f"{k} {f'{v:.4f}' if isinstance(v, float) else v}" for k, v in value.items())
        typer.echo(f"{key.replace('_', ' '):<{width}}{value}")


@friendly
def info(
    name: Annotated[
        str,
        typer.Argument(
            help="A model ('medvit2_kan', 'medvit2_kan_nano.digits'), a module ('mlp/kan'), a run or model folder, "
            "or hf-hub:USER/REPO."
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what is known of a model or a module: paper, sizes, input, checkpoints."""
    if name.partition(":")[0].lower() in ("hf-hub", "hf_hub", "local-dir") or Path(name).is_dir():
        _describe_saved(name, json)
        return
    if "/" in name:
        entry = module_entry(name)
    else:
        entry = model_entry(name)
        weights_entry(name)  # an unknown tag is refused here
    facts = _facts(entry, name)
    if json:
        echo_json(facts)
        return
    checkpoints = facts.pop("checkpoints", [])
    _print_facts(facts)
    for checkpoint in checkpoints:
        typer.echo(f"\ncheckpoint {entry.name}.{checkpoint.pop('tag')}")
        _print_facts(checkpoint)
