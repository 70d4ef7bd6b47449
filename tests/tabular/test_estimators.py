"""The classifier and the regressor: scikit-learn's own tests, what they learn, their model, and what they refuse."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_linnerud, load_wine, make_friedman1
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

import zoo
from zoo.errors import NonFiniteLossError
from zoo.layers.kan import BSplineBasis
from zoo.tabular import KANClassifier, KANRegressor, KANSelector

FAST = {"epochs": 30, "random_state": 0}


@parametrize_with_checks([KANClassifier(**FAST), KANRegressor(**FAST)])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_common_tests_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def wine():
    X, y = load_wine(return_X_y=True, as_frame=True)
    names = np.array(["barolo", "grignolino", "barbera"])[y]
    return train_test_split(X, names, test_size=0.4, random_state=0, stratify=y)


@pytest.fixture(scope="module")
def classifier(wine):
    X, _, y, _ = wine
    return KANClassifier(**FAST).fit(X, y)


def test_classifies_frames_with_names(wine, classifier):
    X, X_test, _, y_test = wine
    assert classifier.score(X_test, y_test) > 0.93
    assert classifier.classes_.tolist() == ["barbera", "barolo", "grignolino"]
    assert classifier.model_.feature_names == list(X.columns)
    probabilities = classifier.predict_proba(X_test)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert (classifier.classes_[probabilities.argmax(1)] == classifier.predict(X_test)).all()
    assert log_loss(y_test, probabilities, labels=classifier.classes_) < 0.3
    with pytest.raises(ValueError, match="feature names"):
        classifier.predict(X_test.rename(columns={"alcohol": "ethanol"}))


def test_the_model_takes_rows_in_their_own_units(wine, classifier, tmp_path):
    """It is a zoo model: what it answers, and after a round trip, is what the estimator answers."""
    _, X_test, _, _ = wine
    rows = torch.tensor(X_test.to_numpy(), dtype=torch.float32)
    with torch.no_grad():
        probabilities = classifier.model_(rows).softmax(1)
        zoo.save_pretrained(classifier.model_, tmp_path / "saved")
        again = zoo.create_model(f"local-dir:{tmp_path / 'saved'}").eval()
        assert again(rows).equal(classifier.model_(rows))
    np.testing.assert_allclose(probabilities, classifier.predict_proba(X_test), atol=1e-4)
    config = json.loads((tmp_path / "saved/config.json").read_text())
    assert config["architecture"] == "kan_tabular"
    assert config["label_names"] == ["barbera", "barolo", "grignolino"]
    title = zoo.explain.edge_curves(again, rows, layer=-1).axes[0].get_title()
    assert any(name in title for name in config["label_names"])


def test_regresses_and_knows_the_curves():
    """y = 10 sin(pi x0 x1) + 20 (x2 - 1/2)^2 + 10 x3 + 5 x4: the other five features score least."""
    X, y = make_friedman1(600, n_features=10, noise=0.5, random_state=0)
    regressor = KANRegressor(epochs=150, random_state=0).fit(X[:400], y[:400])
    assert regressor.score(X[400:], y[400:]) > 0.85
    scores = zoo.explain.feature_scores(regressor.model_, torch.tensor(X, dtype=torch.float32))
    assert scores[:5].min() > scores[5:].max()


def test_targets_of_any_size():
    """They are standardised inside: a change of unit changes the predictions by it, and nothing else."""
    X, y = make_friedman1(200, random_state=0)
    plain = KANRegressor(**FAST).fit(X, y).predict(X)
    scaled = KANRegressor(**FAST).fit(1000 * X - 5, 1e4 * y + 3e5).predict(1000 * X - 5)
    np.testing.assert_allclose((scaled - 3e5) / 1e4, plain, atol=0.02)


@pytest.mark.parametrize(("scale", "shift"), [(1, 1e9), (1e60, 0), (1e-200, 0)])
def test_columns_and_targets_far_from_zero_or_one(scale, shift):
    """Standardised in float64: neither the digits behind a large offset are lost, nor what float32 has no room for."""
    X, y = make_friedman1(100, random_state=0)
    plain = KANRegressor(**FAST).fit(X, y).predict(X)
    far = KANRegressor(**FAST).fit(scale * X + shift, scale * y + shift)
    np.testing.assert_allclose((far.predict(scale * X + shift) - shift) / scale, plain, atol=1e-3)
    classes = y > y.mean()
    there = KANClassifier(**FAST).fit(scale * X + shift, classes)
    here = KANClassifier(**FAST).fit(X, classes)
    np.testing.assert_allclose(there.predict_proba(scale * X + shift), here.predict_proba(X), atol=1e-3)


def test_several_targets():
    X, y = load_linnerud(return_X_y=True)
    found = KANRegressor(**FAST).fit(X, y).predict(X)
    assert found.shape == y.shape
    assert (np.abs(found.mean(0) - y.mean(0)) < 0.1 * y.std(0)).all()


def test_same_seed_same_model_and_the_global_generator_is_left_alone(wine):
    X, _, y, _ = wine
    state = torch.get_rng_state()
    first = KANClassifier(epochs=3, random_state=1).fit(X, y)
    assert torch.get_rng_state().equal(state)
    torch.manual_seed(5)
    again = clone(first).fit(X, y)
    other = KANClassifier(epochs=3, random_state=2).fit(X, y)
    np.testing.assert_array_equal(first.predict_proba(X), again.predict_proba(X))
    assert not np.allclose(first.predict_proba(X), other.predict_proba(X))


def test_early_stopping_keeps_the_best_epoch():
    X, y = make_friedman1(100, noise=10.0, random_state=0)
    regressor = KANRegressor(epochs=500, patience=5, random_state=0).fit(X, y)
    losses = [entry["val_loss"] for entry in regressor.history_]
    assert len(losses) < 500
    assert len(losses) - 1 - int(np.argmin(losses)) == 5
    few = KANRegressor(epochs=30, random_state=0).fit(X[:60], y[:60])  # 9 rows would be held out
    assert len(few.history_) == 30
    assert "val_loss" not in few.history_[-1]


def test_knots_follow_the_columns():
    """Quantiles of a skewed column, and with update_grid=False the range of the options."""
    X, y = make_friedman1(200, random_state=0)
    X[:, 0] = np.exp(4 * X[:, 0])
    knots = KANRegressor(epochs=1, random_state=0).fit(X, y).model_.kan.layers[0].basis.knots
    steps = knots[0].diff()[3:-3]
    assert steps.max() > 2 * steps.min()
    fixed = KANRegressor(epochs=1, update_grid=False, random_state=0).fit(X, y).model_.kan.layers[0].basis
    assert fixed.span() == (-3.0, 3.0)


@pytest.mark.parametrize("layer", ["fast", "faster", "chebyshev"])
def test_other_layers(wine, layer):
    X, X_test, y, y_test = wine
    found = KANClassifier(layer=layer, **FAST).fit(X, y)
    assert found.score(X_test, y_test) > 0.9
    assert not isinstance(found.model_.kan.layers[0].basis, BSplineBasis)


def _flatness(sparsity: float, regularizer: str) -> dict[str, float]:
    X, y = make_friedman1(129, random_state=0)  # the last batch is a single row
    how = {"epochs": 60, "early_stopping": False, "random_state": 0}
    model = KANRegressor(sparsity=sparsity, regularizer=regularizer, **how).fit(X, y).model_
    rows = model.scaling(torch.tensor(X, dtype=torch.float32))
    deviation = model.kan.layers[0].edge_deviations(rows)[0].mean()
    return {"weight": float(model.kan.regularization_loss().detach()), "edge_forward_spline_n": float(deviation)}


@pytest.mark.parametrize("regularizer", ["weight", "edge_forward_spline_n"])
def test_sparsity_makes_small_what_it_penalises(regularizer):
    free, held = (_flatness(sparsity, regularizer)[regularizer] for sparsity in (0.0, 0.1))
    assert held < 0.5 * free


def test_prune_then_train_what_is_left():
    X, y = make_friedman1(300, noise=0.5, random_state=0)
    regressor = KANRegressor(epochs=100, sparsity=1e-3, random_state=0).fit(X[:200], y[:200])
    full = regressor.score(X[200:], y[200:])
    assert regressor.prune(X[:200], y[:200], edge_threshold=0.05) is regressor
    assert float(regressor.model_.kan.layers[0].mask.float().mean()) < 0.5
    assert regressor.score(X[200:], y[200:]) > full
    # A node without inputs is a constant, and goes.
    before = regressor.predict(X)
    regressor.prune(X, y, edge_threshold=0.0, node_threshold=0.0, retrain=False)
    assert np.std(regressor.predict(X) - before) < 1e-5


def test_labels_that_are_no_texts():
    """Numbers are written out; a label without a text has no name in the model, and is answered all the same."""
    X, y = make_friedman1(60, random_state=0)
    numbers = KANClassifier(epochs=1, random_state=0).fit(X, y.astype(int) // 10)
    assert numbers.model_.pretrained_cfg["label_names"] == ("0", "1", "2")
    empty = KANClassifier(epochs=1, random_state=0).fit(X, np.where(y > y.mean(), "hard", ""))
    assert not empty.model_.pretrained_cfg.get("label_names")
    assert set(empty.predict(X)) <= {"", "hard"}


def test_numbers_of_numpy(tmp_path):
    """As the grids of a search have them; the model is that of Python's numbers, and is saved."""
    X, y = make_friedman1(60, random_state=0)
    grid = {"epochs": np.arange(1, 3), "lr": np.float32([0.01]), "batch_size": np.array([16])}
    search = GridSearchCV(KANRegressor(random_state=0), grid, cv=2, error_score="raise").fit(X, y)
    assert search.best_params_["epochs"] == 2
    how = {"epochs": 2, "random_state": 0}
    ours = KANRegressor(np.array([3]), layer_options={"grid_size": np.int64(4)}, **how).fit(X, y)
    plain = KANRegressor([3], layer_options={"grid_size": 4}, **how).fit(X, y)
    np.testing.assert_array_equal(ours.predict(X), plain.predict(X))
    zoo.save_pretrained(ours.model_, tmp_path / "saved")
    assert zoo.create_model(f"local-dir:{tmp_path / 'saved'}").kan.sizes == [10, 3, 1]


def test_grid_search_in_a_pipeline(wine):
    X, _, y, _ = wine
    pipeline = make_pipeline(FunctionTransformer(np.log1p), KANClassifier(random_state=0))
    search = GridSearchCV(pipeline, {"kanclassifier__epochs": [1, 30]}, cv=2).fit(X, y)
    assert search.best_params_ == {"kanclassifier__epochs": 30}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs must be an integer of at least 1, got 0"),
        ({"batch_size": 0}, ValueError, "batch_size must be an integer of at least 1, got 0"),
        ({"lr": 0.0}, ValueError, "lr must be a finite number greater than 0"),
        ({"weight_decay": -1.0}, ValueError, "weight_decay .* at least 0"),
        ({"sparsity": -1.0}, ValueError, "sparsity .* at least 0"),
        ({"regularizer": "weights"}, ValueError, "regularizer .*'node_backward', 'weight', got.*did you mean 'weight'"),
        ({"validation_fraction": 1.0}, ValueError, "validation_fraction must be between 0 and 1, got 1.0"),
        ({"patience": 0}, ValueError, "patience must be"),
        ({"layer": "quick"}, ValueError, "layer must be one of 'efficient'"),
        ({"hidden_sizes": (0,)}, ValueError, "hidden_sizes must be an integer of at least 1, got 0"),
        ({"hidden_sizes": 5}, TypeError, r"hidden_sizes must be a sequence of integers, such as \(8,\) .* got 5"),
        ({"hidden_sizes": None}, TypeError, "hidden_sizes must be a sequence of integers.* got None"),
        ({"hidden_sizes": (2.5,)}, TypeError, "hidden_sizes must be an integer of at least 1, got 2.5"),
        ({"layer_options": {"gridsize": 3}}, TypeError, "'efficient' takes no argument 'gridsize'.*mean 'grid_size'"),
        ({"layer": "fast", "layer_options": {"grid_size": 3}}, TypeError, "'fast' takes no argument 'grid_size'"),
        ({"lr": 1e30}, NonFiniteLossError, r"in epoch \d+; a lower learning rate than lr=1e\+30"),
    ],
)
def test_refused_options(wine, options, error, message):
    X, _, y, _ = wine
    with pytest.raises(error, match=message):
        KANClassifier(**options).fit(X, y)


def test_refused_data(wine, classifier):
    X, _, y, _ = wine
    broken = X.copy()
    broken.iloc[3, 2] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        KANClassifier().fit(broken, y)
    words = X.assign(crystal="bcc", phase="one")
    for refused in (KANClassifier(), KANSelector()):
        with pytest.raises(ValueError, match="columns must be numbers, crystal, phase are none: OneHotEncoder"):
            refused.fit(words, y)
    with pytest.raises(ValueError, match="two classes at least, got one class: barolo"):
        KANClassifier().fit(X, np.full(len(X), "barolo"))
    with pytest.raises(ValueError, match="class merlot, which was not there in fit: those were barbera, barolo"):
        classifier.prune(X, np.full(len(X), "merlot"))
    with pytest.raises(NotFittedError):
        KANRegressor().prune(X, pd.Series(np.arange(len(X))))
