"""Time the rendering of a million localizations into 2560 x 2560 pixels on one core; prints JSON.

Run as ``python benchmarks/speed/rendering.py``. The first call, which compiles or loads the compiled code, is timed apart.
"""

from __future__ import annotations

import json
import time

import numpy as np

from denseloc.data import Localizations
from denseloc.render import render
from denseloc.render.draw import Colour, Mode

LOCALIZATIONS = 1_000_000
FIELD_NM = (25600.0, 25600.0)


def draw(n: int) -> Localizations:
    """Draw localizations over the field, with standard deviations around 10 nm."""
    rng = np.random.default_rng(0)
    sigma = rng.gamma(20.0, 0.5, n)
    return Localizations(
        {
            "frame": np.arange(n) // 20,
            "x_nm": rng.uniform(0, FIELD_NM[1], n),
            "y_nm": rng.uniform(0, FIELD_NM[0], n),
            "z_nm": rng.uniform(-500, 500, n),
            "sigma_x_nm": sigma,
            "sigma_y_nm": sigma,
        }
    )


def measure(table: Localizations, mode: Mode, colour: Colour, repeats: int = 3) -> dict[str, float]:
    """Render one table several times; gives the fastest in seconds and million localizations per second."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        render(table, pixel_size_nm=10.0, mode=mode, colour=colour, field_nm=FIELD_NM)
        seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds), "million_localizations_per_second": len(table) / min(seconds) / 1e6}


def main() -> None:
    start = time.perf_counter()
    for mode in ("gaussian", "histogram"):
        render(draw(10), mode=mode, field_nm=(100.0, 100.0))  # type: ignore[arg-type]
    first = time.perf_counter() - start
    table = draw(LOCALIZATIONS)
    result = {
        "localizations": LOCALIZATIONS,
        "pixels": [2560, 2560],
        "first_calls_seconds": first,
        "gaussian": measure(table, "gaussian", "none"),
        "histogram": measure(table, "histogram", "none"),
        "gaussian_coloured_by_z": measure(table, "gaussian", "z"),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
