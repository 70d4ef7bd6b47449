"""Every bad input is refused, in the constructor where it can be seen there, with what is allowed."""

import json
import subprocess
import sys

import pytest

#: expression -> parts of the message.
CONSTRUCTORS = {
    "TverskyProjection(0, 3, 4)": ["ValueError", "in_features must be an integer of at least 1, got 0"],
    "TverskyProjection(5, 0, 4)": ["ValueError", "out_features must be", "got 0"],
    "TverskyProjection(5, 3, -1)": ["ValueError", "num_features must be", "got -1"],
    "TverskyProjection(5, 3, 2.5)": ["TypeError", "num_features must be an integer", "2.5"],
    "TverskyProjection(5, 3, 4, similarity='contrst')": [
        "ValueError",
        "similarity",
        "'ratio'",
        "did you mean 'contrast'",
    ],
    "TverskyProjection(5, 3, 4, intersection='prod')": [
        "ValueError",
        "intersection",
        "'gmean'",
        "did you mean 'product'",
    ],
    "TverskyProjection(5, 3, 4, difference='ignore')": ["ValueError", "difference", "did you mean 'ignorematch'"],
    "TverskyProjection(5, 3, 4, difference='substractmatch_common')": ["ValueError", "per_feature=True"],
    "TverskyProjection(5, 3, 4, per_feature=True, difference='no')": ["ValueError", "'substractmatch_common'", "'no'"],
    "TverskyProjection(5, 3, 4, init='unifrom')": ["ValueError", "init", "did you mean 'uniform'"],
    "TverskyProjection(5, 3, 4, membership='hrad')": ["ValueError", "membership", "did you mean 'hard'"],
    "TverskyProjection(5, 3, 4, backend='fast')": ["ValueError", "backend", "'auto'", "'fast'"],
    "TverskyProjection(5, 3, 4, scale='sqrt')": ["ValueError", "scale", "'rsqrt_features'", "'sqrt'"],
    "TverskyProjection(5, 3, 4, scale=0.0)": ["ValueError", "scale", "other than 0"],
    "TverskyProjection(5, 3, 4, similarity='ratio', learn_scalars=['theta'])": ["ValueError", "'theta'", "ratio"],
    "TverskyProjection(5, 3, 4, learn_scalars=['gamma'])": ["ValueError", "learn_scalars", "'theta'", "'gamma'"],
    "TverskyProjection(5, 3, 4, feature_bank=nn.Parameter(torch.zeros(4, 6)))": [
        "ValueError",
        "feature_bank",
        "(4, 5)",
        "(4, 6)",
    ],
    "TverskyProjection(5, 3, 2, feature_bank=nn.Embedding(4, 5))": ["ValueError", "feature_bank", "(2, 5)", "(4, 5)"],
    "TverskyProjection(5, 3, prototypes=nn.Embedding(4, 5))": ["ValueError", "prototypes", "(3, 5)", "(4, 5)"],
    "TverskyProjection(5, 3, feature_bank=torch.zeros(4, 5))": ["TypeError", "nn.Parameter", "Tensor"],
    "TverskyProjection(5, 3, feature_bank=nn.Embedding(4, 5).double())": ["ValueError", "torch.float64", "dtype="],
    "TverskyProjection(5, 3, prototypes=nn.Embedding(3, 5, device='meta'))": ["ValueError", "meta", "device="],
    "TverskyProjection(5, 3, num_feature=4)": ["TypeError", "num_feature"],
    "TverskySimilarity(5, 0)": ["ValueError", "num_features", "got 0"],
    "TverskySimilarity(5, similarity='ratios')": ["ValueError", "did you mean 'ratio'"],
}
CALLS = {
    "TverskyProjection(5, 3, 4)(torch.zeros(2, 6))": ["ValueError", "last axis of x must have 5", "(2, 6)"],
    "TverskyProjection(5, 3, 4)(torch.zeros(2, 5, dtype=torch.int64))": ["TypeError", "floating", "torch.int64"],
    "TverskyProjection(5, 3, 4)(torch.zeros(2, 5), prototypes=torch.zeros(3, 4))": [
        "ValueError",
        "prototypes",
        "(3, 4)",
    ],
    "tversky_similarity(torch.zeros(2, 5), torch.zeros(3, 5), torch.zeros(4, 6))": ["ValueError", "6", "(2, 5)"],
    "tversky_similarity(torch.zeros(5), torch.zeros(2, 3, 5), torch.zeros(4, 5))": [
        "ValueError",
        "(*lead, n, 5)",
        "(5,)",
    ],
    "tversky_similarity(torch.zeros(2, 5), torch.zeros(3, 5), torch.zeros(4, 5), intersection='x')": [
        "ValueError",
        "intersection",
    ],
}
CASES = {**CONSTRUCTORS, **CALLS}
_SCRIPT = """
import json, sys, torch
from torch import nn
from zoo.layers import TverskyProjection, TverskySimilarity, tversky_similarity

for case in json.load(sys.stdin):
    try:
        eval(case)
        print(json.dumps([case, "no error"]))
    except Exception as error:
        print(json.dumps([case, f"{type(error).__name__}: {error}"]))
"""


@pytest.fixture(scope="module")
def messages():
    """From a process without the session's checks of annotations, which would speak first."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], input=json.dumps(list(CASES)), capture_output=True, text=True, check=True
    )
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("case", CASES)
def test_refused(case, messages):
    for part in CASES[case]:
        assert part in messages[case], messages[case]
