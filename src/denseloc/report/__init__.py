"""The reports: self-contained pages from which a microscopist judges a localization run, or a calibration."""

from .calibration import calibration_page
from .page import write_report
from .rendering import write_page
from .samples import Agreement, FrameSample, compare
from .warnings import judge

__all__ = ["Agreement", "FrameSample", "calibration_page", "compare", "judge", "write_page", "write_report"]
