"""From classified chromosomes to a karyotype: dispatch of a case, its short form, metrics, calibration.

Not a medical device.
"""

from zoo.karyotype.calibration import Calibration, expected_calibration_error, fit_temperature
from zoo.karyotype.dispatching import dispatch, dispatch_cases
from zoo.karyotype.metrics import CaseMetrics, case_metrics
from zoo.karyotype.result import Karyotype, Overruled
from zoo.karyotype.short_form import iscn
from zoo.karyotype.template import HUMAN, Template

__all__ = [
    "HUMAN",
    "Calibration",
    "CaseMetrics",
    "Karyotype",
    "Overruled",
    "Template",
    "case_metrics",
    "dispatch",
    "dispatch_cases",
    "expected_calibration_error",
    "fit_temperature",
    "iscn",
]
