"""`zoo list` and `zoo info`: the catalogue from the shell, without importing torch."""

from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cli._common import echo_json, friendly, human_count, print_table
from zoo.cli._words import base_in_words, composed_of, part_in_words
from zoo.errors import ConfigError, UnknownModelError, UnknownModuleError
from zoo.naming import did_you_mean, near_names
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
    uses: Annotated[str, typer.Option(help="Only models of ours built with this module, e.g. 'mlp/kan'.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List models, or modules with --modules."""
    if modules or kind:
        option = "--modules" if modules else "--kind"
        for other, given in (("--pretrained", pretrained), ("--source", source != "zoo"), ("--uses", bool(uses))):
            if given:
                raise typer.BadParameter(f"it is about models, and {option} lists modules", param_hint=other)
        entries = [module_entry(n) for n in list_modules(filter, kind=kind)]
        if json:
            echo_json([_facts(e, e.name) for e in entries])
            return
        print_table(["module", "layout", "what"], [[e.name, e.layout, e.summary] for e in entries])
        return
    names = list_models(filter, pretrained=pretrained, source=source, uses=module_entry(uses).name if uses else "")
    if uses:
        names = [n for n in names if default_registry().is_model(n)]  # what timm's are built with is not known
    if not names and not json:
        wanted = f"{filter!r}{did_you_mean(filter, default_registry().names())}" if filter else f"--uses {uses}"
        typer.echo(f"no model matches {wanted}", err=True)
    if json:
        echo_json([_facts(model_entry(n), n) if default_registry().is_model(n) else {"name": n} for n in names])
        return
    columns = ["model", "parameters", "input", "weights", "base", "what"]
    print_table(columns, [_row(n) for n in names], right=("parameters",))


def _row(name: str) -> list[str]:
    if not default_registry().is_model(name):
        return [name, "–", "–", "–", "–", "timm"]
    entry = model_entry(name)
    size = "×".join(map(str, entry.input_size)) if entry.input_size else "–"
    tag = split_model_name_tag(name)[1]
    tags = tag or ", ".join(list_tags(entry.name)) or "–"
    what = entry.summary if name.partition(".")[0] == entry.name else f"alias of {entry.name}"
    base, _ = composed_of(entry.args)
    return [name, human_count(entry.params), size, tags, base or "–", what]


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
    base, parts = composed_of(entry.args)
    facts |= {
        "canonical_name": entry.name,
        "base": base,
        "parts": parts,
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


def _describe_saved(name: str) -> dict[str, Any]:
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
    base, parts = composed_of(config.model_args)
    return {
        "name": name,
        "architecture": config.architecture,
        "base": base,
        "parts": parts,
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


def _describe_module(name: str) -> dict[str, Any]:
    """A module's facts with its signature, options and contract: it is imported, which imports torch."""
    from zoo.registry import module_info

    kind, _, rest = name.partition("/")
    if Path(name).is_file():
        raise ConfigError(f"{name} is a file: zoo info describes the folder of a saved model, {Path(name).parent}")
    if kind not in KINDS or not rest:
        hint = did_you_mean(name, default_registry().names(models=False)) or "."
        hub = f"; a repository on the Hub is hf-hub:{name}" if rest and "/" not in rest else ""
        words = f"there is no folder and no module {name!r}{hint} A module is KIND/NAME, KIND one of {', '.join(KINDS)}"
        raise UnknownModuleError(words + hub)
    info = module_info(name)
    entry = module_entry(name)
    return _facts(entry, entry.name) | {key: info[key] for key in ("contract", "signature", "options")}


def _describe_timm(name: str) -> dict[str, Any]:
    """A model of timm's: what its own configuration says, and what of it can be replaced."""
    import timm
    import torch

    from zoo.composition import Spec, replaceable
    from zoo.composition.composite import without_memory

    arch, tag = split_model_name_tag(name)
    if not timm.is_model(arch):
        try:
            model_entry(name, timm.list_models())  # raises, with near names
        except UnknownModelError as error:
            raise UnknownModelError(f"{error}{_modules_meant(name, str(error))}") from None
    tags = [n.partition(".")[2] for n in timm.list_models(f"{arch}.*", include_tags=True)]
    if tag and tag not in tags:
        hint = did_you_mean(tag, tags) or "."
        raise UnknownModelError(f"{arch!r} has no checkpoint tagged {tag!r}{hint} Tags: {', '.join(tags) or 'none'}")
    cfg: Any = timm.models.get_pretrained_cfg(name)
    model = without_memory(Spec(arch))
    if model is None:  # its constructor computes with values
        model = timm.create_model(arch)
    places: dict[str, list[str]] = {}
    with torch.no_grad():
        for slot, found in replaceable(model).items():
            places[slot] = found.paths
    return {
        "name": name,
        "kind": "model",
        "source": f"timm {timm.__version__}",
        "input_size": list(cfg.input_size) if cfg else None,
        "num_classes": cfg.num_classes if cfg else None,
        "params": sum(p.numel() for p in model.parameters()),
        "licence": getattr(cfg, "license", None),
        "checkpoints": tags,
        "replaceable": {slot: {"places": len(paths), "paths": paths} for slot, paths in places.items()},
    }


def _modules_meant(name: str, said: str) -> str:
    """The rest of a message `said` of an unknown model: modules of that name, else of near names if it has no other."""
    modules = default_registry().modules
    names = [name.lower()]
    if "did you mean" not in said:
        names += near_names(name, [e.short_name for e in modules])
    meant = [e.name for n in dict.fromkeys(names) for e in modules if e.short_name == n]
    start = " There are" if said.endswith("?") else "; there are"
    return f"{start} modules {', '.join(map(repr, meant))}" if meant else ""


def _in_words(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts for people: what is nested, one line a thing."""
    shown: dict[str, Any] = {}
    for key, value in facts.items():
        if key == "base" and value:
            shown["base"] = base_in_words(value)
        elif key == "parts":
            shown |= {slot: part_in_words(slot, part) for slot, part in value.items()}
        elif key == "args" and facts.get("base"):
            shown[key] = {k: v for k, v in value.items() if k not in ("base", *facts["parts"])}
        elif key == "files":
            shown[key] = list(value)
        elif key == "contract":
            shown |= {"built as": value["constructor"], "called as": value["call"]}
        elif key == "options":
            shown[key] = [f"{k}={v!r}" for k, v in value.items()]
        elif key == "replaceable":
            shown["can be replaced"] = [f"{slot} ({_places(found['paths'])})" for slot, found in value.items()]
        else:
            shown[key] = value
    return shown


def _places(paths: list[str]) -> str:
    if paths == ["zoo_pool"]:  # the name that a module gets there
        return "computed in the forward pass"
    return paths[0] if len(paths) == 1 else f"{len(paths)} places, {paths[0]} … {paths[-1]}"


def _print_facts(facts: dict[str, Any]) -> None:
    facts = _in_words(facts)
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
            help="A model of ours ('medvit2_kan', 'medvit2_kan_nano.digits') or timm's ('resnet50'), a module "
            "('mlp/kan'), a run or model folder, or hf-hub:USER/REPO."
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what is known of a model or a module: paper, sizes, input, checkpoints, what it is made of."""
    if name.partition(":")[0].lower() in ("hf-hub", "hf_hub", "local-dir") or Path(name).is_dir():
        facts = _describe_saved(name)
    elif "/" in name:
        facts = _describe_module(name)
    elif default_registry().is_model(name):
        entry = model_entry(name)
        weights_entry(name)  # an unknown tag is refused here
        facts = _facts(entry, name)
    else:
        facts = _describe_timm(name)
    if json:
        echo_json(facts)
        return
    checkpoints = facts.pop("checkpoints", [])
    if checkpoints and isinstance(checkpoints[0], str):
        facts["checkpoints"], checkpoints = checkpoints, []
    _print_facts(facts)
    for checkpoint in checkpoints:
        typer.echo(f"\ncheckpoint {facts['canonical_name']}.{checkpoint.pop('tag')}")
        _print_facts(checkpoint)
