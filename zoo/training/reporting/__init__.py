"""`zoo.report`: a run folder, or a comparison's, as one HTML file that needs nothing else."""

from zoo.training.reporting.writing import report

__all__ = ["report"]
