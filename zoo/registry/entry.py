"""The three record types of the catalogue: a family, something that can be built, and a checkpoint."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.errors import RegistrationError

#: What a module can be; the kind is a promise about its constructor and its call (see the docs, "Modules").
KINDS = ("head", "mlp", "mixer", "pool", "act", "upsampler", "circuit", "stitch", "memory", "localizer", "case")


@dataclass(frozen=True)
class Family:
    """What a paper gave: the facts that its models and modules share.

    Attributes:
        name: file stem in the catalogue, for instance `"medvit2"`.
        title: title of the family as shown to people.
        paper: title of the paper; empty for what has none.
        arxiv: arXiv id, for instance `"2502.13693"`.
        year: year of publication.
        upstream: `owner/repo` of the authors' code, when there is some.
        licence: licence of the authors' code.
        converter: `module:attribute` of the function that maps official checkpoints to our layout.
        cfg: fields of timm's `pretrained_cfg` that all models of the family share.
        part_of: family that a further paper belongs to: with its layers, its page and its checkpoints.
    """

    name: str
    title: str = ""
    paper: str = ""
    arxiv: str = ""
    year: int | None = None
    upstream: str = ""
    licence: str = ""
    converter: str = ""
    cfg: Mapping[str, Any] = field(default_factory=dict)
    part_of: str = ""

    def load_converter(self) -> Callable[..., Any] | None:
        """The converter, imported; None where the family has none."""
        return load_target(self.converter, self.name) if self.converter else None


@dataclass(frozen=True)
class Entry:
    """One thing that can be built by name.

    Attributes:
        name: `"medvit2_kan_tiny"` for a model, `"mlp/kan"` for a module.
        kind: `"model"` or one of `KINDS`.
        target: `"package.module:attribute"`, imported when first needed, or the object itself.
        family: the family it belongs to.
        summary: one line for people.
        args: constructor keywords that make this entry out of its class.
        cfg: fields of timm's `pretrained_cfg` that are this entry's own.
        input_size: `(channels, height, width)` for image models.
        params: number of parameters as built with default arguments.
        macs: multiply-accumulates of one forward pass at `input_size`, one image.
        aliases: other names of the same entry.
        layout: token layout of a module (`"NLC"`, `"NHWC"`, `"NCHW"`).
        uses: modules that the model is built of, for filters.
        source: `"zoo"`, `"plugin:DISTRIBUTION"` or `"user"`.
        hidden: left out of listings.
    """

    name: str
    kind: str
    target: str | Callable[..., Any]
    family: Family
    summary: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)
    cfg: Mapping[str, Any] = field(default_factory=dict)
    input_size: tuple[int, ...] | None = None
    params: int | None = None
    macs: int | None = None
    aliases: tuple[str, ...] = ()
    layout: str = ""
    uses: tuple[str, ...] = ()
    source: str = "zoo"
    hidden: bool = False
    _loader: Callable[[], Any] | None = field(default=None, repr=False, compare=False)

    @property
    def short_name(self) -> str:
        """The name without its kind: `"kan"` for `"mlp/kan"`."""
        return self.name.rpartition("/")[2]

    def load(self) -> Any:
        """Import and return the class or function behind the entry.

        Raises:
            RegistrationError: the target cannot be imported; the cause is kept.
        """
        if self._loader is not None:
            return self._loader()
        if callable(self.target):
            return self.target
        return load_target(self.target, self.name)


@dataclass(frozen=True)
class WeightsEntry:
    """One checkpoint of one architecture, as its manifest states it.

    Attributes:
        arch: registered name of the architecture.
        tag: name of this checkpoint; `"arch.tag"` names it in `create_model`.
        path: the file, when it ships with the package.
        repo, revision, file: where it lies on the Hub otherwise.
        sha256, size: digest and bytes of the file.
        num_classes, label_names: what its head predicts.
        cfg: fields of timm's `pretrained_cfg` that differ from the architecture's (input size, mean, ...).
        licence, data, command, metrics: what it may be used for, what it was trained on, the command that makes it
            again, and what it reached on data it never saw.
        known: arguments of the constructor that say something of these weights ({"top1": …} of stitched networks), and
            are given with them, unless the caller makes another network of them.
        default: whether it is the one that `pretrained=True` means.
    """

    arch: str
    tag: str
    path: Path | None = None
    repo: str = ""
    revision: str = ""
    file: str = ""
    sha256: str = ""
    size: int | None = None
    num_classes: int | None = None
    label_names: tuple[str, ...] = ()
    cfg: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    data: str = ""
    command: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    known: Mapping[str, Any] = field(default_factory=dict)
    default: bool = False

    @property
    def name(self) -> str:
        """`"arch.tag"`."""
        return f"{self.arch}.{self.tag}"


def load_target(target: str, owner: str) -> Any:
    """Import `"package.module:attribute"`.

    Raises:
        RegistrationError: malformed, or it cannot be imported.
    """
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise RegistrationError(f"{owner}: target must be 'package.module:attribute', got {target!r}")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise RegistrationError(f"{owner}: cannot load {target!r}: {error}") from error
