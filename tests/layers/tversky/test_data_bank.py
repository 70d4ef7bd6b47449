"""Banks of learned inputs: rows that the encoder makes, trained through it and stored as inputs."""

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from zoo.layers.tversky import TverskyProjection
from zoo.layers.tversky.data_bank import DataDomainBank


class Net(nn.Module):
    """A backbone with batch norm and dropout, whose head sees its own features and prototypes as images."""

    def __init__(self, method: bool = False):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 8)
        )
        encoder = self.encode if method else self.backbone
        features, prototypes = DataDomainBank(encoder, 5, (1, 4, 4)), DataDomainBank(encoder, 3, (1, 4, 4))
        self.head = TverskyProjection(8, 3, feature_bank=features, prototypes=prototypes)

    def encode(self, x: Tensor) -> Tensor:
        return self.backbone(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


def _net(method: bool = False):
    torch.manual_seed(0)
    return Net(method), torch.randn(6, 1, 4, 4)


@pytest.mark.parametrize("method", [False, True])
def test_rows_are_what_the_encoder_makes_in_evaluation_mode(method: bool):
    net, x = _net(method)
    net(x)  # moves the statistics of batch norm
    before = copy.deepcopy(net.backbone[1].state_dict())
    rows = net.head.feature_bank.weight
    net.eval()
    torch.testing.assert_close(rows, net.backbone(net.head.feature_bank.inputs))
    plain = TverskyProjection(8, 3, 5)
    plain.load_state_dict(
        {
            **plain.state_dict(),
            "feature_bank.weight": net.head.feature_bank.weight,
            "prototypes.weight": net.head.prototypes.weight,
        }
    )
    torch.testing.assert_close(net(x), plain(net.backbone(x)))
    for name, value in net.backbone[1].state_dict().items():
        assert torch.equal(value, before[name])


def test_the_encoder_keeps_its_mode():
    net, _ = _net()
    net.backbone[1].eval()
    modes = [part.training for part in net.modules()]
    assert net.head.feature_bank.shape == (5, 8)
    assert [part.training for part in net.modules()] == modes


def test_rows_are_kept_in_evaluation_until_something_changes():
    net, x = _net()
    net.eval()
    passes = []
    net.backbone.register_forward_hook(lambda _, given, __: passes.append(len(given[0])))
    with torch.no_grad():
        assert torch.equal(net(x), net(x))
        assert passes == [6, 3, 5, 6]
        for change in (net.backbone[0].weight, net.backbone[1].running_mean, net.head.feature_bank.inputs):
            before = net(x)
            change.add_(1)
            passes.clear()
            assert not torch.equal(net(x), before)
            assert 5 in passes
    assert net.head.feature_bank.weight.requires_grad


def test_parameters_are_the_inputs_alone():
    net, _ = _net()
    assert set(net.head.state_dict()) == {"feature_bank.inputs", "prototypes.inputs", "theta", "alpha", "beta"}
    assert [n for n in net.state_dict() if "head" not in n] == [f"backbone.{n}" for n in net.backbone.state_dict()]
    assert len(list(net.parameters())) == len(list(net.backbone.parameters())) + 5


def test_training_moves_the_images_and_the_encoder():
    net, x = _net()
    start = copy.deepcopy(net.state_dict())
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), torch.arange(6) % 3).backward()
        optimiser.step()
    for name, value in net.named_parameters():
        assert not torch.equal(value, start[name]), name


def test_gradient_to_the_encoder_counts_both_ways():
    """That of the inputs through the features, and that of the bank's images."""
    net, x = _net()
    net.double().eval()
    x = x.double()
    weight = net.backbone[-1].weight
    (whole,) = torch.autograd.grad(net(x).sum(), weight)
    features, prototypes = net.head.feature_bank.weight, net.head.prototypes.weight
    (through_input,) = torch.autograd.grad(
        net.head(net.backbone(x), prototypes=prototypes.detach(), feature_bank=features.detach()).sum(), weight
    )
    given = net.backbone(x).detach()
    (through_banks,) = torch.autograd.grad(net.head(given).sum(), weight)
    assert through_banks.any()
    torch.testing.assert_close(whole, through_input + through_banks)


@pytest.mark.parametrize("method", [False, True])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_reads_its_own_encoder(method: bool, duplicate):
    net, x = _net(method)
    other = duplicate(net.eval())
    torch.testing.assert_close(other(x), net(x))
    with torch.no_grad():
        other.backbone[-1].weight.zero_()
        other.backbone[-1].bias.zero_()
    assert not other.head.feature_bank.weight.any()
    assert net.head.feature_bank.weight.any()


def test_round_trip_through_safetensors(tmp_path):
    net, x = _net()
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    torch.manual_seed(1)
    other = Net()
    other.load_state_dict(load_file(tmp_path / "net.safetensors"))
    assert torch.equal(other.eval()(x), net.eval()(x))


def test_starts_from_given_images():
    images = torch.rand(5, 1, 4, 4)
    net, _ = _net()
    bank = DataDomainBank(net.backbone, 5, (1, 4, 4), init=images)
    assert torch.equal(bank.inputs, images)
    with torch.no_grad():
        bank.inputs.zero_()
    assert images.any()
    bank.reset_parameters()
    assert torch.equal(bank.inputs, images)


def test_reset_of_the_layer_draws_the_images_again():
    net, _ = _net()
    before = net.head.feature_bank.inputs.clone()
    net.head.reset_parameters()
    assert not torch.equal(net.head.feature_bank.inputs, before)


def test_takes_the_dtype_of_the_encoder_or_the_given_one():
    encoder = nn.Linear(3, 2, dtype=torch.float64)
    assert DataDomainBank(encoder, 4, (3,)).weight.dtype == torch.float64
    assert DataDomainBank(encoder, 4, (3,), dtype=torch.float16).inputs.dtype == torch.float16
    assert DataDomainBank(torch.sin, 4, (3,)).weight.shape == (4, 3)


def test_a_bank_may_be_shared():
    net, x = _net()
    reader = TverskyProjection(8, 2, feature_bank=net.head)
    assert not [name for name in reader.state_dict() if "inputs" in name]
    reader(x.new_ones(1, 8)).sum().backward()
    assert net.head.feature_bank.inputs.grad.any()


def test_refusals():
    encoder = nn.Flatten()
    with pytest.raises(ValueError, match=r"init must be \(num, \*input_shape\) = \(2, 3\), got \(3, 2\)"):
        DataDomainBank(encoder, 2, (3,), init=torch.zeros(3, 2))
    with pytest.raises(TypeError, match=r"floating type; got torch\.uint8"):
        DataDomainBank(encoder, 2, (3,), init=torch.zeros(2, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="num must be an integer of at least 1, got 0"):
        DataDomainBank(encoder, 0, (3,))
    with pytest.raises(ValueError, match=r"one row of each input, \(1, d\); it made \(1, 2, 3\)"):
        TverskyProjection(3, 2, feature_bank=DataDomainBank(nn.Identity(), 2, (2, 3)))
    with pytest.raises(ValueError, match=r"feature_bank must be \(any, 4\), the one given is \(2, 3\)"):
        TverskyProjection(4, 2, feature_bank=DataDomainBank(nn.Identity(), 2, (3,)))


def test_names_its_encoder():
    net, _ = _net(method=True)
    assert "DataDomainBank((5, 1, 4, 4) through encode)" in repr(net.head)


_SCRIPT = """
import warnings; warnings.simplefilter("ignore")
import copy, torch
from torch import nn
from zoo.layers.tversky import TverskyProjection
from zoo.layers.tversky.data_bank import DataDomainBank
torch.manual_seed(0)
encoder = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8))
head = TverskyProjection(8, 3, feature_bank=DataDomainBank(encoder, 5, (6,)))
net, x = nn.Sequential(encoder, head), torch.randn(4, 6)
twin = copy.deepcopy(net)
got, wanted = torch.compile(net, fullgraph=True, backend="aot_eager")(x), twin(x)
torch.testing.assert_close(got, wanted)
got.square().sum().backward(); wanted.square().sum().backward()
for p, q in zip(net.parameters(), twin.parameters()):
    torch.testing.assert_close(p.grad, q.grad)
for p, q in zip(net.buffers(), twin.buffers()):
    torch.testing.assert_close(p, q)
assert all(part.training for part in net.modules())
net.eval()
torch.testing.assert_close(torch.export.export(net, (x,)).module()(x), net(x))
"""


def test_compiled_and_exported():
    """In a process of its own: compilers read the functions, not the run-time checks around them."""
    subprocess.run([sys.executable, "-c", _SCRIPT], check=True, capture_output=True, text=True, timeout=300)
