"""A tiny simulator of a localization run, and a headless browser spoken to over a pipe."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from denseloc.data import Image, Localizations, Movie, Provenance, movie_from_array
from denseloc.report import FrameSample

PIXEL_NM = 100.0
BACKGROUND = 20.0
PSF_NM = 130.0


@dataclass
class Run:
    """What a localization run leaves behind."""

    table: Localizations
    image: Image
    movie: Movie
    samples: list[FrameSample]
    ranges: dict[str, tuple[float, float]] = field(
        default_factory=lambda: {
            "photons": (100.0, 8000.0),
            "z_nm": (-700.0, 700.0),
            "background": (5.0, 60.0),
            "density_per_um2": (0.0, 2.0),
        }
    )


def expected_photons(table: Localizations, frame: int, side: int, psf_nm: float = PSF_NM) -> np.ndarray:
    """Draw the Gaussian spots of one frame on an even background."""
    centres = (np.arange(side) + 0.5) * PIXEL_NM
    picture = np.full((side, side), BACKGROUND)
    here = table.select(table.frame == frame)
    for x, y, photons in zip(here.x_nm, here.y_nm, here.photons, strict=True):
        along_x, along_y = (np.exp(-0.5 * ((centres - c) / psf_nm) ** 2) * PIXEL_NM / (psf_nm * np.sqrt(2 * np.pi)) for c in (x, y))
        picture += photons * along_y[:, None] * along_x
    return picture


def simulate(n_frames: int = 300, side: int = 48, per_frame: float = 12.0, seed: int = 1, psf_of_data_nm: float = PSF_NM) -> Run:
    """Simulate molecules on a few curved fibres and an even haze, localized without error but with honest sigmas."""
    rng = np.random.default_rng(seed)
    per = rng.poisson(per_frame, n_frames)
    n = int(per.sum())
    size = side * PIXEL_NM
    along, fibre = rng.uniform(0, size, n), rng.integers(0, 4, n)
    across = size * (0.2 + 0.2 * fibre) + 0.08 * size * np.sin(along / size * (3 + fibre)) + rng.normal(0, 25, n)
    haze = rng.random(n) < 0.3
    across[haze] = rng.uniform(0, size, int(haze.sum()))
    photons = np.clip(rng.lognormal(np.log(1500), 0.5, n), 150, 7000)
    sigma = PSF_NM / np.sqrt(photons) * (1 + 0.2 * rng.random(n))
    table = Localizations(
        {
            "frame": np.repeat(np.arange(n_frames), per),
            "x_nm": along,
            "y_nm": np.clip(across, 0, size - 1),
            "z_nm": np.clip(rng.normal(0, 200, n), -600, 600),
            "photons": photons,
            "background": rng.normal(BACKGROUND, 2, n),
            "probability": rng.beta(12, 1.5, n),
            "sigma_x_nm": sigma,
            "sigma_y_nm": 1.1 * sigma,
            "sigma_z_nm": 2.5 * sigma,
        },
        Provenance(
            (PIXEL_NM, PIXEL_NM),
            (side, side),
            n_frames,
            "fibres.tif",
            "test",
            {"psf": {"kind": "gaussian", "map": "f32:" + "A" * 4000}},
        ),
    )
    samples = []
    for frame in range(min(n_frames, 5)):
        expected = expected_photons(table, frame, side)
        data = rng.poisson(expected_photons(table, frame, side, psf_of_data_nm)) + rng.normal(0, 1.5, (side, side))
        samples.append(FrameSample(frame, data, expected, expected + 1.5**2, (PIXEL_NM, PIXEL_NM)))
    movie = movie_from_array(rng.poisson(100, (n_frames, side, side)).astype(np.uint16), "fibres.tif", (PIXEL_NM, PIXEL_NM))
    return Run(table, picture_of(table, size), movie, samples)


def picture_of(table: Localizations, size_nm: float, pixel_nm: float = 10.0) -> Image:
    """Count localizations in small pixels."""
    bins = int(size_nm / pixel_nm)
    counts, _, _ = np.histogram2d(table.y_nm, table.x_nm, bins=bins, range=[[0, size_nm], [0, size_nm]])
    return Image(counts.astype(np.float32), (pixel_nm, pixel_nm))


@pytest.fixture
def run() -> Run:
    return simulate()


@pytest.fixture(scope="session")
def simulator() -> Any:
    return simulate


class Chromium:
    """A headless Chromium that is driven by the DevTools protocol over a pipe."""

    def __init__(self, program: str, folder: Path) -> None:
        to_browser, self._writer = os.pipe()
        self._reader, from_browser = os.pipe()
        flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
        flags += " --disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --remote-debugging-pipe"
        # the protocol wants descriptors 3 and 4 in the browser; a shell puts them there
        shell = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        self._log = (folder / "chromium.log").open("wb")
        self.process = subprocess.Popen(
            ["bash", "-c", shell, program, *flags.split(), f"--user-data-dir={folder / 'profile'}", "about:blank"],
            pass_fds=(to_browser, from_browser),
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._count, self.events = b"", 0, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    _session: str | None = None

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method and wait for its result; events that come before it are kept."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params} | ({"sessionId": self._session} if self._session else {})
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]

    def _receive(self, seconds: float = 30.0) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._reader], [], [], max(0.0, end - time.monotonic()))
            chunk = os.read(self._reader, 1 << 20) if ready else b""
            if not chunk:
                raise RuntimeError("Chromium does not answer; see chromium.log in the test's folder")
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\0", 1)
        answer = json.loads(line)
        if "method" in answer:
            self.events.append(answer)
        return answer

    def open(self, page: Path, width: int, height: int = 900) -> None:
        """Open a file in a window of the given width and wait until it is loaded."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._receive()

    def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript and give its value."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def complaints(self) -> list[str]:
        """Give errors and warnings of the console, exceptions and failed requests since the page was opened."""
        self.evaluate("1")
        wrong = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled", "Network.loadingFailed")
        return [json.dumps(event["params"]) for event in self.events if event["method"] in wrong]

    def requests(self) -> list[str]:
        """Give the addresses asked for since the page was opened."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def screenshot(self, path: Path) -> None:
        """Save the whole page as a PNG."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """End the browser and everything that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        os.close(self._writer)
        os.close(self._reader)
        self._log.close()


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Chromium]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None or shutil.which("bash") is None:
        pytest.skip("no 'chromium' in PATH (on Debian: apt-get install chromium)")
    browser = Chromium(program, tmp_path)
    try:
        yield browser
    finally:
        browser.close()
