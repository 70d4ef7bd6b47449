"""One path read out of the weights of a whole stitched network."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from tests.models.stitching.golden import OPEN, official_state, options_of
from tests.models.stitching.test_exported import X, golden_net
from zoo.errors import MismatchError, NonFiniteWeightsError, PickleRefusedError, UnknownStitchError
from zoo.models.stitching.stitched import Stitched
from zoo.weights.save import save_safetensors


@pytest.mark.parametrize("name", OPEN)
def test_a_path_of_a_file_and_of_a_folder(name: str, tmp_path: Path) -> None:
    net = golden_net(name)
    save_safetensors(net.state_dict(), tmp_path / "all.safetensors")
    zoo.save_pretrained(net, tmp_path / "net", max_shard_size="100KB")
    for number in (0, 9):
        how: dict[str, Any] = {"stitch": number, "standalone": True}
        file = tmp_path / "all.safetensors"
        made: Any = zoo.create_model(OPEN[name], checkpoint_path=file, **options_of(name), **how)
        again: Any = zoo.create_model(f"local-dir:{tmp_path / 'net'}", **how)
        for path in (made.eval(), again.eval()):
            assert isinstance(path, Stitched)
            assert path.lora_rank == 0
            torch.testing.assert_close(path(X), net(X, stitch=number), atol=1e-6, rtol=1e-5)
            assert path.state_dict().keys() == net.export(number).state_dict().keys()
            assert not any(t.is_meta for t in (*path.parameters(), *path.buffers()))


def test_what_others_have_does_not_matter(tmp_path: Path) -> None:
    net = golden_net("snnet_vit_tiny")
    how: dict[str, Any] = {**options_of("snnet_vit_tiny"), "stitch": 0, "standalone": True}
    state = {k: v for k, v in net.state_dict().items() if k.startswith("anchors.0.")}
    state["anchors.1.blocks.0.mlp.fc1.weight"] = torch.full((3,), torch.nan)
    save_safetensors(state, tmp_path / "part.safetensors", check_finite=False)
    made = zoo.create_model("snnet_deit", checkpoint_path=tmp_path / "part.safetensors", **how).eval()
    assert torch.equal(made(X), net(X, stitch=0))
    with pytest.raises(MismatchError, match=r"has no .*which the path runs as"):
        zoo.create_model("snnet_deit", checkpoint_path=tmp_path / "part.safetensors", **{**how, "stitch": 5})
    state["anchors.0.head.bias"] = torch.full_like(state["anchors.0.head.bias"], torch.nan)
    save_safetensors(state, tmp_path / "bad.safetensors", check_finite=False)
    with pytest.raises(NonFiniteWeightsError):
        zoo.create_model("snnet_deit", checkpoint_path=tmp_path / "bad.safetensors", **how)
    with pytest.raises(ValueError, match="give pretrained=True or checkpoint_path="):
        zoo.create_model("snnet_deit", **how)
    with pytest.raises(TypeError, match="a ResNet is none"):
        zoo.create_model("resnet18", checkpoint_path=tmp_path / "part.safetensors", standalone=True)


def test_a_path_of_a_repository(hub: Any) -> None:
    """Whichever path the repository's own config sets; the commit is known, as of every model from there."""
    net = golden_net("snnetv2_tiny")
    net.set_stitch(4)
    repo = hub.repo_id()
    zoo.push_to_hub(net, repo, token=hub.token, license="mit")
    for number in (9, 1):
        how: dict[str, Any] = {"stitch": number, "standalone": True, "cache_dir": hub.cache}
        made: Any = zoo.create_model(f"hf-hub:{repo}", **how).eval()
        assert isinstance(made, Stitched)
        torch.testing.assert_close(made(X), net(X, stitch=number), atol=1e-6, rtol=1e-5)
        assert made.config == net.export(number).config
        assert made.zoo_source["repo"] == repo
        assert len(made.zoo_source["commit"]) == 40
    own: Any = zoo.create_model(f"hf-hub:{repo}", standalone=True, cache_dir=hub.cache).eval()
    torch.testing.assert_close(own(X), net(X, stitch=4), atol=1e-6, rtol=1e-5)
    other: Any = zoo.create_model(f"hf-hub:{repo}", num_classes=2, **how).eval()
    assert other(X).shape == (2, 2)
    with pytest.raises(UnknownStitchError, match="there is no stitch 999"):
        zoo.create_model(f"hf-hub:{repo}", **{**how, "stitch": 999})


def test_a_path_of_a_pickle(tmp_path: Path) -> None:
    net = golden_net("snnet_vit_tiny")
    state = {f"module.{name}": value for name, value in net.state_dict().items()}
    (tmp_path / "folder").mkdir()
    torch.save({"model": state, "epoch": 3}, tmp_path / "folder" / "last.pth")
    how: dict[str, Any] = {**options_of("snnet_vit_tiny"), "stitch": 5, "standalone": True}
    for place in ("folder/last.pth", "folder"):
        with pytest.raises(PickleRefusedError, match="allow_pickle=True"):
            zoo.create_model("snnet_deit", checkpoint_path=tmp_path / place, **how)
        made = zoo.create_model("snnet_deit", checkpoint_path=tmp_path / place, allow_pickle=True, **how).eval()
        assert isinstance(made, Stitched)
        assert torch.equal(made(X), net(X, stitch=5))


def test_a_path_of_a_released_file_is_converted_first(tmp_path: Path) -> None:
    state = official_state("snnet_swin_tiny")
    torch.save({"model": state}, tmp_path / "released.pth")
    how: dict[str, Any] = {"stitch": 5, "standalone": True}
    with pytest.raises(MismatchError, match=r"has no anchors\..*the authors' own files, convert it first"):
        released = {"checkpoint_path": tmp_path / "released.pth", "allow_pickle": True}
        zoo.create_model("snnet_swin", **options_of("snnet_swin_tiny"), **released, **how)
    zoo.weights.convert_file(tmp_path / "released.pth", tmp_path / "net", "snnet_swin", allow_pickle=True)
    made: Any = zoo.create_model(f"local-dir:{tmp_path / 'net'}", **how).eval()
    whole: Any = zoo.create_model(f"local-dir:{tmp_path / 'net'}").eval()
    assert torch.equal(made(X), whole(X, stitch=5))


def test_memory_is_that_of_the_path(tmp_path: Path) -> None:
    code = f"""
        import sys, torch, zoo
        from zoo.models.stitching.network import StitchNet
        from zoo.weights.save import save_safetensors
        file = {str(tmp_path / "all.safetensors")!r}

        def anchors(*widths):
            shared = {{"name": "vit_tiny_patch16_224", "img_size": 32, "num_heads": 2, "depth": 3}}
            return [{{**shared, "embed_dim": width}} for width in widths]

        def peak():
            lines = open("/proc/self/status").read().splitlines()
            return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))

        if sys.argv[1] == "write":
            save_safetensors(StitchNet(anchors(64, 768)).state_dict(), file)
        else:
            StitchNet(anchors(16, 24)).eval()(torch.randn(1, 3, 32, 32), stitch=0)
            before = peak()
            how = {{"checkpoint_path": file, "stitch": 0, "standalone": True}}
            model = zoo.create_model("snnet", anchors=anchors(64, 768), **how).eval()
            model(torch.randn(1, 3, 32, 32))
            print(peak() - before)
    """

    def run(what: str) -> str:
        command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), what]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    run("write")
    size = (tmp_path / "all.safetensors").stat().st_size / 2**20
    assert size > 80
    assert float(run("alone")) < 0.15 * size
