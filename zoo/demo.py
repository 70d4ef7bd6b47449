"""The main job from end to end: fine-tune a small model on real digits, evaluate, publish, load back, compare."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL = "medvit2_kan_nano"
DATA = "digits"
#: Few epochs, for minutes on a CPU; the manifest in `weights/` has the recipe that is trained out.
EPOCHS = 4
RECIPE: dict[str, Any] = {"batch_size": 32, "lr": 1e-3, "warmup_epochs": 1, "seed": 0}


@dataclass
class DemoResult:
    """What the demo made.

    Attributes:
        folder: run folder with history, plots and the best weights.
        accuracy: on the held-out test images.
        repo: `user/name@commit` that was published, or `None`.
        equal: whether the model loaded back predicts the same bits; `None` when nothing was published.
    """

    folder: Path
    accuracy: float
    repo: str | None = None
    equal: bool | None = None


def _repository(repo: str | None) -> str | None:
    """The repository to publish to: as given, or one named after the demo in the token's account."""
    from huggingface_hub import HfApi, get_token

    if repo or not get_token():
        return repo
    return f"{HfApi().whoami()['name']}/medvit2-kan-nano-digits-demo"


def run_demo(
    out: str | os.PathLike[str] = "runs/demo",
    *,
    epochs: int | None = None,
    repo: str | None = None,
    say: Callable[[str], None] = print,
) -> DemoResult:
    """Run the demo.

    Args:
        out: run folder; a finished run there is used again, an interrupted one is continued.
        epochs: instead of the recipe's.
        repo: `user/name` to publish to; default `medvit2-kan-nano-digits-demo` of the token's account, privately.
            Without a token nothing is published.
        say: receives a line at each step.
    """
    import torch

    import zoo
    from zoo.training import open_data

    epochs = epochs or EPOCHS
    say(f"1. fine-tune {MODEL} on scikit-learn's handwritten digits, {epochs} epochs, from random weights")
    model = zoo.create_model(MODEL, num_classes=10)
    result = zoo.finetune(model, DATA, out=out, epochs=epochs, **RECIPE)

    say("2. evaluate on the held-out test images")
    metrics = zoo.evaluate(result.model, DATA, split="test")
    done = DemoResult(Path(result.folder), float(metrics["accuracy"]))
    say(f"   accuracy {done.accuracy:.4f} on {metrics['samples']} images; plots in {result.folder}")

    target = _repository(repo)
    if target is None:
        say("3. not published: no token. With HF_TOKEN set, or `hf auth login`, this step publishes to your account")
        return done
    say(f"3. publish to {target}")
    pushed = zoo.push_to_hub(
        result.model,
        target,
        private=True,
        license="apache-2.0",
        metrics=metrics,
        train_data="scikit-learn digits (1,797 grey images of 8×8 pixels)",
    )
    done.repo = f"{target}@{pushed.commit}"
    say(f"4. load it back: zoo.create_model('hf-hub:{done.repo}')")
    again = zoo.create_model(f"hf-hub:{done.repo}").eval()
    images = torch.stack([open_data(DATA, split="test", model=again)[i][0] for i in range(64)])
    with torch.no_grad():
        done.equal = torch.equal(result.model.eval()(images), again(images))
    say(f"   predictions on 64 test images are {'equal, bit for bit' if done.equal else 'DIFFERENT'}")
    return done
