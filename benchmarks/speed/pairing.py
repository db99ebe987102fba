"""Time the pairing of 100 000 emitters with as many localizations on one core; prints JSON.

Run as ``python benchmarks/speed/pairing.py``. The first call, which compiles or loads the compiled code, is timed apart.
"""

from __future__ import annotations

import json
import time

import numpy as np

from denseloc.kernels.pair import pair

FIELD_NM = 6400.0
EMITTERS = 100_000


def draw(per_frame: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw frames, true positions and positions found, (n,) and (n, 3) in nm, rows of one frame in random order."""
    frame = np.repeat(np.arange(EMITTERS // per_frame), per_frame)
    true = np.column_stack([rng.uniform(0, FIELD_NM, (EMITTERS, 2)), rng.uniform(-600, 600, EMITTERS)])
    found = true + rng.normal(0, (20, 20, 40), true.shape)
    return frame, true, found


def measure(per_frame: int, repeats: int = 5) -> dict[str, float]:
    """Pair one draw several times; gives the fastest in seconds."""
    frame, true, found = draw(per_frame, np.random.default_rng(0))
    shuffled = np.random.default_rng(1).permutation(EMITTERS)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        rows, _partners = pair(frame, true, frame[shuffled], found[shuffled], 250.0, 500.0)
        seconds.append(time.perf_counter() - start)
    return {"frames": EMITTERS // per_frame, "pairs": len(rows), "seconds": min(seconds)}


def main() -> None:
    start = time.perf_counter()
    pair(np.zeros(1, np.int64), np.zeros((1, 3)), np.zeros(1, np.int64), np.zeros((1, 3)), 1.0, 1.0)
    first = time.perf_counter() - start
    result = {"emitters": EMITTERS, "first_call_seconds": first, **{f"{n}_per_frame": measure(n) for n in (20, 100)}}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
