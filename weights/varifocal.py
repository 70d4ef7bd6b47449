"""Makes the two small networks that look twice, and measures them.

`python weights/varifocal.py` makes `varifocal_chromosome_nano.rendered`, of rendered chromosomes: 60 cases to train, 20
to choose the epoch and to fit the temperature, 40 more to test. They are drawn by a program and tell nothing of real
ones. `python weights/varifocal.py fashion` makes `varifocal_nano.fashion`, of 10,000 images of Fashion-MNIST. A run
that was cut off goes on. With `measure` behind it, the checkpoint that is there is measured alone.
"""

import copy
import sys
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

import zoo
from zoo.karyotype import fit_temperature
from zoo.models.varifocal.network import VarifocalNet
from zoo.models.varifocal.output import VarifocalOutput
from zoo.training.data import ImageSet, Splits, open_splits
from zoo.training.data.chromosomes import ChromosomeSet, rendered_set
from zoo.training.data.loader import Pipeline
from zoo.training.preparation import pipeline_for
from zoo.training.varifocal.loss import VarifocalLoss
from zoo.training.varifocal.task import TwoLabelPipeline, TwoLabels, second_task
from zoo.weights.save import save_safetensors

HERE = Path(__file__).parent
RENDERED, FASHION = "varifocal_chromosome_nano", "varifocal_nano"
SOURCE, SIZE = "chromosomes?size=64&cases=60", 64
#: Cases that are measured once, at the end: others than those of the data set, whose test cases are among them.
TEST_SEEDS = range(2_000_000, 2_000_040)
FASHION_IMAGES = 10_000
#: Looks at every image, each varied anew, and epochs, of the decision on both scales.
VARIED, MORE = 6, 20


def test_cases() -> ChromosomeSet:
    """Rendered cases that nothing was chosen by."""
    return rendered_set(TEST_SEEDS, size=SIZE, name="test of rendered chromosomes")


def rendered() -> Splits:
    """What is learned from; the test split is put aside."""
    splits = open_splits(SOURCE)
    splits.test = None
    return splits


def fashion() -> Splits:
    """The first images of Fashion-MNIST's training split, 2,000 of its validation split, and all to test."""
    splits = open_splits("fashion_mnist")
    train, val = cast(ImageSet, splits.train), cast(ImageSet, splits.val)
    splits.train = train.subset(range(FASHION_IMAGES), "train images")
    splits.val = val.subset(range(2000), "val images")
    return splits


def pictures(net: VarifocalNet, data: ImageSet) -> Tensor:
    """All images, as the network takes them."""
    pipeline = pipeline_for(net, data)
    return torch.stack([cast(Tensor, pipeline(data.image(i), data.where(i))) for i in range(len(data))])


def varied(net: VarifocalNet, data: ImageSet) -> tuple[Tensor, list[int]]:
    """All images, each varied anew, and the polarities that they show then; -1 of what has none."""
    pipeline = pipeline_for(net, data, aug="light", hflip=0.5)
    if not second_task(net, data):
        said = [cast(Tensor, pipeline(data.image(i), data.where(i))) for i in range(len(data))]
        return torch.stack(said), [-1] * len(data)
    both, pairs = TwoLabelPipeline(cast(Pipeline, pipeline)), TwoLabels(cast(ChromosomeSet, data))
    shown = [both(pairs.image(i), pairs.where(i)) for i in range(len(pairs))]
    return torch.stack([one.image for one in shown]), [one.second for one in shown]


@torch.no_grad()
def temperatures(net: VarifocalNet, data: ImageSet) -> list[float]:
    """Of both tasks, on images that were not learned from; 1 of a task that there is not."""
    outputs = [net.eval()(part) for part in pictures(net, data).split(256)]
    tasks = [(torch.cat([cast(Tensor, o.type) for o in outputs]), data.labels)]
    if second_task(net, data):
        polarity = cast(ChromosomeSet, data).polarity
        tasks.append((torch.cat([cast(Tensor, o.polarity) for o in outputs]), polarity))
    found = [round(fit_temperature(logits.numpy(), labels).temperature, 3) for logits, labels in tasks]
    return [*found, 1.0][:2]


def decide(net: VarifocalNet, data: Splits) -> dict[str, float]:
    """Train the decision on both scales on, on the features of varied images; keep the epoch that is best on val.

    A small decision with dropout wants longer than its share of a short run, and these epochs cost nearly nothing.
    """
    train, val = cast(ImageSet, data.train), cast(ImageSet, data.val)
    net.freeze_stage("fusion")
    rows: list[Tensor] = []
    polarities: list[int] = []
    with torch.no_grad():
        for _ in range(VARIED):
            images, shown = varied(net, train)
            rows += [net.eval().forward_features(part) for part in images.split(256)]
            polarities += shown
        seen = torch.cat([net.forward_features(part) for part in pictures(net, val).split(256)])
    features, second = torch.cat(rows), torch.tensor(polarities)
    types = torch.from_numpy(train.labels).repeat(VARIED)
    loss, truth = VarifocalLoss("fusion"), torch.from_numpy(val.labels)
    optimizer = torch.optim.AdamW(net.fusion.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, MORE * -(-len(types) // 64))
    best: dict[str, float] = {"val": -1.0}
    state = copy.deepcopy(net.fusion.state_dict())
    for epoch in range(MORE):
        net.fusion.train()
        for places in torch.randperm(len(types)).split(64):
            optimizer.zero_grad()
            found = net.fusion(features[places])
            loss(VarifocalOutput(type=found[0], polarity=found[1]), types[places], second[places]).backward()
            optimizer.step()
            schedule.step()
        net.fusion.eval()
        with torch.no_grad():
            reached = float((cast(Tensor, net.fusion(seen)[0]).argmax(1) == truth).double().mean())
        if reached > best["val"]:
            best, state = {"val": reached, "epoch": epoch + 1}, copy.deepcopy(net.fusion.state_dict())
    net.fusion.load_state_dict(state)
    net.freeze_stage("joint").eval()
    return best


def in_short(found: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a manifest."""
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in found.items()}


def make(name: str, data: Splits, file: Path, **recipe: Any) -> VarifocalNet:
    """Train and write a checkpoint."""
    torch.manual_seed(0)
    net = cast(VarifocalNet, zoo.finetune(name, data, out=f"runs/{name}", **recipe).model)
    print("decision", decide(net, data))
    print(save_safetensors(net.state_dict(), file), file.stat().st_size)
    return net


def loaded(name: str, file: Path) -> VarifocalNet:
    """A network with the weights that were written."""
    net = zoo.create_model(name)
    zoo.load_weights(net, file)
    return cast(VarifocalNet, net.eval())


def main() -> None:
    torch.set_num_threads(1)
    words = sys.argv[1:]
    if "fashion" in words:
        file, data = HERE / f"{FASHION}.fashion.safetensors", fashion()
        if "measure" not in words:
            make(FASHION, data, file, epochs=14, lr=4e-3, seed=0)
        net = loaded(FASHION, file)
        print("temperature", temperatures(net, cast(ImageSet, data.val)))
        print(in_short(zoo.evaluate(net, data, progress=False)))
        return
    file, data = HERE / f"{RENDERED}.rendered.safetensors", rendered()
    if "measure" not in words:
        make(RENDERED, data, file, epochs=40, lr=4e-3, seed=0)
    net = loaded(RENDERED, file)
    net.temperature = temperatures(net, cast(ChromosomeSet, data.val))
    print("temperature", net.temperature)
    print(in_short(zoo.evaluate(net, test_cases(), progress=False)))


if __name__ == "__main__":
    main()
