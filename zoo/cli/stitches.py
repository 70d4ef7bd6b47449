"""`zoo stitches`: the networks that a stitched network holds, what they cost, and how good they are."""

from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cli._common import echo_json, friendly, human_count, print_table


@friendly
def stitches(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A stitched network: NAME, a run folder, local-dir: or hf-hub:.")
    ],
    budget_flops: Annotated[float | None, typer.Option(help="Only paths of at most so many FLOPs, 3e9 say.")] = None,
    budget_params: Annotated[float | None, typer.Option(help="Only paths of at most so many parameters.")] = None,
    data: Annotated[str | None, typer.Option(help="Measure all paths on it; what zoo eval takes.")] = None,
    split: Annotated[str, typer.Option(help="train, val or test of --data.")] = "test",
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 64,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps; default the best there is.")] = None,
    pareto: Annotated[bool, typer.Option("--pareto", help="Only paths that no other beats.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A new JSON file for what --data gives.")] = None,
    plot: Annotated[Path | None, typer.Option(help="A PNG file of accuracy over FLOPs.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the paths of MODEL, from cheap to dear; with --data, how many images each gets right."""
    if data is None and out is not None:
        raise typer.BadParameter("it is for what --data gives", param_hint="--out")
    net, rows = _rows(model, data, split=split, batch_size=batch_size, device=device, out=out)
    if plot is not None:
        from zoo.explain.pareto import plot_pareto

        plot_pareto(rows, plot, title=model)
    if pareto:
        from zoo.explain.pareto import pareto as best

        rows = best(rows)
    for limit, cost in ((budget_flops, "flops"), (budget_params, "params")):
        if limit is not None:
            within = [row for row in rows if row[cost] <= limit]
            if not within:
                net.set_budget(**{cost: limit})  # raises, with the cheapest
            rows = within
    rows = sorted(rows, key=lambda row: (row["flops"], row["id"]))
    if json:
        echo_json(rows)
        return
    cells = [
        [
            str(row["id"]),
            _route([(net.anchor_names[a], net.anchor_labels[a]) for a in row["anchors"]]),
            " ".join(f"{front}→{end}" for front, end in row["cuts"]) or "–",
            "–" if row["stage"] is None else str(row["stage"]),
            human_count(row["flops"]),
            human_count(row["params"]),
            "–" if row["top1"] is None else f"{row['top1']:.2f}",
        ]
        for row in rows
    ]
    print_table(
        ["id", "anchors", "cuts", "stage", "FLOPs", "parameters", "top-1 (%)"],
        cells,
        right=("id", "FLOPs", "parameters", "top-1 (%)"),
    )


def _route(anchors: list[tuple[str, str]]) -> str:
    """The anchors of a path, a name that does not change once."""
    before, words = "", []
    for name, label in anchors:
        words.append(label.removeprefix(f"{name} ") if name == before else label)
        before = name
    return " → ".join(words)


def _rows(model: str, data: str | None, **options: Any) -> tuple[Any, list[dict[str, Any]]]:
    """The network and its paths; without data no weights are read, but what is known of those that the name means."""
    from dataclasses import asdict

    import torch

    from zoo.factory import create_model
    from zoo.models.stitching.checks import no_stitched_network
    from zoo.models.stitching.network import StitchNet
    from zoo.sources import known_of, resolve
    from zoo.training.model_source import ready_model, resolve_name

    if data is None:
        name = resolve_name(model)
        with torch.device("meta"):
            net: Any = create_model(name, pretrained=False, **known_of(resolve(name, {}, allow_pickle=False)))
    else:
        net = ready_model(model)
    if not isinstance(net, StitchNet):
        raise no_stitched_network(net, model)
    if data is None:
        return net, [asdict(row) for row in net.stitches if row.usable or net.allow_empty_end]
    from zoo.training.stitches import evaluate_stitches

    return net, evaluate_stitches(net, data, **options)
