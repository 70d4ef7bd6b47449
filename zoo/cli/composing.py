"""`zoo create`: a composed model from the shell."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cli import _options as o
from zoo.cli._common import echo_json, friendly


@friendly
def create(
    base: Annotated[
        str,
        typer.Argument(
            metavar="BASE|SPEC.json", help=f"{o.MODEL_HELP} Or a JSON file with a spec, as --spec-out writes it."
        ),
    ],
    head: o.Head = None,
    mlp: o.Mlp = None,
    mixer: o.Mixer = None,
    pool: o.Pool = None,
    act: o.Act = None,
    num_classes: Annotated[int | None, typer.Option(help="Outputs of the classifier.")] = None,
    in_chans: Annotated[int | None, typer.Option(help="Channels of the images.")] = None,
    img_size: Annotated[int | None, typer.Option(help="Height and width, for models built for one size.")] = None,
    pretrained: o.Pretrained = None,
    model_arg: o.ModelArg = None,
    weights: Annotated[Path | None, typer.Option(help="Weights of the whole model: a file or a folder.")] = None,
    save: Annotated[Path | None, typer.Option(help="Folder for the model; use it as local-dir:FOLDER.")] = None,
    spec_out: Annotated[Path | None, typer.Option(help="JSON file for the spec.")] = None,
    as_json: o.Json = False,
) -> None:
    """Put modules into a backbone: print what the model is made of, and its spec; save it.

    zoo create vit_small_patch16_224 --mlp '{"type": "kan", "where": "last:4"}' --num-classes 9 --save mine
    """
    from zoo.composition.summary import summary
    from zoo.errors import UnknownModelError
    from zoo.factory import compose
    from zoo.files import write_json
    from zoo.training.model_source import resolve_name

    sizes = {"num_classes": num_classes, "in_chans": in_chans, "img_size": img_size}
    parts = o.read_parts(head=head, mlp=mlp, mixer=mixer, pool=pool, act=act)
    given = {**o.read_model_args(model_arg), **{k: v for k, v in {**parts, **sizes}.items() if v is not None}}
    content = _read_spec(Path(base)) if base.endswith(".json") else {"base": resolve_name(base)}
    try:
        model = compose({**content, **given}, pretrained=pretrained, checkpoint_path=weights)
    except UnknownModelError as error:
        if not Path(base).is_dir():
            raise
        words = f"{error}; the folder {base} holds no saved model (no config.json): that of one is local-dir:FOLDER"
        raise UnknownModelError(words) from None
    spec = _spec_of(model)
    facts = summary(model)
    if save is not None:
        from zoo.publish import save_pretrained

        save_pretrained(model, save)
        typer.echo(f"saved in {save}; use it as local-dir:{save}", err=True)
    if spec_out is not None:
        write_json(spec_out, spec)
        typer.echo(f"spec in {spec_out}", err=True)
    if as_json:
        echo_json({"folder": save, "spec": spec, **_as_json(facts)})
        return
    typer.echo(str(facts))
    typer.echo()
    echo_json(spec)


def _read_spec(path: Path) -> dict[str, Any]:
    from zoo.errors import ConfigError

    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no file {str(path)!r}") from None
    except ValueError as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f'{path} must hold an object such as {{"base": "resnet18", "head": "kan"}}')
    if "base" not in content and "architecture" in content:
        raise ConfigError(f"{path} describes a saved model and is no spec: write local-dir:{path.parent}")
    return content


def _spec_of(model: Any) -> dict[str, Any]:
    """The spec of any model; that of one that is not composed has a base and its arguments."""
    from zoo.weights.description import architecture_of, model_args_of

    return getattr(model, "zoo_spec", None) or {"base": architecture_of(model), **model_args_of(model)}


def _as_json(facts: Any) -> dict[str, Any]:
    names = ("params", "base_params", "macs", "base_macs", "trainable", "input_size", "weights", "left")
    return {**{name: getattr(facts, name) for name in names}, "changes": [vars(change) for change in facts.changes]}
