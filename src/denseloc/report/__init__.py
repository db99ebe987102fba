"""The report: one self-contained page from which a microscopist judges a localization run."""

from .page import write_report
from .samples import Agreement, FrameSample, compare
from .warnings import judge

__all__ = ["Agreement", "FrameSample", "compare", "judge", "write_report"]
