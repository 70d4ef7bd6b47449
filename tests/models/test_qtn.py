"""The registered networks of proteins: sizes, what a saved one says of itself, classes, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import zoo
from zoo.quantum import KmerTokenizer
from zoo.weights.card import make_card
from zoo.weights.config import read_config

NAMES = ("qtn_uptn_aa", "qtn_hptn_aa", "qtn_uttn_aa", "qtn_httn_aa", "qtn_uctn_aa", "qtn_hctn_aa")


def count(name: str, **options: object) -> int:
    return sum(parameter.numel() for parameter in zoo.create_model(name, **options).parameters())


def test_the_catalogue_has_the_six_with_the_numbers_of_parameters_that_they_have() -> None:
    assert set(zoo.list_models("qtn_*")) == set(NAMES)
    for name in NAMES:
        assert count(name) == zoo.registry.model_entry(name).params
    # The protein paper speaks of around 800.
    assert count("qtn_hptn_aa") == 794
    table = {"qtn_uptn_aa": (74, 74), "qtn_hptn_aa": (570, 1082), "qtn_uttn_aa": (74, 74), "qtn_httn_aa": (114, 122),
             "qtn_uctn_aa": (82, 82), "qtn_hctn_aa": (162, 178)}  # fmt: skip
    for name, (short, long) in table.items():
        assert (count(name, max_len=64), count(name, max_len=128)) == (short, long)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_network_is_itself_again(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = KmerTokenizer(2, alphabet="ACGT")
    net = zoo.create_model(name, num_classes=4, qubits=2, max_len=8, post_select=False, tokenizer=tokenizer.to_dict())
    tokens, lengths = torch.randint(0, 17, (3, 8)), torch.tensor([2, 8, 5])
    zoo.save_pretrained(net, tmp_path / "net")
    again = zoo.create_model(f"local-dir:{tmp_path / 'net'}")
    assert again.tokenizer == tokenizer
    assert torch.equal(again(tokens, lengths), net(tokens, lengths))
    assert zoo.data_config(again) == {"input_size": (8,), "mean": None, "std": None}
    card = make_card(read_config(tmp_path / "net"), repo_id="me/net", license="mit")
    assert "- Input: sequences of letters, of which the first 8 words are taken" in card
    assert 'zoo.predict(model, "proteins.fasta")' in card


def test_a_tokenizer_of_ones_own_is_trained_saved_and_used(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    rows = [f"{letters * 3},{letters[0]}" for a in "ACGT" for b in "ACGT" for letters in (a + b, a + b + a)]
    table.write_text("sequence,label\n" + "\n".join(row for row in rows if row[-1] in "AC") + "\n")
    tokenizer = KmerTokenizer(2, 2, alphabet="ACGT")
    net = zoo.create_model("qtn_uttn_aa", tokenizer=tokenizer, num_classes=2, max_len=4)
    zoo.save_pretrained(net, tmp_path / "net")
    assert read_config(tmp_path / "net").model_args["tokenizer"] == tokenizer.to_dict()
    again = zoo.create_model(f"local-dir:{tmp_path / 'net'}")
    assert again.tokenizer == tokenizer
    texts = ["ACGTTT", "GGGGCA"]
    assert zoo.predict(again, texts) == zoo.predict(net, texts)
    run = tmp_path / "run"
    options = {"tokenizer": tokenizer, "max_len": 4}
    result = zoo.finetune("qtn_uttn_aa", str(table), model_args=options, epochs=1, lr=0.01, out=run)
    assert result.model.tokenizer == tokenizer
    assert zoo.create_model(f"local-dir:{run}").tokenizer == tokenizer
    assert zoo.predict(str(run), texts)[0]["label"] in ("A", "C")


def test_padding_may_be_refused_and_a_saved_model_refuses_it_too(tmp_path: Path) -> None:
    net = zoo.create_model("qtn_uctn_aa", max_len=8, pad="none")
    zoo.save_pretrained(net, tmp_path / "net")
    six = torch.zeros(2, 6, dtype=torch.long)
    for model in (net, zoo.create_model(f"local-dir:{tmp_path / 'net'}")):
        assert model(six[:, :4]).shape == (2, 2)
        with pytest.raises(ValueError, match="with pad='none' sequences are a power of two, got 6 words"):
            model(six)
    assert zoo.create_model("qtn_uctn_aa", pad=None).pad == "identity"  # None is the default, here as everywhere


def test_another_number_of_classes_draws_the_readout_anew_and_nothing_else() -> None:
    net = zoo.create_model("qtn_uptn_aa", qubits=2)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.reset_classifier(3)
    assert net(torch.tensor([[0, 1, 2]])).shape == (1, 3)
    changed = [name for name, value in net.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["readout.weight"]
    with pytest.raises(ValueError, match="5 classes need 3 qubits to be read, a wire has 2"):
        net.reset_classifier(5)


def test_what_is_for_images_is_refused(tmp_path: Path) -> None:
    net = zoo.create_model("qtn_uptn_aa")
    with pytest.raises(zoo.errors.UnsupportedSurgery, match="no image model"):
        zoo.create_model("qtn_uptn_aa", head="linear")
    with pytest.raises(zoo.errors.ExportError, match="sequences of letters"):
        zoo.export(net, tmp_path / "net.pt2")
    with pytest.raises(ValueError, match="takes sequences: leave out space="):
        zoo.push_to_hub(net, "me/net", space=True)
