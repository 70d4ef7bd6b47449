"""The model card: what is known, nothing invented, and the user's own text kept."""

import pytest
import torch
from huggingface_hub import ModelCard

import zoo
from zoo.weights import describe
from zoo.weights.card import existing_license, is_untouched, make_card, split_card
from zoo.weights.config import parse_config
from zoo.weights.facts import data_facts, metric_rows


def config(name="test_resnet", **facts):
    model = zoo.create_model(name, num_classes=3)
    zoo.set_data_config(model, label_names=["benign", "malignant", "a|b"])
    return parse_config(describe(model, **facts), "config.json")


def card(name="test_resnet", **options):
    return make_card(config(name), repo_id="me/mine", **{"license": "mit", **options})


def test_front_matter_of_a_plain_timm_model():
    data = ModelCard(card()).data.to_dict()
    assert data == {
        "library_name": "timm",
        "license": "mit",
        "pipeline_tag": "image-classification",
        "tags": ["zoo", "timm"],
    }


def test_front_matter_with_results_and_data():
    text = card(
        metrics={"accuracy": 0.98, "f1": 0.97, "split": "test", "samples": 360},
        train_data={"name": "me/digits", "licence": "cc-by-4.0"},
        base_model="timm/resnet",
    )
    data = ModelCard(text).data
    assert data.datasets == ["me/digits"]
    assert data.base_model == "timm/resnet"
    assert data.to_dict()["base_model_relation"] == "finetune"
    assert data.metrics == ["accuracy", "f1"]
    results = {r.metric_type: r for r in data.eval_results}
    assert results["accuracy"].metric_value == 0.98
    assert (results["f1"].dataset_type, results["f1"].dataset_split) == ("me/digits", "test")
    assert "| accuracy | 0.98 | me/digits | test | 360 |" in text
    assert "| licence of the data | cc-by-4.0 |" in text


def test_our_own_model_names_its_modules_paper_and_the_import():
    text = card("medvit2_kan_nano")
    data = ModelCard(text).data
    assert data.library_name == "zoo"
    assert "arxiv:2502.13693" in data.tags
    assert "import timm\nimport zoo  # registers the architecture\nmodel = timm.create_model(" in text
    assert "eprint = {2502.13693}" in text
    assert "Not a medical device" in text


def test_unknown_facts_are_not_stated_and_none_is_made_up():
    text = card()
    assert "## Results\n\nNot stated." in text
    assert "| data | not stated |" in text
    assert "- Fine-tuned from: not stated" in text
    assert "model-index" not in text
    no_data = card(metrics={"accuracy": 0.5})  # a result of unknown data is no result for the Hub's index
    assert "model-index" not in no_data
    assert "| accuracy | 0.5 | not stated | not stated | not stated |" in no_data


def test_preprocessing_classes_and_files_are_the_config_s():
    files = {"model.safetensors": {"sha256": "ab" * 32, "size": 12345}}
    text = make_card(config(files=files), repo_id="me/mine", license="mit", load_name="hf-hub:me/mine@v1")
    assert "| input_size | 3, 160, 160 |" in text
    assert "| mean | 0.5, 0.5, 0.5 |" in text
    assert r"3: benign, malignant, a\|b." in text
    assert f"| model.safetensors | 12,345 | `{'ab' * 32}` |" in text
    assert 'zoo.create_model("hf-hub:me/mine@v1")' in text
    assert "`hf-hub:me/mine@COMMIT`" in text


def test_what_is_not_stated_of_a_training_run_is_said_row_by_row():
    text = card(training={"opt": "adamw", "epochs": 3, "seed": 0})
    assert "| opt | adamw |" in text
    assert "| seed | 0 |" in text
    rows = [line for line in text.splitlines() if line.endswith("| not stated |")]
    assert rows == [
        "| data | not stated |",
        "| licence of the data | not stated |",
        "| schedule | not stated |",
        "| hardware | not stated |",
    ]
    assert "| recipe | not stated |" in card()


def test_multiply_accumulates_are_the_catalogue_s_for_the_catalogue_s_size_alone():
    entry = zoo.registry.model_entry("medvit2_kan_tiny")
    said = f"- Multiply-accumulates: {entry.macs:,} an image"
    made = {n: zoo.create_model("medvit2_kan_tiny", device="meta", num_classes=n) for n in (1000, 3)}
    texts = {n: make_card(parse_config(describe(m), "c"), repo_id="me/m", license="mit") for n, m in made.items()}
    assert f"{said}\n" in texts[1000]
    assert f"{said}, with the classifier that it is registered with\n" in texts[3]
    other = zoo.create_model("medvit2_kan_tiny", device="meta", img_size=256)
    assert "accumulates" not in make_card(parse_config(describe(other), "c"), repo_id="me/m", license="mit")
    assert "accumulates" not in card()  # of timm's models the catalogue knows nothing


def test_a_composition_names_and_cites_what_its_modules_rest_on():
    config = parse_config(describe(zoo.create_model("test_vit", num_classes=3, mlp="faster_kan", head="linear")), "c")
    text = make_card(config, repo_id="me/mine", license="mit")
    assert ModelCard(text).data.tags == ["zoo", "timm", "mlp/faster_kan", "head/linear", "arxiv:2502.13693"]
    assert text.count("@misc{") == 1
    assert "eprint = {2502.13693}" in text
    assert "medical device" not in text  # the layer comes from a medical paper, the model does not
    assert "## Citation" not in card()


def gpt2(**options):
    pytest.importorskip("transformers")
    sizes = {"num_features": 8, "n_embd": 64, "n_layer": 1, "n_head": 2, "vocab_size": 1010, "n_positions": 32}
    return zoo.create_model("tversky_gpt2_tied", **{**sizes, **options})


def test_a_language_model_has_a_vocabulary_and_no_images():
    content = describe(gpt2())
    assert content["pretrained_cfg"].keys().isdisjoint({"mean", "std", "interpolation", "crop_pct", "crop_mode"})
    assert content["pretrained_cfg"]["input_size"] is None
    read = parse_config(content, "config.json")
    assert read.remarks == []
    text = make_card(read, repo_id="me/mine", license="mit")
    assert "- Architecture: `tversky_gpt2_tied`\n- Built with: vocab_size=1010, n_positions=32, n_embd=64" in text
    assert "- Input: tokens, numbers from 0 to 1,009, at most 32 a text\n" in text
    assert "## Vocabulary\n\n1,010 tokens; the tokenizer is not stated." in text
    data = ModelCard(text).data.to_dict()
    assert (data["pipeline_tag"], data["tags"][:2]) == ("text-generation", ["zoo", "head/tversky"])
    for wrong in ("16,384", "GPT-2 small", "224", "channels", "Classes", "Preprocessing", "import timm", "transform ="):
        assert wrong not in text


def test_the_summary_of_a_language_model_is_that_of_its_size():
    sizes = {"num_features": 16_384, "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50_257}
    text = make_card(
        parse_config(describe(gpt2(**sizes, n_positions=1_024, device="meta")), "c"), repo_id="me/m", license="mit"
    )
    summary = zoo.registry.model_entry("tversky_gpt2_tied").summary
    assert f"- Architecture: `tversky_gpt2_tied`, {summary}\n" in text


def test_shards_are_for_zoo_alone():
    files = {f"model-{i:05d}-of-00002.safetensors": {"sha256": "ab" * 32, "size": 5} for i in (1, 2)}
    text = make_card(config(files=files), repo_id="me/mine", license="mit")
    assert ModelCard(text).data.library_name == "zoo"
    assert "import timm" not in text
    assert "which timm does not read" in text


def test_versions_that_wrote_it_are_listed():
    import platform

    import timm
    import torch

    made = card().partition("## Files")[2]
    wanted = (f"torch {torch.__version__.partition('+')[0]}", f"timm {timm.__version__}", f"zoo {zoo.__version__}")
    for said in (*wanted, "safetensors ", "huggingface_hub ", f"Python {platform.python_version()}"):
        assert said in made


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("---\na: 1\nb: [1\n---\nx", r"the front matter of the given card is not YAML: line 4, '---'"),
        ("---\na: 1\n\tb: 2\n---\nx", r"is not YAML: line 3, 'b: 2'"),
        ("\n\n---\na: b: c\n---\nx", r"is not YAML: line 4, 'a: b: c': mapping values are not allowed here"),
        ("\ufeff---\r\na: b: c\r\n---\r\nx", r"is not YAML: line 2, 'a: b: c'"),
        ("---\n- a\n---\nx", r"\(from line 2\) must be 'key: value' lines, got \['a'\]"),
        ("---\na: 1\n", "begins with '---' in line 1, and no line '---' ends it"),
        ("---\nmodel-index: 5\n---\n", "not what the Hub expects"),
        ("---\ntags: 5\n---\n", "'tags' .* must be a list, got 5"),
    ],
)
def test_broken_front_matter_is_told_by_line(text, said):
    with pytest.raises(ValueError, match=said):
        card(body=text)
    if "YAML" in said:
        with pytest.raises(ValueError, match=said.replace("given card", r"README\.md that is there")):
            card(existing=text)
        assert ModelCard(card(existing=text, overwrite=True)).data.license == "mit"


def test_one_tag_as_text_is_a_list_of_one():
    assert ModelCard(card(body="---\ntags: medical\n---\n# Mine")).data.tags == ["medical", "zoo", "timm"]


@pytest.mark.parametrize("text", ["", "# Mine", "---\n---\n# Mine", "Above\n\n---\n\nbelow", "---\na: 1\n---\n# Mine"])
def test_text_with_and_without_front_matter_is_taken_as_it_is(text):
    made = card(body=text)
    assert ModelCard(made).data.license == "mit"
    if text:
        assert made.rstrip().endswith(text.splitlines()[-1])


@pytest.mark.parametrize("license", ["", "  ", None])
def test_a_licence_is_required(license):
    with pytest.raises(ValueError, match="needs a license"):
        card(license=license)


MINE = "---\nlicense: cc-by-4.0\ntags:\n- medical\nlanguage: en\n---\n\n# My model\n\nWritten by hand.\n"


def test_a_card_written_by_hand_keeps_its_text_and_its_facts_are_merged():
    text = card(existing=MINE, metrics={"accuracy": 0.9, "dataset": "digits"})
    data = ModelCard(text).data
    assert "# My model\n\nWritten by hand." in text
    assert "## Use" not in text
    assert data.license == "mit"
    assert data.tags == ["medical", "zoo", "timm"]
    assert data.language == "en"
    assert data.eval_results[0].metric_value == 0.9
    assert "Written by hand" not in card(existing=MINE, overwrite=True)
    assert existing_license(MINE) == "cc-by-4.0"
    assert existing_license(None) is None


def test_a_card_of_ours_is_written_anew_until_somebody_edits_it():
    first = card(metrics={"accuracy": 0.5, "dataset": "digits"})
    assert is_untouched(first)
    second = card(existing=first, metrics={"accuracy": 0.9, "dataset": "digits"})
    assert "| accuracy | 0.9 |" in second
    assert "| accuracy | 0.5 |" not in second
    assert is_untouched(second)
    edited = second.replace("## Licence", "Please cite us.\n\n## Licence")
    assert not is_untouched(edited)
    assert "Please cite us." in card(existing=edited)
    assert not is_untouched(MINE)
    assert not is_untouched(None)


def test_a_card_of_ours_forgets_what_it_said_of_earlier_weights():
    first = make_card(
        config("medvit2_kan_nano"),
        repo_id="me/mine",
        license="mit",
        metrics={"accuracy": 0.5},
        train_data="me/digits",
        base_model="me/base",
    )
    first = first.replace("tags:\n", "tags:\n- medical\n")
    data = ModelCard(card(existing=first)).data.to_dict()
    assert data["tags"] == ["medical", "zoo", "timm"]
    assert data.keys() == {"license", "library_name", "pipeline_tag", "tags"}
    by_hand = first.replace("## Licence", "By hand.\n\n## Licence")  # what a person has seen to is theirs to change
    assert ModelCard(card(existing=by_hand)).data.eval_results[0].metric_value == 0.5


def test_facts_in_the_front_matter_may_be_edited_without_freezing_the_text():
    edited = card().replace("pipeline_tag", "language: en\npipeline_tag")
    assert is_untouched(edited)
    assert ModelCard(card(existing=edited)).data.language == "en"


def test_text_given_for_the_card_is_used():
    text = card(body="# Mine\n\nHello.\n", existing=MINE)
    assert text.endswith("# Mine\n\nHello.\n")
    assert ModelCard(text).data.license == "mit"


# --- facts ---


def test_metrics_come_in_two_forms():
    import torch

    assert metric_rows(None) == []
    assert metric_rows({"acc": 1, "loss": torch.tensor(0.5), "split": "test"}) == [
        {"name": "acc", "value": 1, "split": "test"},
        {"name": "loss", "value": 0.5, "split": "test"},
    ]
    rows = [{"name": "acc", "value": 0.5, "samples": 3}]
    assert metric_rows(rows) == rows


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"acc": float("nan")}, "'acc' must be a finite number"),
        ({"acc": "good"}, "'acc' must be a finite number"),
        ({"acc": True}, "'acc' must be a finite number"),
        ([{"name": "acc"}], "needs a 'name'"),
        ([0.5], "needs a 'name'"),
        (0.5, "must be a mapping"),
        ("acc", "must be a mapping"),
    ],
)
def test_metrics_in_another_form_are_refused(metrics, said):
    with pytest.raises(ValueError, match=said):
        metric_rows(metrics)


def test_training_data_is_a_name_or_a_mapping():
    assert data_facts(None) == {}
    assert data_facts("scikit-learn digits") == {"name": "scikit-learn digits"}
    assert data_facts("me/digits") == {"name": "me/digits", "hub_id": "me/digits"}
    assert data_facts({"name": "digits", "licence": "x"}) == {"name": "digits", "licence": "x"}
    for wrong in (3, {}, {"name": ""}, {"licence": "x"}):
        with pytest.raises(ValueError, match="train_data must be"):
            data_facts(wrong)


def test_a_run_s_measurements_give_the_numbers_of_test_else_of_val():
    run = {"best_epoch": 2, "classes": ["a"], "val": {"accuracy": 0.5, "samples": 9, "confusion": [[9]], "auc": None}}
    assert metric_rows(run) == [{"name": "accuracy", "value": 0.5, "split": "val", "samples": 9}]
    assert metric_rows({**run, "dataset": "digits", "test": {"accuracy": 1}}) == [
        {"name": "accuracy", "value": 1, "split": "test", "dataset": "digits"}
    ]


def bag_card(name, **options):
    model = zoo.create_model(name, num_classes=2, **options)
    if name == "hopfield_mil":
        zoo.set_data_config(model, mean=[1.0, 2.0, 3.0], std=2.0)
    return make_card(parse_config(describe(model), "config.json"), repo_id="me/bags", license="mit")


def test_bags_of_vectors():
    text = bag_card("hopfield_mil", dim=3)
    assert "- Input: bags of any number of instances, vectors of 3 features\n" in text
    assert "`bags.npz` is a file of `rows` (instances, 3), bag behind bag, and `offsets` (bags + 1)" in text
    assert "a FloatTensor (bags, instances, 3), and a mask (bags, instances), True where there is no instance" in text
    assert "Features are standardised, (x - mean) / std, by `mean` and `std` in config.json" in text
    assert "create_transform" not in text
    plain = zoo.create_model("hopfield_mil", dim=3)
    plain_card = make_card(parse_config(describe(plain), "config.json"), repo_id="me/bags", license="mit")
    assert "Features are taken as they are." in plain_card


def test_images_on_a_canvas_are_prepared_by_what_knows_it():
    model = zoo.create_model("varifocal_chromosome_nano")
    text = make_card(parse_config(describe(model), "config.json"), repo_id="me/rods", license="mit")
    assert "create_transform" not in text
    code = text.partition("## Preprocessing")[2].partition("```python\n")[2].partition("```")[0]
    names = {"model": model}
    exec(code, names)
    small = torch.zeros(1, 10, 6)
    small[:, 3:7, 2:4] = 0.8
    assert names["transform"](small)[0, 27:37, 29:35].equal(small[0])
    assert "from timm.data import create_transform" in card()


def test_bags_of_images_and_of_sequences():
    images = bag_card("hopfield_mnist_bags")
    assert "- Input: bags of any number of instances, images of 1 channel, 28 x 28 pixels\n" in images
    assert "Of every instance:\n\n|  |  |\n|---|---|\n| interpolation | bilinear |" in images
    assert "| mean | 0.5 |" in images
    sequences = bag_card("deeprc_cnn")
    assert "- Input: bags of any number of instances, sequences of amino acids\n" in sequences
    assert "a LongTensor (bags, instances, positions)" in sequences
    assert "Built with" not in sequences
    assert "## Preprocessing" not in sequences
    assert "eprint = {2007.13505}" in sequences  # its own paper, not that of the other models of bags
    assert "2008.02217" not in sequences


def test_tables():
    about = {"feature_names": ["grain", "valence"], "feature_units": ["µm", ""], "target_units": ["HV"]}
    model = zoo.create_model("kan_tabular", num_classes=1, in_features=2, task="regression", **about)
    zoo.set_data_config(model, label_names=["hardness"])
    long = "Vickers hardness of alloys: 370 rows of 2 descriptors, split by composition with seed 0; 300 to train"
    config = parse_config(describe(model), "config.json")
    text = make_card(config, repo_id="me/hv", license="mit", metrics={"r2": 0.9}, train_data=long)
    front, _ = split_card(text)
    assert front["pipeline_tag"] == "tabular-regression"
    (result,) = front["model-index"][0]["results"]
    assert (result["task"]["type"], result["dataset"]["type"]) == ("tabular-regression", "vickers-hardness-of-alloys")
    assert result["dataset"]["name"] == long
    assert "- Input: rows of a table, 2 columns: grain (µm), valence\n" in text
    assert "## Targets\n\n1: hardness (HV); predicted in their own units." in text
    assert "the model standardises every column itself" in text
    assert "## Classes" not in text
    plain = zoo.create_model("kan_tabular", num_classes=2, in_features=3, task="regression")
    plain_card = make_card(parse_config(describe(plain), "config.json"), repo_id="me/x", license="mit")
    assert "2; their names are not stated; predicted in their own units." in plain_card
    classes = make_card(
        parse_config(describe(zoo.create_model("kan_breast_cancer")), ""), repo_id="me/b", license="mit"
    )
    assert "pipeline_tag: tabular-classification" in classes
    assert "## Classes\n\n2" in classes


@pytest.mark.parametrize("shape", [[], ["3"], [0], 3, [True]])
def test_an_instance_shape_is_a_list_of_sizes(shape):
    content = describe(zoo.create_model("hopfield_mil", dim=3))
    content["zoo"]["instance_shape"] = shape
    with pytest.raises(zoo.errors.ConfigError, match=r"zoo\.instance_shape must be a list"):
        parse_config(content, "config.json")
