"""What all benchmarks share: how a result is kept."""

from __future__ import annotations

import json
import os
from datetime import date
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """Describe the machine: processor, cores, threads in use, GPU."""
    name = "unknown processor"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = lines[0] if lines else name
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads{gpu}"


def keep(name: str, *, seed: int, results: Any, summary: list[tuple[str, str]], file: Path | None = None, **more: Any) -> Path:
    """Write a result file; ``summary`` rows (what, result) are those that the README shows."""
    path = file or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"benchmark": name, "machine": machine(), "date": date.today().isoformat(), "seed": seed, **more}
    record |= {"summary": [{"what": what, "result": result} for what, result in summary], "results": results}
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path
