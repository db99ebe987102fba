"""What `denseloc doctor` finds out."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from importlib import metadata
from pathlib import Path

import torch

from .. import __version__
from ..data import Frames
from ..errors import DenselocError
from ..localize.decode import bfloat16_helps
from ..machine import choose_device
from ..model_file import Model, load_model, shipped_models

LIBRARIES = (
    "torch",
    "numpy",
    "numba",
    "scipy",
    "pyarrow",
    "h5py",
    "tifffile",
    "imagecodecs",
    "pydantic",
    "safetensors",
    "matplotlib",
)
SPEED_S = 3.0
SIDE_PX = 64
LEAST_MEMORY_GB, LEAST_DISK_GB = 2.0, 1.0
GENERAL = "general-2d"

Facts = list[tuple[str, str]]


def examine(speed_s: float = SPEED_S) -> tuple[Facts, list[str]]:
    """Look at the machine and the installation.

    Args:
        speed_s: seconds to spend on the estimate of the speed.

    Returns:
        (name, value) of what was found, and what to mend.
    """
    fixes: list[str] = []
    device = choose_device()
    facts = [
        ("denseloc", f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"),
        ("device", _device(device)),
        ("16-bit arithmetic", "native" if bfloat16_helps(device) else "not native here; everything works, at about half the speed"),
        ("processors", f"{_processors()} to use, {torch.get_num_threads()} threads of torch"),
        ("memory", _memory(fixes)),
        ("disk here", _disk(fixes)),
        ("libraries", ", ".join(f"{name} {_version(name, fixes)}" for name in LIBRARIES)),
    ]
    models, general = _models(fixes)
    facts.append(("models", models))
    if general is not None:
        facts.append(
            (
                "speed",
                f"about {_frames_per_second(general, device, speed_s):.0f} frames/s of {SIDE_PX} x {SIDE_PX} px with {GENERAL}",
            )
        )
    if device.type == "cpu" and nvidia_card() and torch.version.cuda is None:
        fixes.append(f"this torch knows only the CPU, and there is an NVIDIA card; run:  {cuda_line()}")
    elif device.type == "cpu" and nvidia_card():
        fixes.append("torch does not see the NVIDIA card; update its driver (nvidia-smi should list it) and try again")
    return facts, fixes


def _device(device: torch.device) -> str:
    if device.type != "cuda":
        return "CPU"
    card = torch.cuda.get_device_properties(device)
    return f"{card.name}, {card.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}"


def _processors() -> int:
    """Count the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory(fixes: list[str]) -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE")
        total, free = (size * os.sysconf(name) / 1e9 for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return "unknown"
    if total < LEAST_MEMORY_GB:
        fixes.append(f"{total:.1f} GB of memory is little; take a smaller --tile-px and --block-frames")
    return f"{total:.1f} GB, {free:.1f} GB free"


def _disk(fixes: list[str]) -> str:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if free < LEAST_DISK_GB:
        fixes.append(f"{free:.2f} GB of free disk in {Path.cwd()} is little; free some space or work elsewhere")
    return f"{free:.1f} GB free"


def _version(name: str, fixes: list[str]) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        fixes.append(f"{name} is not installed; run:  {sys.executable} -m pip install {name}")
        return "missing"


def _models(fixes: list[str]) -> tuple[str, Model | None]:
    """List the shipped models, and give the general one."""
    found, general = [], None
    for name, path in shipped_models().items():
        try:
            model = load_model(path)
        except DenselocError as error:
            fixes.append(f"{error}; or install denseloc again")
            continue
        found.append(name)
        general = model if name == GENERAL else general
    if general is None:
        fixes.append(f"the model {GENERAL} is not there, so 'localize' needs --model FILE; install denseloc again")
    return ", ".join(found) or "none", general


def _frames_per_second(model: Model, device: torch.device, seconds: float) -> float:
    """Localize noise for a while, after a first round that does not count."""
    localizer = model.localizer.to(device)
    background = localizer.conditions.background
    noise = torch.randn(128, model.localizer.scales.planes, SIDE_PX, SIDE_PX, generator=torch.Generator().manual_seed(0))
    frames = Frames((background + background**0.5 * noise).to(device), model.localizer.scales.pixel_size_nm)
    localizer(frames)
    began, done = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        localizer(frames)
        done += len(frames)
    return done / (time.monotonic() - began)


def nvidia_card() -> bool:
    """Whether the system knows an NVIDIA card."""
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidia0").exists()


def cuda_line() -> str:
    """Give the line that installs a torch with CUDA: the ordinary wheel on Linux, one of torch's own index elsewhere."""
    index = "https://pypi.org/simple" if platform.system() == "Linux" else "https://download.pytorch.org/whl/cu126"
    return f"{sys.executable} -m pip install --force-reinstall torch --index-url {index}"
