"""Models whose output is no logits, and the others."""

import torch
from torch import nn

from zoo.models.class_scores import as_logits, own_loss


class _Signed(nn.Module):
    def forward(self, x):
        return x.tanh()

    def as_logits(self, output):
        return torch.stack([-output, output], 1)

    def loss(self, output, target):
        return (1 - (2 * target - 1) * output).mean()


def test_the_model_s_own_words_are_asked_for_also_of_one_that_is_wrapped():
    model, output = _Signed(), torch.tensor([0.5, -0.25])
    wrapped = nn.Module()
    wrapped.module = model
    for net in (model, wrapped):
        assert as_logits(net, output).tolist() == [[-0.5, 0.5], [0.25, -0.25]]
    loss = own_loss(model)
    assert loss is not None
    assert loss(output, torch.tensor([1, 0])).item() == 0.625


def test_of_other_models_the_output_is_meant():
    plain, output = nn.Linear(2, 3), torch.rand(4, 3)
    assert as_logits(plain, output) is output
    assert own_loss(plain) is None
    # An attribute of that name is no protocol without as_logits.
    plain.loss = nn.MSELoss()
    assert own_loss(plain) is None
