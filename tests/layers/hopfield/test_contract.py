"""Pool, mixer and head keep the contracts of their kinds; a mixer starts as the attention that it replaces."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from zoo.layers.hopfield import HopfieldLookupHead, HopfieldPooling, HopfieldSelfAssociation
from zoo.layers.plain import Attention

_SCRIPT = """
import json, sys, warnings; warnings.simplefilter("ignore")
import zoo.layers.hopfield as hopfield
from zoo.testing import check_module

for kind, name, options in json.load(sys.stdin):
    try:
        check_module(kind, getattr(hopfield, name), options=options, compiler="aot_eager")
        print(json.dumps("holds"))
    except AssertionError as error:
        print(json.dumps(str(error)))
"""
_CASES = [
    ("pool", "HopfieldPooling", {}),
    ("pool", "HopfieldPooling", {"num_updates": 3, "tol": None, "quantity": 2, "num_heads": 2, "learn_beta": True}),
    ("pool", "HopfieldPooling", {"reduce": "concat", "quantity": 2, "bias_pattern": True, "zero_pattern": True}),
    ("mixer", "HopfieldSelfAssociation", {}),
    ("mixer", "HopfieldSelfAssociation", {"num_updates": 2, "norm_inputs": True, "association": "sparsemax"}),
    ("head", "HopfieldLookupHead", {}),
    ("head", "HopfieldLookupHead", {"association": "entmax", "learn_alpha": True, "num_updates": 2}),
]


@pytest.fixture(scope="module")
def verdicts():
    """From a process of its own: compilers read the functions, not the run-time checks around them."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], input=json.dumps(_CASES), capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("case", range(len(_CASES)), ids=lambda case: f"{_CASES[case][1]}-{_CASES[case][2]}")
def test_contract(case, verdicts):
    assert verdicts[case] == "holds"


@pytest.mark.parametrize("bias", [True, False])
def test_a_mixer_takes_over_an_attention_exactly(bias):
    torch.manual_seed(0)
    attention, x = Attention(12, 3, qkv_bias=bias), torch.randn(2, 5, 12)
    mixer = HopfieldSelfAssociation(12, 3)
    assert mixer.imitate(attention, x)
    torch.testing.assert_close(mixer(x), attention(x))


def test_a_mixer_of_other_heads_stays_as_it_was():
    mixer, x = HopfieldSelfAssociation(12, 3), torch.randn(2, 5, 12)
    before = mixer(x)
    assert not mixer.imitate(Attention(12, 4), x)
    torch.testing.assert_close(mixer(x), before)


def test_width_of_a_pool():
    assert HopfieldPooling(6, quantity=3).feat_mult == 1
    assert HopfieldPooling(6, quantity=3, reduce="concat").feat_mult == 3
    assert HopfieldPooling(6, num_heads=2, head_dim=6, project_out=False).feat_mult == 2
    with pytest.raises(ValueError, match="no multiple of the 6"):
        _ = HopfieldPooling(6, out_dim=4).feat_mult


def test_prototypes_of_samples_give_their_labels():
    torch.manual_seed(0)
    for classes in (1, 4):
        head = HopfieldLookupHead(16, classes, quantity=20, beta=5.0)
        x, labels = torch.randn(20, 16), torch.arange(20) % max(classes, 2)
        head.set_prototypes(x, labels)
        logits = head(x)
        if classes == 1:
            assert torch.equal(logits[:, 0] > 0, labels == 1)
        else:
            torch.testing.assert_close(
                logits.softmax(-1)[range(20), labels], torch.full((20,), 0.99), rtol=0, atol=1e-4
            )


def test_a_new_lookup_head_has_prototypes_of_every_class():
    torch.manual_seed(0)
    head = HopfieldLookupHead(16, 5)
    assert head.lookup.quantity == 20
    assert torch.equal(head.lookup.target_patterns.argmax(-1), torch.arange(20) % 5)
    assert HopfieldLookupHead(16, 2).lookup.quantity == 16
