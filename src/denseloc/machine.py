"""Machine matters: device, memory allocator, threads."""

from __future__ import annotations

import ctypes
import math
import os
import platform
from pathlib import Path

import torch

from .errors import DenselocError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_memory() -> bool:
    """Tell glibc to keep freed memory instead of giving it back at every large tensor; worth a factor of two on a CPU. False elsewhere."""
    if platform.system() != "Linux":
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
        return bool(libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)) and bool(libc.mallopt(_M_TRIM_THRESHOLD, 1 << 30))
    except (OSError, AttributeError):
        return False


def free_bytes(device: torch.device) -> float:
    """Give the memory that can still be had on a device, infinity where the system does not tell."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024.0 * next(float(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return math.inf


def choose_device(name: str | None = None) -> torch.device:
    """Give the device asked for, or the best one there is: CUDA, then CPU.

    Raises:
        DenselocError: there is no such device here.
    """
    if name is not None:
        try:
            device = torch.device(name)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0].split(". ")[0].rstrip(".")
            raise DenselocError(
                f"device '{name}' cannot be used here ({reason}); use device 'cpu' (--device cpu), or see 'denseloc doctor'"
            ) from None
        return device
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def memory_bytes(device: torch.device | str = "cpu") -> int | None:
    """Give the size of a device's memory, or None where it cannot be told."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
