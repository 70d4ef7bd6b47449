"""`zoo karyotype`: types for the chromosomes of patient cases, out of their probabilities."""

import csv
import io
import math
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cli._common import echo_json, friendly, print_table

#: Endings of --out, and what stands between its columns.
_SEPARATORS = {".csv": ",", ".tsv": "\t"}


@friendly
def karyotype(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Log-probabilities of chromosomes: .csv or .tsv with a column for every type (1 to 22, X, Y) and one "
            "named case (case_id, patient, patient_id), between commas, semicolons or tabs; .npy [N, 24]; .npz or "
            ".safetensors with log_probs and sizes or case_ids.",
        ),
    ],
    case: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of cases, if it has another name.")
    ] = None,
    values: Annotated[str, typer.Option(help="What is in the file: log-probs, probs or logits.")] = "log-probs",
    temperature: Annotated[float, typer.Option(help="Calibration: what logits are divided by.")] = 1.0,
    sex: Annotated[str, typer.Option(help="XX, XY, or auto: whichever costs less.")] = "auto",
    gain: Annotated[float, typer.Option(help="Price of a copy too many: minus its log odds.")] = math.log(1000),
    loss: Annotated[float, typer.Option(help="Price of a copy too few.")] = math.log(1000),
    max_extra: Annotated[int, typer.Option(help="The most copies of a type above what is normal.")] = 2,
    strict: Annotated[
        bool, typer.Option("--strict", help="Force the normal karyotype: hides gains and losses.")
    ] = False,
    method: Annotated[str, typer.Option(help="optimal, or greedy: a baseline.")] = "optimal",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A new .csv or .tsv file with the type of every chromosome.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out if it is there.")] = False,
    details: Annotated[bool, typer.Option("--details", help="Every chromosome of every case.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr.")] = False,
) -> None:
    """Give every chromosome of a case a type, as cheaply as karyotypes allow. Not a medical device.

    zoo karyotype probabilities.csv --values probs --temperature 1.4 --out types.csv
    """
    if out is not None and out.suffix.lower() not in _SEPARATORS:
        raise ValueError(f"--out must end with {' or '.join(_SEPARATORS)}, which it is; got {out.name}")
    if out is not None and out.exists() and not overwrite:
        raise FileExistsError(f"{out} is there already; --overwrite replaces it")
    from zoo.karyotype.dispatching import dispatch_cases
    from zoo.karyotype.files import read_chromosomes

    rows = read_chromosomes(source, values, temperature, case=case)
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        found = dispatch_cases(
            rows.log_probs, case_ids=[rows.cases[number] for number in rows.case_ids],
            sex=sex, gain=gain, loss=loss, max_extra=max_extra, strict=strict,
            method=method,  # pyright: ignore[reportArgumentType] - any text, which dispatch refuses by name
        )  # fmt: skip
    by_name = dict(zip(sorted(rows.cases), found, strict=True))
    cases = [(name, by_name[name]) for name in rows.cases]  # in the order of the file
    if out is not None:
        from zoo.files import write_text

        write_text(out, _csv(cases, rows.names, _SEPARATORS[out.suffix.lower()]))
    if as_json:
        echo_json(
            [{"case": name, **one.to_dict(), "names": [rows.names[row] for row in one.rows]} for name, one in cases]
        )
    elif details:
        for name, one in cases:
            typer.echo(f"case {name}: {one.table()}")
    else:
        print_table(
            ["case", "karyotype", "chromosomes", "cost", "overruled"],
            [
                [name, one.karyotype, str(len(one)), f"{one.cost:.4g}", _overruled(one, rows.names)]
                for name, one in cases
            ],
            right=("chromosomes", "cost"),
        )
    if not quiet:
        count = sum(len(one.overruled) for one in found)
        those = {0: "no chromosome was overruled", 1: "look at the chromosome that was overruled"}
        told = those.get(count, f"look at the {count} chromosomes that were overruled")
        forced = " the normal karyotype was forced: gains and losses do not show;" if strict else ""
        for note in rows.notes:
            typer.echo(f"zoo: {note}", err=True)
        for remark in remarks:
            typer.echo(f"zoo: {remark.message}", err=True)
        typer.echo(f"zoo: not a medical device;{forced} {told}", err=True)


def _overruled(one: Any, names: list[str]) -> str:
    return "; ".join(f"{names[one.rows[x.index]]}: {x.likeliest}→{x.given}" for x in one.overruled) or "–"


def _csv(cases: list[tuple[str, Any]], names: list[str], separator: str) -> str:
    """A row per chromosome, in the order of the file."""
    lines: dict[int, list[str]] = {}
    for case, one in cases:
        given_up = {x.index: x for x in one.overruled}
        for place, row in enumerate(one.rows.tolist()):
            x = given_up.get(place)
            probability = f"{math.exp(one.log_probs[place]):.6g}"
            more = ["", ""] if x is None else [x.likeliest, f"{x.log_odds:.6g}"]
            lines[row] = [case, names[row], one.names[place], probability, *more, one.karyotype]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow(["case", "chromosome", "type", "probability", "likeliest_alone", "log_odds_given_up", "karyotype"])
    writer.writerows(lines[row] for row in sorted(lines))
    return text.getvalue()
