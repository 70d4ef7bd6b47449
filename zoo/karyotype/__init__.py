"""From classified chromosomes to a karyotype: dispatch of a case, its short form, metrics, calibration.

Not a medical device.
"""

from zoo.karyotype.dispatching import dispatch, dispatch_cases
from zoo.karyotype.result import Karyotype, Overruled
from zoo.karyotype.short_form import iscn
from zoo.karyotype.template import HUMAN, Template

__all__ = ["HUMAN", "Karyotype", "Overruled", "Template", "dispatch", "dispatch_cases", "iscn"]
