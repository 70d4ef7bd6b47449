"""`zoo export`: a model as a file that runs without this package."""

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli._common import echo_json, friendly


@friendly
def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="NAME.TAG, a run folder, local-dir:FOLDER or hf-hub:USER/REPO.")
    ],
    to: Annotated[
        str | None, typer.Option(help="onnx or torch-export; default by the ending of --out, else onnx.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file; default MODEL.onnx or MODEL.pt2.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images, bags or rows at a time; any number by default.")] = None,
    opset: Annotated[
        int | None, typer.Option(help="Version of the ONNX operators, from 18; default the exporter's.")
    ] = None,
    img_size: Annotated[int | None, typer.Option(help="Height and width; default the model's.")] = None,
    stitch: Annotated[int | None, typer.Option(help="Of a stitched network this path alone (zoo stitches).")] = None,
    tolerance: Annotated[float, typer.Option(help="Largest difference to the model, of its largest output.")] = 1e-3,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Run the file and compare.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write MODEL, with its weights, as an ONNX or torch.export file, and check the file against the model."""
    from zoo.exporting import BAG_INPUTS, FORMATS, ROW_INPUT, check_options, export, format_of
    from zoo.factory import create_model
    from zoo.training.model_source import resolve_name

    name = resolve_name(model)
    form = format_of(out, to) if out else format_of(Path(), to or "onnx")
    stem = "".join(c if c.isalnum() or c in "._-" else "-" for c in Path(name.partition(":")[2] or name).name)
    target = out or Path(f"{stem}{FORMATS[form]}")
    check_options(target, form, batch=batch, opset=opset, tolerance=tolerance)
    typer.echo(f"Exporting {model} ...", err=True)
    alone = {} if stitch is None else {"stitch": stitch, "standalone": True}
    try:
        built = create_model(name, pretrained=True, img_size=img_size, **alone)
    except TypeError as error:
        if stitch is None or "'stitch'" not in str(error):
            raise
        raise TypeError(f"--stitch is for stitched networks, {model} is none") from error
    done = export(
        built,
        target,
        to=form,
        batch=batch,
        opset=opset,
        tolerance=tolerance,
        verify=verify,
    )
    if json:
        echo_json({**vars(done), "path": str(done.path)})
        return
    number = "any number of" if done.batch is None else str(done.batch)
    noun, unit = "images of", ""
    if done.inputs == BAG_INPUTS:
        noun = f"bags, padded to the longest and with a {done.inputs[1]} (True: no instance), of"
    elif done.inputs == (ROW_INPUT,):
        noun, unit = "rows of", " columns"
    checked = (
        "not checked" if done.error is None else f"differs from the model by {done.error:.1e} of its largest output"
    )
    version = "" if done.opset is None else f"opset {done.opset}, "
    size = "×".join("any" if side is None else str(side) for side in done.input_size)
    typer.echo(f"{done.path}\t{done.size:,} bytes, {version}{number} {noun} {size}{unit}; {checked}")
