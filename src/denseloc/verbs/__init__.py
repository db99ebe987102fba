"""The verbs that join several rooms: each takes files or core types, writes whole files, and gives back what it found."""

from .assessment import evaluate
from .calibration import calibrate
from .demonstration import Demo, demo
from .picture import render
from .reporting import Report, report
from .simulation import Simulation, simulate

__all__ = ["Demo", "Report", "Simulation", "calibrate", "demo", "evaluate", "render", "report", "simulate"]
