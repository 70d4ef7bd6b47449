"""Fine-tuning, evaluation and prediction."""

from zoo.training.comparison import compare
from zoo.training.comparison_result import Comparison
from zoo.training.data.prepared import open_data
from zoo.training.evaluation import evaluate
from zoo.training.finetuning import finetune
from zoo.training.prediction import predict
from zoo.training.result import Result

__all__ = ["Comparison", "Result", "compare", "evaluate", "finetune", "open_data", "predict"]
