"""The selector: scikit-learn's own tests, the features it finds, folds, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris, make_friedman1
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from zoo.layers.kan.feature_scores import METHODS
from zoo.tabular import KANSelector


@parametrize_with_checks([KANSelector(epochs=5, cv=2, random_state=0)])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_common_tests_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def friedman():
    """Five columns of which the target is a function, and five that are noise, in mixed order."""
    X, y = make_friedman1(300, n_features=10, noise=0.5, random_state=0)
    order = np.random.RandomState(0).permutation(10)
    return X[:, order], y, order < 5


@pytest.mark.parametrize("method", METHODS)
def test_finds_the_columns_that_count(friedman, method):
    X, y, informative = friedman
    selector = KANSelector(method, 0.5, cv=2, epochs=40, lr=1e-2, random_state=0).fit(X, y)
    assert selector.task_ == "regression"
    assert selector.scores_.sum() == pytest.approx(1)
    assert (selector.get_support() & informative).sum() >= 4
    np.testing.assert_array_equal(selector.transform(X), X[:, selector.support_])


def test_frames_keep_their_names():
    X, y = load_iris(return_X_y=True, as_frame=True)
    selector = KANSelector(n_features_to_select=2, cv=2, random_state=0).set_output(transform="pandas")
    kept = selector.fit_transform(X, y)
    assert selector.task_ == "classification"
    assert list(kept) == ["petal length (cm)", "petal width (cm)"] == list(selector.get_feature_names_out())


def test_labels_and_their_names_are_one():
    X, y = load_iris(return_X_y=True)
    how = {"cv": 2, "epochs": 3, "random_state": 0}
    by_number = KANSelector(**how).fit(X, y).scores_
    np.testing.assert_array_equal(KANSelector(**how).fit(X, np.array(list("abc"))[y]).scores_, by_number)
    as_classes = KANSelector(task="classification", **how).fit(X, y.astype(float))
    np.testing.assert_array_equal(as_classes.scores_, by_number)


@pytest.mark.parametrize(("wanted", "count"), [(0.2, 2), (0.21, 3), (1.0, 10), (1, 1), (7, 7)])
def test_how_many(friedman, wanted, count):
    X, y, _ = friedman
    selector = KANSelector(n_features_to_select=wanted, cv=0, epochs=1, random_state=0).fit(X[:40], y[:40])
    assert selector.get_support().sum() == count
    assert selector.scores_[selector.support_].min() >= selector.scores_[~selector.support_].max(initial=0)


def test_targets_of_any_size(friedman):
    """Standardised targets give the same scores in any unit; raw ones do not."""
    X, y, _ = friedman
    how = {"cv": 2, "epochs": 5, "random_state": 0}
    plain, scaled = (KANSelector(**how).fit(X, target).scores_ for target in (y, 1e3 * y + 1e4))
    np.testing.assert_allclose(scaled, plain, atol=1e-4)
    raw = [KANSelector(standardize_target=False, **how).fit(X, target).scores_ for target in (y, 1e3 * y + 1e4)]
    assert np.abs(raw[0] - raw[1]).max() > 1e-3


def test_selects_inside_each_training_fold():
    """Labels that are noise: judged on rows the selector has not seen they are guessed; chosen on all rows, not."""
    random = np.random.RandomState(0)
    X, y = random.randn(60, 200), random.randint(0, 2, 60)
    selector = KANSelector("l1", 10, hidden_size=4, cv=0, epochs=30, lr=1e-2, random_state=0)
    judge = make_pipeline(StandardScaler(), LogisticRegression())
    nested = cross_val_score(make_pipeline(clone(selector), judge), X, y, cv=5).mean()
    leaked = cross_val_score(judge, selector.fit_transform(X, y), y, cv=5).mean()
    assert nested < 0.65
    assert leaked > nested + 0.1


def test_small_classes_and_few_rows():
    X, y = load_iris(return_X_y=True)
    few = np.r_[0:10, 50:53]  # ten of one class and three of the other: three folds
    assert KANSelector(epochs=2, random_state=0).fit(X[few], y[few]).scores_.sum() == pytest.approx(1)
    single = np.r_[0:10, 50]
    assert KANSelector(epochs=2, random_state=0).fit(X[single], y[single]).scores_.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "sensitive"}, ValueError, "method must be one of 'l1'.*did you mean 'sensitivity'"),
        ({"n_features_to_select": 0.0}, ValueError, "as a share must be above 0 and at most 1, got 0.0"),
        ({"n_features_to_select": 1.5}, ValueError, "at most 1, got 1.5"),
        ({"n_features_to_select": 5}, ValueError, "from 1 to the number of features, 4, got 5"),
        ({"n_features_to_select": "half"}, TypeError, "a share .* or a number .*, got 'half'"),
        ({"task": "regress"}, ValueError, "task must be one of 'auto'.*did you mean 'regression'"),
        ({"cv": -1}, ValueError, "cv must be an integer of at least 0, got -1"),
        ({"cv": 1}, ValueError, "cv must be 0, .* or 2 at least, got 1"),
        ({"hidden_size": 0}, ValueError, "hidden_size must be"),
        ({"epochs": 0}, ValueError, "epochs must be"),
        ({"lr": -1.0}, ValueError, "lr must be"),
        ({"grid_size": 0}, ValueError, "grid_size must be"),
    ],
)
def test_refused_options(options, error, message):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(error, match=message):
        KANSelector(**options).fit(X, y)


def test_refused_targets():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        KANSelector().fit(X, None)
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        KANSelector(task="classification").fit(X, y + 0.5)
