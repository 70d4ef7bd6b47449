"""KANs for tables, as scikit-learn estimators: a classifier, a regressor and a selector of features."""

from zoo.errors import MissingExtraError

try:
    from sklearn.utils.validation import validate_data as _  # noqa: F401 - since scikit-learn 1.6
except ImportError as error:
    raise MissingExtraError("zoo.tabular", "scikit-learn", "tabular") from error

from zoo.tabular.estimators import KANClassifier, KANRegressor
from zoo.tabular.selector import KANSelector

__all__ = ["KANClassifier", "KANRegressor", "KANSelector"]
