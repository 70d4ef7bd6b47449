"""Every bad input is refused, in the constructor where it can be seen there, with what is allowed."""

import pytest

from tests.layers.answers import answers

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
    "TverskyProjection(5, 3, 4)(torch.zeros(2, 6))": ["ValueError", "equally wide", "(2, 6)"],
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
X, P, F = "torch.zeros(2, 5)", "torch.zeros(3, 5)", "torch.zeros(4, 5)"
CONSTRUCTORS |= {
    "TverskyProjection(5, 3, 4, normalize='no')": ["TypeError", "normalize must be True or False, got 'no'"],
    "TverskyProjection(5, 3, 4, per_feature=1)": ["TypeError", "per_feature", "1"],
    "TverskyProjection(5, 3, 4, nonnegative='yes')": ["TypeError", "nonnegative", "'yes'"],
    "TverskyProjection(5, 3, 4, scale=True)": ["TypeError", "scale", "True"],
    "TverskyProjection(5, 3, 4, learn_scalars=None)": ["TypeError", "learn_scalars", "'alpha'", "None"],
    "TverskyProjection(5, 3, 4, dtype=torch.int32)": ["TypeError", "dtype must be a floating type, got torch.int32"],
}
CALLS |= {
    f"tversky_similarity({X}, torch.zeros(5), {F})": ["ValueError", "prototypes must be (P, 5)", "(5,)"],
    f"tversky_similarity({X}, {P}, torch.zeros(5))": ["ValueError", "feature_bank must be (F, d)", "(5,)"],
    f"tversky_similarity({X}, {P}, torch.zeros(1, 4, 5))": ["ValueError", "feature_bank must be (F, d)"],
    f"tversky_similarity({X}, {P}, torch.zeros(0, 5))": ["ValueError", "at least one feature, got (0, 5)"],
    f"tversky_similarity(torch.zeros(2, 3, 5), torch.zeros(3, 4, 5), {F})": [
        "ValueError",
        "the same lead",
        "(2, 3, 5)",
    ],
    f"tversky_similarity({X}, {P}, {F}, alpha=torch.zeros(3))": ["ValueError", "alpha must be one number", "(3,)"],
    f"tversky_cross_entropy({X}, {P}, {F}, torch.zeros(2).long(), beta=torch.zeros(2))": ["ValueError", "beta"],
    f"tversky_similarity({X}.numpy(), {P}, {F})": ["TypeError", "x must be a tensor, got ndarray"],
    "TverskyProjection(5, 3, 4)(torch.zeros(2, 5).double())": [
        "TypeError",
        "x torch.float64",
        "prototypes torch.float32",
    ],
    "TverskyProjection(5, 3, prototypes=nn.Embedding(3, 5)).double()(torch.zeros(2, 5).double())": [
        "TypeError",
        "prototypes torch.float32",
        "cast what is shared",
    ],
    "TverskyProjection(5, 3, 4).freeze(torch.int8)": ["TypeError", "torch.bfloat16", "torch.int8"],
    "TverskyProjection(5, 3, 4).freeze('bfloat16')": ["TypeError", "'bfloat16'"],
    "TverskyProjection(5, 3, 4).diagnose(torch.zeros(2, 5) / 0)": ["ValueError", "NaN"],
    "TverskyProjection(5, 3, 4).set_prototype(1, torch.zeros(5) / 0)": ["ValueError", "finite"],
    "TverskyProjection(5, 3, 4).set_prototype(1, [0.0] * 5)": ["TypeError", "tensor, got list"],
    "TverskyProjection(5, 3, 4).set_prototype(slice(0, 2), torch.zeros(5))": ["TypeError", "integer, got slice"],
    "TverskyProjection(5, 3, 4, nonnegative=True).load_state_dict("
    "{**TverskyProjection(5, 3, 4).state_dict(), 'alpha': torch.tensor(-1.0)})": ["alpha is -1", "above 0"],
}
CASES = {**CONSTRUCTORS, **CALLS}
_IMPORTS = "from zoo.layers import TverskyProjection, TverskySimilarity, tversky_cross_entropy, tversky_similarity"


@pytest.fixture(scope="module")
def messages():
    return answers(CASES, _IMPORTS)


@pytest.mark.parametrize("case", CASES)
def test_refused(case, messages):
    for part in CASES[case]:
        assert part in messages[case], messages[case]
