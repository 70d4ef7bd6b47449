"""Language models with Tversky projections."""

import copy
import math
import pickle
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import zoo
from zoo.errors import MissingExtraError
from zoo.models.tversky_gpt2 import tversky_gpt2
from zoo.registry import register_model

transformers = pytest.importorskip("transformers")

SMALL = {"vocab_size": 50, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2, "num_features": 24}
KINDS = ({}, {"tied": True}, {"everywhere": True}, {"tied": True, "everywhere": True})


def small(**options):
    torch.manual_seed(0)
    return tversky_gpt2(**{**SMALL, **options}).eval()


def some_ids(tokens=9):
    return torch.randint(0, 50, (3, tokens), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 163_037_184 + 16_384 * 768 + 3),
        ({"tied": True, "num_features": 4_096}, 124_439_808 + 4_096 * 768 + 3),
        ({"tied": True, "everywhere": True, "num_features": 8_192}, 81_130_827),
        ({"everywhere": True, "num_features": 4_096}, 116_582_475),
    ],
    ids=str,
)
def test_parameters_at_full_size(options, count):
    with torch.device("meta"):
        model = tversky_gpt2(**options)
    parameters = list(model.parameters())
    assert all(p.is_meta for p in parameters)
    assert sum(p.numel() for p in parameters) == count
    assert sum(t.numel() for t in model.state_dict().values()) == count


def test_transformer_is_gpt2():
    """Weights of GPT-2 fit, and the hidden states are then its own."""
    model = small()
    config = transformers.GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2)
    official = transformers.GPT2LMHeadModel(config).eval()
    missing, unexpected = model.load_state_dict(official.state_dict(), strict=False)
    assert all(name.startswith("head.") for name in missing)
    assert unexpected == ["lm_head.weight"]
    hidden = official(some_ids(), output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(model(some_ids()), model.head(hidden))


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_only_earlier_tokens_count(options):
    model, ids = small(**options), some_ids()
    changed = ids.clone()
    changed[:, 5] = (ids[:, 5] + 1) % 50
    before, after = model(ids), model(changed)
    assert before.shape == (3, 9, 50)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert (before[:, 5:] - after[:, 5:]).abs().amax(-1).min() > 1e-6


def test_masked_tokens_are_not_seen():
    model, ids = small(everywhere=True), some_ids()
    mask = torch.ones_like(ids)
    mask[:, 2] = 0
    changed = ids.clone()
    changed[:, 2] = (ids[:, 2] + 1) % 50
    others = mask[0].bool()
    torch.testing.assert_close(model(ids, mask)[:, others], model(changed, mask)[:, others])
    assert not torch.allclose(model(ids)[:, -1], model(ids, mask)[:, -1])


def test_padding_at_the_front_changes_nothing():
    """Positions count from the first token that is seen; a hole behind it keeps its place."""
    model, ids = small(everywhere=True), some_ids()
    mask = torch.ones_like(ids)
    mask[0, :4] = mask[1, :1] = 0
    mask[2, 5] = 0
    found = model(ids, mask)
    torch.testing.assert_close(found[0, 4:], model(ids[:1, 4:])[0])
    torch.testing.assert_close(found[1, 1:], model(ids[1:2, 1:])[0])
    torch.testing.assert_close(found[2, :5], model(ids)[2, :5])
    assert torch.equal(model(ids, mask.bool()), found)
    assert torch.equal(model(ids, mask.float()), found)
    labels = ids.masked_fill(mask == 0, -100)
    gradients = torch.autograd.grad(model(ids, mask, labels).loss, list(model.parameters()))
    assert all(bool(g.isfinite().all()) for g in gradients)


def test_no_texts():
    model, ids = small(), some_ids()[:0]
    assert model(ids).shape == (0, 9, 50)
    assert model(ids, torch.ones(0, 9), labels=ids).loss.isnan()


def test_no_label_that_counts():
    model, ids = small(), some_ids()
    assert model(ids, labels=torch.full_like(ids, -100)).loss.isnan()
    assert model(ids[:, :1], labels=ids[:, :1]).loss.isnan()


@pytest.mark.parametrize("options", [*KINDS, {"difference": "substractmatch", "nonnegative": True}], ids=str)
def test_loss_is_the_cross_entropy_of_the_next_token(options):
    model, ids = small(**options), some_ids()
    labels = ids.clone()
    labels[0, :4] = -100
    parameters = list(model.parameters())
    loss, hidden = model(ids, labels=labels)
    logits = model(ids)
    torch.testing.assert_close(model.head(hidden), logits)
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(loss, expected)
    found = torch.autograd.grad(loss, parameters)
    torch.testing.assert_close(found, torch.autograd.grad(expected, parameters), rtol=1e-4, atol=1e-6)


def test_tied_prototypes_are_the_embedding():
    model = small(tied=True, everywhere=True)
    names = dict(model.named_parameters())
    assert model.head.prototypes.weight is model.transformer.wte.weight
    assert [n for n in names if "feature_bank" in n] == ["head.feature_bank.weight"]
    assert names.keys() == model.state_dict().keys()
    assert not any("prototypes" in n and n.startswith("head") for n in names)


def test_another_embedding_is_followed(tmp_path, registered_gpt2):
    model = zoo.create_model(registered_gpt2, **SMALL, tied=True).eval()
    with torch.no_grad():
        model(some_ids())  # the head keeps what follows from the first embedding
    model.transformer.wte = nn.Embedding(11, 16)
    assert model.num_classes == 11
    ids = some_ids() % 11
    with torch.no_grad():
        before = model(ids)
    assert before.shape == (3, 9, 11)
    with pytest.raises(ValueError, match="tokens from 0 to 10, got 11"):
        model(torch.tensor([[11]]))
    model.transformer.resize_token_embeddings(13, mean_resizing=False)
    with torch.no_grad():
        after = model(ids)
    assert model.num_classes == after.shape[-1] == 13
    torch.testing.assert_close(after[..., :11], before)
    zoo.save_pretrained(model, tmp_path / "model")
    again = zoo.create_model(f"local-dir:{tmp_path / 'model'}").eval()
    assert again.num_classes == 13
    torch.testing.assert_close(again(ids), after)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
def test_copies_share_within_themselves(copied):
    model = small(tied=True)
    other = copied(model)
    assert other.head.prototypes.weight is other.transformer.wte.weight
    assert other.head.prototypes.weight is not model.transformer.wte.weight
    assert torch.equal(other(some_ids()), model(some_ids()))


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_first_loss_is_that_of_guessing(options):
    model, ids = small(**options), some_ids()
    assert abs(model(ids, labels=ids).loss.item() - math.log(50)) < 0.5


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_learns_a_sequence(options):
    model = small(**options, drop_rate=0.0).train()
    ids = torch.arange(16).repeat(4, 1)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        model(ids, labels=ids).loss.backward()
        optimiser.step()
    assert model(ids, labels=ids).loss.item() < 0.5


def test_int32_tokens():
    model, ids = small(), some_ids()
    assert torch.equal(model(ids.int()), model(ids))
    assert torch.equal(model(ids, labels=ids.int()).loss, model(ids, labels=ids).loss)


def test_dtype_and_device():
    model = small(tied=True, everywhere=True, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    wide = small(tied=True, everywhere=True)
    found, expected = model(some_ids()).float(), wide(some_ids())
    assert ((found - expected).norm() / (expected - expected.mean(-1, keepdim=True)).norm()).item() < 0.1
    assert tversky_gpt2(**SMALL, device="meta").head.theta.is_meta


_SCRIPT = """
import torch
from zoo.models.tversky_gpt2 import tversky_gpt2
torch.manual_seed(0)
sizes = dict(vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2, num_features=24)
model = tversky_gpt2(**sizes, everywhere=True, tied=True).eval()
ids = torch.randint(0, 50, (2, 9))
compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
torch.testing.assert_close(compiled(ids), model(ids))
torch.testing.assert_close(compiled(ids, labels=ids).loss, model(ids, labels=ids).loss)
axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens", max=16)}
exported = torch.export.export(model, (ids,), dynamic_shapes={"input_ids": axes}).module()
ids = torch.randint(0, 50, (3, 7))
torch.testing.assert_close(exported(ids), model(ids))
"""


@pytest.mark.ci_long
def test_compiled_and_exported():
    """In a process of its own: without the run-time checks around the calls."""
    subprocess.run([sys.executable, "-c", _SCRIPT], check=True, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_saved_and_loaded(options, tmp_path, registered_gpt2):
    model = zoo.create_model(registered_gpt2, **SMALL, **options)
    zoo.save_pretrained(model, tmp_path / "model")
    again = zoo.create_model(f"local-dir:{tmp_path / 'model'}")
    assert torch.equal(model.eval()(some_ids()), again.eval()(some_ids()))
    assert (again.head.prototypes.weight is again.transformer.wte.weight) == options.get("tied", False)
    for block in again.transformer.h if "everywhere" in options else ():
        assert block.attn.c_proj.feature_bank.weight is again.head.feature_bank.weight
    assert again.state_dict().keys() == model.state_dict().keys()


@pytest.fixture(scope="module")
def registered_gpt2():
    register_model(tversky_gpt2, name="test_tversky_gpt2", override=True, hidden=True)
    return "test_tversky_gpt2"


def test_classes_are_the_vocabulary(registered_gpt2):
    assert small(num_classes=50).num_classes == 50
    with pytest.raises(ValueError, match="num_classes=5 is not vocab_size=50257; give vocab_size=5 alone"):
        zoo.create_model(registered_gpt2, num_classes=5)
    with pytest.raises(TypeError, match="takes no argument 'in_chans'"):
        zoo.create_model(registered_gpt2, in_chans=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_embd": 15}, "n_embd must be a multiple of n_head, got 15 and 2"),
        ({"n_layer": 0}, "n_layer must be an integer of at least 1, got 0"),
        ({"num_features": 0}, "num_features must be an integer of at least 1, got 0"),
        ({"intersection": "prodct"}, "did you mean 'product'"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(ValueError, match=message):
        tversky_gpt2(**{**SMALL, **options})


_SWITCHES = """
from zoo.models.tversky_gpt2 import tversky_gpt2
for options in ({"tied": "yes"}, {"everywhere": 1}):
    try:
        tversky_gpt2(8, **options)
    except TypeError as error:
        print(error)
"""


def test_refuses_other_switches():
    """In a process of its own: the run-time checks of annotations would refuse them first."""
    done = subprocess.run([sys.executable, "-c", _SWITCHES], check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == [
        "tied must be True or False, got 'yes'",
        "everywhere must be True or False, got 1",
    ]


def test_refuses_calls():
    model, ids = small(), some_ids()
    with pytest.raises(TypeError, match=r"takes tokens, no images: .* int64 or int32, got torch\.float32"):
        model(ids.float())
    with pytest.raises(ValueError, match=r"input_ids must be \(batch, tokens\), got \(9,\); .* input_ids\[None\]"):
        model(ids[0])
    with pytest.raises(ValueError, match="17 tokens, the model has 16 positions"):
        model(some_ids(17))
    with pytest.raises(ValueError, match="tokens from 0 to 49, got 50"):
        model(torch.tensor([[3, 50]]))
    with pytest.raises(ValueError, match="tokens from 0 to 49, got -1"):
        model(torch.tensor([[-1, 50]]))
    with pytest.raises(ValueError, match=r"labels must be \(3, 9\), as input_ids, got \(3, 8\)"):
        model(ids, labels=ids[:, 1:])
    with pytest.raises(TypeError, match=r"labels must be int64 or int32, got torch\.float32"):
        model(ids, labels=ids.float())
    with pytest.raises(ValueError, match=r"must have a token at least, got \(3, 0\)"):
        model(ids[:, :0])
    with pytest.raises(ValueError, match=r"attention_mask must be \(3, 9\), as input_ids, got \(3, 5\)"):
        model(ids, torch.ones(3, 5))
    with pytest.raises(ValueError, match="attention_mask must be 0 and 1, or False and True, got -100"):
        model(ids, torch.full((3, 9), -100.0))


def test_without_transformers(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"'transformers'.*zoo-layers\[text\]"):
        tversky_gpt2(**SMALL)
