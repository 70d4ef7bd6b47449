"""Every bad input is refused, in the constructor where it can be seen there, with what is allowed."""

from __future__ import annotations

import pytest

from tests.layers.answers import answers

#: expression -> parts of the message.
CONSTRUCTORS = {
    "Hopfield(0)": ["ValueError", "dim must be an integer of at least 1, got 0"],
    "Hopfield(6.0)": ["TypeError", "dim must be an integer", "6.0"],
    "Hopfield(6, num_heads=4)": ["ValueError", "num_heads must divide dim", "dim 6 and num_heads 4"],
    "Hopfield(6, num_heads=True)": ["TypeError", "num_heads", "True"],
    "Hopfield()": ["ValueError", "dim must be given unless nothing is projected"],
    "Hopfield(6, value_dim=4, connect_values=True)": [
        "ValueError",
        "connect_values",
        "value_dim = head_dim",
        "4 and 6",
    ],
    "Hopfield(6, value_in_dim=4, connect_values=True)": ["ValueError", "connect_values", "6 wide", "value_in_dim 4"],
    "Hopfield(6, num_heads=2, project_stored=False, stored_dim=6)": ["ValueError", "stored_dim", "head_dim = 3", "6"],
    "Hopfield(6, head_dim=3, project_value=False, value_in_dim=6)": ["ValueError", "value_in_dim", "value_dim = 3"],
    "Hopfield(6, num_heads=2, project_out=False, out_dim=5)": ["ValueError", "num_heads * value_dim = 6, got 5"],
    "Hopfield(project_stored=False, project_state=False, project_value=False, project_out=False)": [
        "ValueError",
        "norm_stored needs a width",
        "norm_stored=False",
    ],
    "Hopfield(6, beta=0.0)": ["ValueError", "beta must be greater than 0, got 0.0"],
    "Hopfield(6, beta=float('nan'))": ["ValueError", "beta must be finite, got nan"],
    "Hopfield(6, num_heads=3, beta=[1.0, 2.0])": ["ValueError", "beta must be one number or one for each of 3 heads"],
    "Hopfield(6, beta='1')": ["TypeError", "beta must be a number", "'1'"],
    "Hopfield(6, num_updates=0)": ["ValueError", "num_updates must be an integer of at least 1, got 0"],
    "Hopfield(6, num_updates=1.5)": ["TypeError", "num_updates", "1.5"],
    "Hopfield(6, num_heads=2, num_updates=[1, 0])": ["ValueError", "num_updates", "got 0"],
    "Hopfield(6, num_updates=None, tol=None)": ["ValueError", "num_updates=None", "needs a tol"],
    "Hopfield(6, tol=0.0)": ["ValueError", "tol must be greater than 0, got 0.0"],
    "Hopfield(6, stop='states')": ["ValueError", "stop", "did you mean 'state'"],
    "Hopfield(6, post='l3')": ["ValueError", "post", "'layer_norm'", "'l3'"],
    "Hopfield(6, association='sparsmax')": ["ValueError", "association", "did you mean 'sparsemax'"],
    "Hopfield(6, alpha=1.5)": ["ValueError", "alpha", "'entmax', 'normmax'", "'softmax'"],
    "Hopfield(6, association='entmax', alpha=0.5)": ["ValueError", "alpha", "at least 1", "0.5"],
    "Hopfield(6, association='entmax', alpha=3.0, learn_alpha=True)": ["ValueError", "from 1 to 2", "3.0"],
    "Hopfield(6, association='normmax', alpha=1.0)": ["ValueError", "normmax", "one number above 1"],
    "Hopfield(6, association='sparsemax', learn_alpha=True)": ["ValueError", "learn_alpha", "'entmax'"],
    "Hopfield(6, association='entmax', k=3)": ["ValueError", "k is an option of", "'budget', 'topk'"],
    "Hopfield(6, association='topk', k=0)": ["ValueError", "k must be an integer of at least 1"],
    "Hopfield(6, norm_state={'afine': True})": ["ValueError", "norm_state", "did you mean 'affine'"],
    "Hopfield(6, norm_state={'eps': 0})": ["ValueError", "eps of norm_state", "greater than 0"],
    "Hopfield(6, norm_state='yes')": ["TypeError", "norm_state", "'yes'"],
    "Hopfield(6, activation='reluu')": ["ValueError", "activation", "did you mean 'relu'"],
    "Hopfield(6, activation=3)": ["ValueError", "activation must be a callable or the name of a function", "3"],
    "Hopfield(6, activation='Tensor')": ["ValueError", "activation", "'Tensor'"],
    "Hopfield(6, dropout=1.0)": ["ValueError", "dropout", "less than 1", "1.0"],
    "Hopfield(6, dropout='0.1')": ["TypeError", "dropout must be a number", "'0.1'"],
    "Hopfield(6, project_stored=False, bias_pattern=True)": ["ValueError", "bias_pattern", "project_stored=True"],
    "Hopfield(6, empty='zeros')": ["ValueError", "empty", "did you mean 'zero'"],
    "Hopfield(6, heads=2)": ["TypeError", "heads"],
    "HopfieldPooling(6, quantity=0)": ["ValueError", "quantity must be an integer of at least 1, got 0"],
    "HopfieldPooling(6, reduce='sum')": ["ValueError", "reduce", "'mean', 'concat'", "'sum'"],
    "HopfieldPooling(6, heads=2)": ["TypeError", "HopfieldPooling has no option 'heads'", "'num_heads'"],
    "HopfieldLayer(6, num_head=2)": ["TypeError", "HopfieldLayer has no option 'num_head'", "did you mean 'num_heads'"],
    "HopfieldSelfAssociation(6, 2, bta=1.0)": ["TypeError", "no option 'bta'", "did you mean 'beta'"],
    "HopfieldLookupHead(6, 3, assocation='topk')": [
        "TypeError",
        "no option 'assocation'",
        "did you mean 'association'",
    ],
    "HopfieldLayer(6, value_in_dim=4)": ["ValueError", "4 wide", "separate_targets=True"],
    "HopfieldLookupHead(6, 3, num_heads=2)": ["TypeError", "num_heads", "HopfieldLayer"],
    "HopfieldLookupHead(6, 0)": ["ValueError", "out_features", "got 0"],
    "HopfieldEncoderLayer(nn.Linear(3, 3))": ["TypeError", "association must be a Hopfield, got Linear"],
    "HopfieldEncoderLayer(Hopfield(6, out_dim=5))": ["ValueError", "6 in and 5 out"],
    "HopfieldDecoderLayer(Hopfield(6), Hopfield(4))": ["ValueError", "equally wide, got 6 and 4"],
}
_SET = "Hopfield(6)(torch.zeros(2, 4, 6)"
CALLS = {
    "Hopfield(6)(torch.zeros(4, 6))": ["ValueError", "stored must have three axes", "(4, 6)"],
    "Hopfield(6)(torch.zeros(2, 4, 5))": ["ValueError", "stored must be 6 wide, got (2, 4, 5)"],
    "Hopfield(6)(torch.zeros(2, 4, 6, dtype=torch.int64))": ["TypeError", "stored", "floating", "torch.int64"],
    "Hopfield(6)([[[0.0] * 6]])": ["TypeError", "stored must be a tensor", "list"],
    "Hopfield(6)(torch.zeros(2, 0, 6), torch.zeros(2, 3, 6))": ["ValueError", "no stored pattern", "zero_pattern"],
    f"{_SET}, torch.zeros(3, 4, 6))": ["ValueError", "same batch", "stored 2, state 3"],
    f"{_SET}, None, torch.zeros(2, 3, 6))": ["ValueError", "a value for each of 4 patterns, got 3"],
    f"{_SET}, padding_mask=torch.zeros(2, 3, dtype=torch.bool))": ["ValueError", "padding_mask", "(2, 4)", "(2, 3)"],
    f"{_SET}, padding_mask=torch.zeros(2, 4))": ["TypeError", "padding_mask", "torch.bool", "torch.float32"],
    f"{_SET}, association_mask=torch.zeros(3, 4))": ["ValueError", "association_mask", "(4, 4)", "(3, 4)"],
    f"{_SET}, association_mask=torch.zeros(4, 4, dtype=torch.int64))": ["TypeError", "association_mask", "int64"],
    "HopfieldPooling(6)(torch.zeros(2, 4, 6), values=torch.zeros(3, 4, 6))": ["ValueError", "same batch"],
    "HopfieldSelfAssociation(6, 2)(torch.zeros(2, 4, 6), torch.zeros(3, 3))": [
        "ValueError",
        "attn_mask must broadcast to (2, 2, 4, 4), got (3, 3)",
    ],
    "HopfieldSelfAssociation(6, 2)(torch.zeros(2, 4, 5))": ["ValueError", "x must be 6 wide, got (2, 4, 5)"],
    "HopfieldPooling(6)(torch.zeros(2, 0, 6))": ["ValueError", "no stored pattern"],
    "HopfieldPooling(6)(torch.zeros(4, 6), offsets=[0, 2.5, 4])": ["TypeError", "offsets must be integers", "2.5"],
    "HopfieldPooling(6)(torch.zeros(4, 6), offsets=np.array([0, 2.5, 4]))": ["TypeError", "offsets", "float64"],
    "HopfieldPooling(6)(torch.zeros(4, 6), offsets=np.array([0, 2, 3]))": ["ValueError", "from 0 to the 4 rows"],
    "HopfieldLayer(6, quantity=3).store(torch.full((3, 6), torch.nan))": ["ValueError", "patterns must be finite"],
    "HopfieldLookupHead(6, 3, stop='association', tol=1e-3)": ["ValueError", "stop must be 'state'"],
    "HopfieldLayer(6, quantity=3).store(torch.zeros(2, 6))": ["ValueError", "patterns must be (3, 6), got (2, 6)"],
    "HopfieldLayer(6, quantity=3).store(torch.zeros(3, 6), torch.zeros(3, 6))": ["ValueError", "separate_targets=True"],
    "HopfieldLookupHead(6, 3)(torch.zeros(2, 5))": ["ValueError", "must have 6 features", "(2, 5)"],
    "HopfieldLookupHead(6, 3, quantity=2).set_prototypes(torch.zeros(2, 6), torch.tensor([0, 3]))": [
        "ValueError",
        "labels must be integers from 0 to 2",
    ],
    "associate(torch.zeros(2, 3), 'topk', k=4)": ["ValueError", "k of topk", "1 to the 3 patterns, got 4"],
    "hopfield_association(*[torch.zeros(1, 1, 2, 3)] * 3, torch.ones(1), stop='stat')": ["ValueError", "'state'"],
}
CASES = {**CONSTRUCTORS, **CALLS}
_IMPORTS = "import numpy as np; from zoo.layers.hopfield import *"


@pytest.fixture(scope="module")
def messages():
    return answers(CASES, _IMPORTS)


@pytest.mark.parametrize("case", CASES)
def test_refused(case, messages):
    for part in CASES[case]:
        assert part in messages[case], messages[case]
