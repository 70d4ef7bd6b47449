"""What is left of a stitched network when one path is wanted: a small network, or less memory for the rest."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from zoo.errors import UnknownStitchError
from zoo.layers.stitch import StitchLayer
from zoo.models.stitching.anchors import Anchor
from zoo.models.stitching.checks import no_stitched_network
from zoo.models.stitching.initialise import batches_of
from zoo.models.stitching.path import Join, Path, PathStep
from zoo.models.stitching.stitched import Stitched
from zoo.models.stitching.stitches import StitchConfig

#: What a model carries that an exported path carries, too.
_CARRIED = ("zoo_source", "zoo_multi_label")


class Exportable(nn.Module):
    """The part of a stitched network that gives single paths away, and gives up the others."""

    anchors: nn.ModuleList
    in_chans: int
    stitch_norm: bool
    lora_rank: int
    pretrained_cfg: Mapping[str, Any]
    config_of: Callable[..., StitchConfig]
    path_of: Callable[..., Path]
    stitch_layer: Callable[[Join], StitchLayer]
    _anchor_args: Callable[[int], Any]
    _anchors: list[Anchor]
    _path: Path
    _stitch: int
    _traits: dict[str, Any]
    _left: Any
    #: Where the path that runs is, while others may be elsewhere; and the paths that are all there.
    _home: torch.device | None = None
    _at_home: set[int]

    def export(self, stitch: int | StitchConfig | str | None = None, *, merge: bool = True) -> Stitched:
        """One path as a network of its own, which shares nothing with this one.

        `zoo.save_pretrained` saves it, and `zoo.export` writes it as ONNX.

        Args:
            stitch: the path; the current one by default.
            merge: add low-rank products to their matrices; False keeps both.

        Raises:
            UnknownStitchError: there is no such path.
            ValueError: the network was cut to the features of one path.
        """
        if self._left is not None:
            raise ValueError("this network was cut to the features of one path: export before it is cut")
        config = self.config_of(self._stitch if stitch is None else stitch)
        self.path_of(config)  # its weights are there
        models = [self.anchors[a] for a in config.anchors]
        rank = 0 if merge or not config.cuts else self.lora_rank
        made = Stitched(
            {
                "anchors": models,
                "cuts": config.cuts,
                "stage": config.stage,
                "stitch_norm": self.stitch_norm,
                "lora_rank": rank,
            },
            device="meta",  # of the stitching layers, which come now
        )
        for place, join in enumerate(config.joins):
            layer = self.stitch_layer(join)
            made.stitch[place] = copy.deepcopy(layer) if rank or not layer.lora_rank else layer.merged()
        made._refresh()
        made.in_chans = self.in_chans
        made._entries = [self._anchor_args(a) for a in config.anchors]
        if isinstance(made._entries[-1], dict):
            made._entries[-1].pop("global_pool", None)  # as the constructor does: an option beside
        made._traits = {**made._traits, "img_size": self._traits["img_size"]}
        names = {key: made.pretrained_cfg[key] for key in ("architecture", "first_conv", "classifier")}
        made.pretrained_cfg = made.default_cfg = {**self.pretrained_cfg, **names}
        setattr(made, "zoo_name", "stitched")  # noqa: B010 - nn.Module's own annotation knows tensors and modules alone
        for name in _CARRIED:
            if hasattr(self, name):
                setattr(made, name, copy.deepcopy(getattr(self, name)))
        made.training = self.training
        return made

    def offload_unused(self, device: str | torch.device = "meta") -> int:
        """Take the weights that the current path does not run away from where it runs.

        Args:
            device: "meta" lets them go until they are loaded again, by `zoo.load_weights(net, ...)` or
                `load_state_dict`; with "cpu" (or another) a path is brought back when it is chosen, and stays until
                this is called again.

        Returns:
            the bytes that were freed.
        """
        used = set(_places(self, self._path.plan))
        freed = 0
        for module in self.modules():
            for tensors in (module._parameters, module._buffers):
                for name, tensor in tensors.items():
                    if tensor is not None and (id(module), name) not in used and tensor.device != torch.device(device):
                        freed += tensor.numel() * tensor.element_size()
                        _move(tensors, name, torch.device(device))
        self._settle()
        return freed

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        """As of torch (`to`, `cpu`, `half`); weights that were let go stay where they are if they cannot move."""
        if self._home is None:
            return super()._apply(fn, recurse)

        def where_there_are_values(tensor: torch.Tensor) -> torch.Tensor:
            try:
                return fn(tensor)
            except NotImplementedError:
                if not tensor.is_meta:
                    raise
                return tensor.to(fn(torch.empty(0, dtype=tensor.dtype)).dtype)

        super()._apply(where_there_are_values, recurse)
        self._settle()
        return self

    def _settle(self) -> None:
        """Where the current path is now is where paths run."""
        self._home = next((p.device for _, _, p in _tensors(self, self._path.plan)), torch.device("cpu"))
        self._at_home = {self._stitch}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As of torch; weights that `offload_unused` let go are back afterwards."""
        home = self._home
        if home is None or home.type == "meta":
            return super().load_state_dict(state_dict, strict=strict, assign=assign)
        if not assign:
            self._make_room(state_dict, home)
        result = super().load_state_dict(state_dict, strict=strict, assign=assign)
        for module in self.modules():
            gone = [name for name, tensor in module._buffers.items() if tensor is not None and tensor.is_meta]
            remake: Any = getattr(module, "init_non_persistent_buffers", None)
            if gone and remake is not None:
                for name in gone:
                    module._buffers[name] = torch.empty_like(module._buffers[name], device=home)  # pyright: ignore
                with torch.no_grad(), home:
                    remake()
        return result

    def _make_room(self, state_dict: Mapping[str, Any], home: torch.device) -> None:
        """Memory for the tensors that were let go and are about to be loaded."""
        made: dict[int, Any] = {}  # some may share theirs
        for path, module in self.named_modules(remove_duplicate=False):
            for tensors in (module._parameters, module._buffers):
                for name, tensor in tensors.items():
                    given = state_dict.get(f"{path}.{name}" if path else name)
                    if tensor is None or not tensor.is_meta or getattr(given, "shape", None) != tensor.shape:
                        continue
                    if id(tensor) not in made:
                        empty = torch.empty_like(tensor, device=home, requires_grad=False)
                        parameter = isinstance(tensor, nn.Parameter)
                        made[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if parameter else empty
                    tensors[name] = made[id(tensor)]

    def _fetch(self, config: StitchConfig, plan: Sequence[PathStep]) -> None:
        """Bring a path back whose weights were taken away.

        Raises:
            UnknownStitchError: they were let go.
        """
        assert self._home is not None
        found = list(_tensors(self, plan))
        if self._home.type != "meta" and any(tensor.is_meta for _, _, tensor in found):
            raise UnknownStitchError(
                f"the weights of stitch {config.id} were let go by offload_unused(): zoo.load_weights(net, NAME or "
                'file) brings all back, and offload_unused("cpu") keeps them'
            )
        for tensors, name, tensor in found:
            if tensor.device != self._home:
                _move(tensors, name, self._home)
        self._at_home.add(config.id)

    def compile_blocks(self, **options: Any) -> None:
        """Compile every block by itself, in place, so that choosing another path compiles nothing anew.

        Args:
            **options: of `torch.compile`.
        """
        for anchor in self._anchors:
            for stage in anchor.stages:
                for name in (stage.enter, *stage.blocks):
                    if name:
                        anchor.model.get_submodule(name).compile(**options)


def recalibrate_bn(
    net: Any,
    data: Any,
    *,
    stitch: int | StitchConfig | str | None = None,
    num_batches: int = 50,
    batch_size: int = 64,
) -> Stitched:
    """One path with the batch statistics of its own features, instead of those that all paths have in common.

    Statistics are means over the images, which run with the weights as they are. A path without batch norms comes back
    as it is.

    Args:
        net: a stitched network, of which the path is exported and which stays as it is; or an exported path, which is
            changed.
        data: images as for training, normalised, as `StitchNet.init_stitches` takes them.
        stitch: the path of a stitched network; the current one by default.
        num_batches, batch_size: so many batches are used at most, of so many images at most.

    Raises:
        ValueError: no images, numbers below 1, or `stitch` for an exported path.
        TypeError: another network, or something else than images.
    """
    if not isinstance(net, Exportable | Stitched):
        raise no_stitched_network(net)
    if num_batches < 1:
        raise ValueError(f"num_batches must be 1 or more, got {num_batches}")
    if isinstance(net, Stitched):
        if stitch is not None:
            raise ValueError(f"an exported path is one already: leave out stitch={stitch!r}")
        made = net
    else:
        made = net.export(stitch)
    batches = batches_of(data, num_batches * batch_size, batch_size)
    norms = [m for m in made.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    like = next(made.parameters())
    modes = {module: module.training for module in made.modules()}
    before = [(norm.momentum, {name: b.clone() for name, b in norm.named_buffers(recurse=False)}) for norm in norms]
    made.eval()
    seen = 0
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.train()
        with torch.no_grad():
            for images in batches:
                seen += len(images)
                for norm in norms:
                    norm.momentum = len(images) / seen
                made(images.to(device=like.device, dtype=like.dtype))
        if not seen:
            raise ValueError("batch statistics need images, got none")
    except BaseException:
        for norm, (_, buffers) in zip(norms, before, strict=True):
            for name, value in buffers.items():
                getattr(norm, name).copy_(value)
        raise
    finally:
        for norm, (momentum, _) in zip(norms, before, strict=True):
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
    return made


def _places(net: Exportable, plan: Sequence[PathStep]) -> Iterator[tuple[int, str]]:
    """The tensors that steps use, as (identity of the module that has it, name there)."""
    for step in plan:
        if step.join is not None:
            yield from _within(net.stitch_layer(step.join))
        elif step.piece is not None:
            model = net._anchors[step.anchor].model
            for name in net._anchors[step.anchor].names(step.piece):
                owner, _, last = name.rpartition(".")
                found = getattr(model.get_submodule(owner), last)
                if isinstance(found, nn.Module):
                    yield from _within(found)
                else:
                    yield id(model.get_submodule(owner)), last


def _within(module: nn.Module) -> Iterator[tuple[int, str]]:
    for part in module.modules():
        yield from ((id(part), name) for name in (*part._parameters, *part._buffers))


def _tensors(net: Exportable, plan: Sequence[PathStep]) -> Iterator[tuple[dict[str, Any], str, torch.Tensor]]:
    """The same with what holds them and what they are."""
    used = set(_places(net, plan))
    for module in net.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None and (id(module), name) in used:
                    yield tensors, name, tensor


def _move(tensors: dict[str, Any], name: str, device: torch.device) -> None:
    """Put one tensor of a module on a device; a parameter stays the same object where torch allows it."""
    tensor = tensors[name]
    moved = tensor.detach().to(device)
    if not isinstance(tensor, nn.Parameter):
        tensors[name] = moved
    elif moved.is_meta == tensor.is_meta:
        tensor.data = moved
    else:
        tensors[name] = nn.Parameter(moved, requires_grad=tensor.requires_grad)
