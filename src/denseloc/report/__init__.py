"""The reports: self-contained pages from which a microscopist judges a localization run, or a calibration."""

from .calibration import calibration_page
from .page import write_report
from .plan import plan_page
from .plan import verdict as plan_verdict
from .rendering import write_page
from .samples import Agreement, FrameSample, compare
from .suitability import check_page
from .warnings import judge

__all__ = [
    "Agreement",
    "FrameSample",
    "calibration_page",
    "check_page",
    "compare",
    "judge",
    "plan_page",
    "plan_verdict",
    "write_page",
    "write_report",
]
