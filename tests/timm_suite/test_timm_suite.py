"""timm's contract, checked by timm's own tests."""

from __future__ import annotations

import re

import pytest
import timm

import zoo
from tests.timm_suite.runner import SuiteUnavailableError, fetch_suite, run_suite

#: Tests of one model whose features are maps: forward, backward, configuration, TorchScript, three of features,
#: pruning, and three of torch.fx.
PER_MODEL = 11
#: Tests of one checkpoint: its weights load into the model, and into its feature extractor.
PER_CHECKPOINT = 2

#: Tests of one model whose features are tokens: there is none of `forward_features` as maps.
PER_TOKEN_MODEL = 10
#: Nor one of the weights in a feature extractor.
PER_TOKEN_CHECKPOINT = 1
_KAN = ("torchscript", "a KAN layer asks its basis in Python, which TorchScript cannot read")
_ONE_PATH = (
    "torchscript or backward",
    "a stitched network runs one of its paths, chosen in Python, and what the others have alone gets no gradient",
)
_ELSEWHERE = ("pretrained", "its files are the authors', on the Hub; tests/models loads such from a hub of our own")
#: What a model cannot do here, by words in the names of timm's tests ("one or another"), with the reason.
EXCLUDED = {
    "convnext_atto_kan": _KAN,
    "resnet18_kan_head": _KAN,
    "swin_tiny_kan": _KAN,
    "vit_tiny_kan_avg": _KAN,
    "vit_tiny_r_s16_kan": _KAN,
    "vgg_kagn11_v2": _ELSEWHERE,
    "vgg_kagn11_v4": _ELSEWHERE,
    "vgg_kagn_bn11_v4": _ELSEWHERE,
    **dict.fromkeys(zoo.list_models("snnet*"), _ONE_PATH),
    "vit_small_dina": ("torchscript", "a mixer on maps is fed by Python code that TorchScript cannot read"),
}
_CI = (pytest.mark.ci_long, pytest.mark.timeout(1800))
_MARKS = {
    "medvit2_kan_nano": (),
    "medvit2_kan_tiny": _CI,
    "resnet18_kan_head": (),
    "snnet_levit": (),
    "snnet_deit": _CI,
    "tversky_mnist_cnn": (),
    "resnet18_tversky_head": _CI,
    "vit_tiny_kan_avg": _CI,
    "convnext_atto_kan": _CI,
}
#: Names of models whose features are tokens.
_TOKENS = re.compile(r"vit_|snnet(v2)?_(deit|levit|vit)")
_LONG = (pytest.mark.slow, pytest.mark.timeout(7200))
#: Two and more networks in one, cut off at every block: minutes on one core.
_LARGE = re.compile("snnetv2_")
# Of image models, each once: an alias is the same model again.
_MODELS = [n for n in zoo.list_models() if (e := zoo.registry.model_entry(n)).name == n and e.input_size]
_CASES = [pytest.param(n, marks=_MARKS.get(n, _LONG)) for n in _MODELS]


@pytest.fixture(scope="session")
def suite(pytestconfig):
    try:
        return fetch_suite(pytestconfig.cache.mkdir("timm_suite"))
    except SuiteUnavailableError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", _CASES)
def test_model_passes(name, suite, tmp_path):
    token_model = _TOKENS.match(name) is not None
    word, _ = EXCLUDED.get(name, ("", ""))
    limit = 7200 if _LARGE.match(name) else None
    result = run_suite(suite, tmp_path / "report.xml", [name], [name] if token_model else [], without=word, limit=limit)
    assert not result.failed, result.output[-6000:]
    assert not result.skipped, result.output[-6000:]
    # One configuration test per checkpoint, of which an architecture without any counts as one; two of TorchScript.
    tags = len(timm.list_models(name, include_tags=True))
    checkpoints = 0 if word == "pretrained" else len(timm.list_pretrained(name))
    without = 2 * sum(part in ("torchscript", "backward") for part in word.split(" or "))
    own = (PER_TOKEN_MODEL if token_model else PER_MODEL) - without
    loaded = (PER_TOKEN_CHECKPOINT if token_model else PER_CHECKPOINT) * checkpoints
    assert len(result.passed) == own - 1 + tags + loaded, result.output[-6000:]
