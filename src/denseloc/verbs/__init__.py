"""The verbs that join several rooms: each takes files or core types, writes whole files, and gives back what it found."""

from .adaptation import Adaptation, adapt
from .assessment import evaluate
from .calibration import Calibration, calibrate
from .checking import Check, check
from .compression import Compressed, compress
from .conversion import Conversion, convert
from .demonstration import Demo, demo
from .inspection import Inspection, inspect
from .optics_design import Designed, design
from .picture import render
from .planning import Plan, plan
from .recalibration import Recalibrated, recalibrate
from .refinement import Refinement, refine
from .reporting import Report, report
from .simulation import Simulation, simulate

__all__ = [
    "Adaptation",
    "Calibration",
    "Check",
    "Compressed",
    "Conversion",
    "Demo",
    "Designed",
    "Inspection",
    "Plan",
    "Recalibrated",
    "Refinement",
    "Report",
    "Simulation",
    "adapt",
    "calibrate",
    "check",
    "compress",
    "convert",
    "demo",
    "design",
    "evaluate",
    "inspect",
    "plan",
    "recalibrate",
    "refine",
    "render",
    "report",
    "simulate",
]
