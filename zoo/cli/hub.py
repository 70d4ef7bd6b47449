"""`zoo push`, `zoo pull` and `zoo convert`: results on stdout, progress on stderr."""

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli._common import echo_json, friendly

Token = Annotated[
    str | None, typer.Option(envvar="HF_TOKEN", show_envvar=True, help="Access token; default: the saved one.")
]


@friendly
def push(
    source: Annotated[str, typer.Argument(help="Folder of a saved model or of a training run, or a model's name.")],
    repo: Annotated[str, typer.Argument(help="Repository on the Hub: user/repo.")],
    license_: Annotated[
        str | None, typer.Option("--license", help="Licence of the weights, e.g. apache-2.0; needed for a new card.")
    ] = None,
    private: Annotated[bool | None, typer.Option("--private/--public", help="Visibility of a new repository.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch; made if it does not exist.")] = None,
    tag: Annotated[str | None, typer.Option(help="Tag to set on the commit.")] = None,
    move_tag: Annotated[bool, typer.Option("--move-tag", help="The tag may exist, and is moved.")] = False,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request.")] = False,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Commit message.")] = None,
    train_data: Annotated[str | None, typer.Option(help="Data the weights were trained on, for the card.")] = None,
    overwrite_card: Annotated[bool, typer.Option("--overwrite-card", help="Replace an existing README.md.")] = False,
    max_shard_size: Annotated[str, typer.Option(help="Largest size of a weights file: 500MB, or bytes.")] = "5GB",
    space: Annotated[
        bool, typer.Option("--space", help="Make or update a Space of the same name with an app.")
    ] = False,
    space_name: Annotated[str | None, typer.Option(help="Make or update this Space instead: user/name.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, upload nothing; print files, sizes and front matter.")
    ] = False,
    token: Token = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Publish a model as one commit: weights, config and card, checked by loading them again first."""
    from dataclasses import asdict

    from zoo.publish import push_source

    typer.echo(f"Checking {source} ...", err=True)
    result = push_source(
        source,
        repo,
        license=license_,
        private=private,
        revision=revision,
        tag=tag,
        move_tag=move_tag,
        create_pr=create_pr,
        commit_message=message,
        train_data=train_data,
        overwrite_card=overwrite_card,
        max_shard_size=max_shard_size,
        space=space_name or space,
        dry_run=dry_run,
        token=token,
    )
    if json_:
        echo_json(asdict(result))
        return
    for note in result.notes:
        typer.echo(f"note: {note}", err=True)
    for name, size in result.files.items():
        typer.echo(f"{name}\t{size}", err=True)
    for name in result.deleted:
        typer.echo(f"{name}\tdeleted", err=True)
    if result.card:
        typer.echo(result.card[: result.card.index("\n---\n") + 4], err=True)
    typer.echo(f"would push to {result.url}" if dry_run else result.pull_request or result.url)
    if result.space:
        typer.echo(f"would show it at {result.space}" if dry_run else result.space)


@friendly
def pull(
    repo: Annotated[str, typer.Argument(help="Repository on the Hub: user/repo\\[@revision].")],
    folder: Annotated[Path, typer.Argument(help="Folder to write; must not exist, or be empty.")],
    file: Annotated[
        list[str] | None,
        typer.Option("--file", help="Beside config and weights take only what this pattern matches; may be repeated."),
    ] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Take a pickle where the repository has nothing else.")
    ] = False,
    token: Token = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Fetch a model into a folder, checked; use it as `local-dir:FOLDER`.

    Files that are complete in the Hub's cache are not fetched again, so a pull that broke off goes on where it was.
    Pickles, code and names that leave the folder stay behind.
    """
    from zoo.publish import pull_to_folder

    typer.echo(f"Fetching {repo} ...", err=True)
    snapshot = pull_to_folder(repo, folder, token=token, allow_pickle=allow_pickle, only=file or ())
    for name in snapshot.files:
        typer.echo(f"{name}\t{snapshot.checked.get(name) or 'no sum recorded'}", err=True)
    if json_:
        echo_json({"folder": str(folder), **snapshot.source, "checked": snapshot.checked})
    else:
        typer.echo(f"{folder}\t{snapshot.origin}")


@friendly
def verify(
    source: Annotated[
        str,
        typer.Argument(
            help="USER/REPO\\[@REVISION], a folder or run, a .safetensors file, or a checkpoint's NAME.TAG."
        ),
    ],
    token: Token = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check a model: config, files, SHA-256, header, values, that it loads, its card, and what could run code.

    Every check is made, whatever fails before it; the exit code is 1 if one failed. Nothing of it is executed.
    """
    from zoo.verifying import verify as check

    result = check(source, token=token, progress=lambda line: typer.echo(line, err=True))
    if json_:
        echo_json(result.to_dict())
    else:
        typer.echo(str(result))
    if not result.ok:
        raise typer.Exit(1)


@friendly
def convert(
    source: Annotated[Path, typer.Argument(help="Official checkpoint of the paper.")],
    target: Annotated[Path, typer.Argument(help="OUT.safetensors; or a folder, new or of an earlier conversion.")],
    model: Annotated[
        str, typer.Option("--model", help="Registered model, module (KIND/NAME), or a layer class of a family.")
    ],
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read .pth files, by torch.load(weights_only=True).")
    ] = False,
    sha256: Annotated[str | None, typer.Option(help="Expected SHA-256 of the source.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Convert an official checkpoint to the zoo's layout, as safetensors."""
    from dataclasses import asdict

    from zoo.weights import convert_file

    report = convert_file(source, target, model, allow_pickle=allow_pickle, sha256=sha256)
    if json_:
        echo_json(asdict(report))
    else:
        typer.echo(str(report))
