"""From numbers to sentences: what does not suit, how grave it is, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .findings import Finding, Grade
from .ranges import BEYOND, FAR, Trained, beyond
from .reference import Circumstances
from .views import View

WIDER = (0.07, 0.13)
"""Relative change of the width that is worth a warning, and that a model does not bear."""
SUSPECT = 0.025
"""Answer of the fit to the shape of the images from which on the change of the width is sought; the localizer hides a part of it."""
LONGER = (0.06, 0.15)
NOISE = (1.25, 1.6)
"""Factor on the variance of the noise, up or down."""
MISFIT = (1.35, 2.0)
"""Factor on chi2 where molecules are, against that in drawn scenes."""
ERRORS = 3.0
"""Standard errors that a change must have."""
CROWD = 1.6
"""Factor on the width that no microscope is wrong by; crowds are."""
OTHER_SHAPE = 1.25
"""Factor on chi2 of clear molecules that no width explains."""
MISJUDGED = 0.15
"""Part by which photons of clear molecules are wrong from which on they are put right."""
SURE = 0.05
"""Error of the width from which on its interval is told."""
LEFT_OVER = 0.12
UNSURE = 1.25
GRID = 0.15
PATCHES = 0.15
"""By how much better than drawn scenes from each other patches of the movie are told from drawn ones."""
FEW = 30
MUCH_LEFT = 2.0  # chi2 from which on frames hold more than noise
FULL_SHARE = 1e-4
SEEN_AGAIN = 3.0  # frames in which a molecule is counted
AT_END, END = 0.12, 0.02


@dataclass(frozen=True)
class Width:
    """The width that explains the images, found by drawing scenes with other widths.

    Args:
        factor: on the width of the model's PSF.
        error: standard error of the factor.
        chi2: of clear molecules in scenes drawn with it; NaN where that was not looked at.
    """

    factor: float
    error: float
    chi2: float

    def __str__(self) -> str:
        low, high = sorted((abs(self.factor - self.error - 1), abs(self.factor + self.error - 1)))
        much = f"{100 * low:.0f} to {100 * high:.0f} %" if self.error > SURE else f"about {100 * abs(self.factor - 1):.0f} %"
        return f"{much} {'wider' if self.factor > 1 else 'narrower'}"


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that is judged.

    Args:
        movie: what the model sees in the movie.
        drawn: what it sees in the drawn scenes.
        level: at which these were drawn.
        trained: what the model was trained on.
        numbers: of the movie.
        drawn_numbers: of each drawn scene.
        outside: what the pixels alone say of the conditions.
        told_apart: as in `Suitability`.
        width: that explains the images; None where it was not sought.
        camera_from: where the camera comes from: "given" by the user, "measured" in the movie, or what says it.
    """

    movie: View
    drawn: Sequence[View]
    level: Circumstances
    trained: Trained
    numbers: Mapping[str, float]
    drawn_numbers: Sequence[Mapping[str, float]]
    outside: Sequence[Finding] = ()
    told_apart: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    width: Width | None = None
    camera_from: str = "given"

    def both(self, name: str) -> tuple[float, float]:
        """Give a number of the movie, and its mean over the drawn scenes."""
        values = [numbers.get(name, np.nan) for numbers in self.drawn_numbers]
        good = [value for value in values if np.isfinite(value)]
        return float(self.numbers.get(name, np.nan)), float(np.mean(good)) if good else float("nan")

    @property
    def photons(self) -> float:
        """Bright end of the photons, by the light that clear molecules really have: a model does not say more than it was trained on."""
        mine, usual = self.both("brighter")
        misjudged = (1 + mine) / (1 + usual) if min(mine, usual) > -0.9 else 1.0
        return self.level.photons * (misjudged if abs(misjudged - 1) > MISJUDGED else 1.0)

    def errors(self, name: str) -> tuple[float, float]:
        """Give the standard errors of a change of the PSF in the movie, and of its mean over the drawn scenes."""
        theirs = [numbers.get(f"{name}_error", np.nan) for numbers in self.drawn_numbers]
        drawn = float(np.sqrt(np.nansum(np.square(theirs)))) / max(len(theirs), 1)
        return float(self.numbers.get(f"{name}_error", np.nan)), drawn

    def change(self, name: str) -> tuple[float, float]:
        """Give the difference of a change of the PSF between movie and drawn scenes, and its standard error."""
        mine, theirs = self.both(name)
        return mine - theirs, math.hypot(*self.errors(name))


def judge(evidence: Evidence) -> list[Finding]:
    """Say everything that does not suit, in any order."""
    found = [*_full(evidence), *_camera(evidence)]
    if len(evidence.movie.counted) < FEW:
        return [*found, *_nothing(evidence), *evidence.outside]
    mine = [*_levels(evidence), *_depth(evidence), *_grid(evidence)]
    if "photons" in evidence.movie.counted:
        mine += [*_psf(evidence), *_symptoms(evidence)]
    return [*found, *mine, *evidence.outside]


def _grade(size: float, limits: tuple[float, float]) -> Grade | None:
    return "fail" if size > limits[1] else "warn" if size > limits[0] else None


def _full(evidence: Evidence) -> Iterator[Finding]:
    share = evidence.movie.scene.full_share
    if share > FULL_SHARE:
        text = f"{100 * share:.2g} % of the pixels are full: bright molecules look wide and dim; record with less light or gain"
        yield Finding("full", "warn", text)


def _camera(evidence: Evidence) -> Iterator[Finding]:
    mine, theirs = evidence.both("noise")
    ratio = mine / theirs if np.isfinite(theirs) and theirs > 0 else mine
    if not np.isfinite(ratio) or ratio <= 0:
        return
    grade = _grade(max(ratio, 1 / ratio), NOISE)
    if grade:
        source = evidence.camera_from
        whose = f"{source} camera" if source in ("given", "measured") else f"camera of {source}"
        advice = "check the numbers given with --camera" if source == "given" else "give the camera that recorded it (--camera)"
        yield Finding(
            "camera",
            grade,
            f"the noise of the movie has {ratio:.2g} times the variance that the {whose} would give: gain, offset or excess noise is wrong, or "
            f"the movie was smoothed; {advice}; 'denseloc inspect' measures it",
        )


def _nothing(evidence: Evidence) -> Iterator[Finding]:
    n, frames = len(evidence.movie.counted), len(evidence.movie.photons)
    what = "nothing" if n == 0 else f"only {n} molecule{'s' if n > 1 else ''}"
    if evidence.numbers["chi2"] > MUCH_LEFT:
        text = (
            f"the model finds {what} in {frames} frames, although they hold light (chi2 {evidence.numbers['chi2']:.2g}): look whether camera and "
            "pixel size are right; else it is no model for this movie"
        )
        yield Finding("nothing", "fail", text)
    elif n == 0:
        text = f"the model finds nothing in {frames} frames: look whether they hold molecules, and whether camera and pixel size are right"
        yield Finding("nothing", "fail", text)
    else:
        text = f"the model finds {what} in {frames} frames, too few to judge by: check a part where more happens"
        yield Finding("nothing", "warn", text)


def _levels(evidence: Evidence) -> Iterator[Finding]:
    level, trained = evidence.level, evidence.trained
    sure = 1 / (1 + math.sqrt(SEEN_AGAIN / len(evidence.movie.counted)))  # a few molecules tell a level roughly
    yield from beyond("density", "emitter density", sure * level.density_per_um2, trained.density_per_um2, "per um^2")
    if "photons" not in evidence.movie.counted:
        return  # what is left of the frames holds the molecules' light, too
    if trained.background is not None:
        yield from beyond(
            "background", "background", float(np.median(level.background)), trained.background, "photons per pixel", 0.5
        )
    (low, high), photons = trained.photons, evidence.photons
    if sure * photons > BEYOND * high:
        grade: Grade = "fail" if sure * photons > FAR * high else "warn"
        yield Finding(
            "photons",
            grade,
            f"bright molecules have about {photons:.3g} photons in a frame, the model was trained on {low:.3g} to {high:.3g}: their "
            "photons and sigmas are wrong; train a model with a wider range of photons",
        )
    elif photons * BEYOND < trained.dimmest:
        yield Finding(
            "photons",
            "warn",
            f"even bright molecules have only about {photons:.3g} photons in a frame, the model was trained on {low:.3g} to {high:.3g}: "
            "many are missed; train a model with dimmer molecules",
        )


def is_suspect(evidence: Evidence) -> bool:
    """Whether images look wider or narrower than those of drawn scenes."""
    wider, error = evidence.change("wider")
    return abs(wider) > max(SUSPECT, ERRORS * error)


def _psf(evidence: Evidence) -> Iterator[Finding]:
    (wider, _), (chi2, _) = evidence.change("wider"), evidence.both("chi2_spot")
    longest = max((evidence.change(name) for name in ("stretched", "sheared")), key=lambda one: abs(one[0]) / max(one[1], 1e-9))
    width = evidence.width
    sized = None if width is None else _grade(abs(math.log(width.factor)), WIDER)
    longer = _grade(abs(longest[0]), LONGER) if abs(longest[0]) > ERRORS * longest[1] else None
    if longer and abs(longest[0]) > abs(wider):
        yield Finding(
            "psf", longer, _psf_text(f"{100 * abs(longest[0]):.0f} % longer in one direction than the model's PSF", evidence)
        )
    elif sized and width is not None:
        other = chi2 > OTHER_SHAPE * width.chi2
        how = (
            f"{width} than the model's PSF, as where molecules far too dense for the model run together"
            if width.factor > CROWD
            else f"{'wider' if wider > 0 else 'narrower'} than the model's PSF and of another shape"
            if other
            else f"{width} than the model's PSF"
        )
        yield Finding("psf", sized, _psf_text(how, evidence))
    elif how := _unlike(evidence):
        yield Finding("psf", "warn", _psf_text(how, evidence))


def _unlike(evidence: Evidence) -> str:
    """Say that the residual has a shape and the model is unsure, which together speak of another PSF; nothing where they do not."""
    mine, usual = evidence.both("correlation")
    sigma = max(mine / usual for mine, usual in (evidence.both(f"sigma_{axis}_nm") for axis in "xy"))
    if not (mine - usual > LEFT_OVER and sigma > UNSURE):
        return ""
    wider, error = evidence.change("wider")
    how = "probably wider, " if wider > 2 * error else "probably narrower, " if -wider > 2 * error else ""
    return f"unlike the model's PSF ({how}sigmas are {sigma:.2g} times as large as they should be)"


def _psf_text(how: str, evidence: Evidence) -> str:
    flat = not evidence.movie.counted.is_3d
    depth = "; a movie in 3D, or with molecules out of focus, needs a model whose PSF has depth" if flat else ""
    return (
        f"the images of molecules are {how}: positions and sigmas are wrong; check the pixel size, calibrate the PSF with beads of this "
        f"microscope and train a model with it{depth}"
    )


def _depth(evidence: Evidence) -> Iterator[Finding]:
    z = evidence.trained.z_nm
    if z is None or not evidence.movie.counted.is_3d:
        return
    margin = END * (z[1] - z[0])
    found = evidence.movie.counted.z_nm
    share = float(np.mean((found <= z[0] + margin) | (found >= z[1] - margin)))
    if share > AT_END:
        yield Finding(
            "depth",
            "warn",
            f"{100 * share:.0f} % of the molecules lie at the ends of the depths that the model knows ({z[0]:.0f} to {z[1]:.0f} nm): they are deeper "
            "than that, or the PSF is another one; train a model with a wider z_nm, or leave them out",
        )


def _symptoms(evidence: Evidence) -> Iterator[Finding]:
    mine, usual = evidence.both("chi2_spot")
    if grade := _grade(mine / usual if usual > 0 else 0.0, MISFIT):
        yield Finding(
            "residual",
            grade,
            _psf_text(f"of another shape than the model's PSF (chi2 {mine:.2g}, in drawn scenes {usual:.2g})", evidence),
        )
    mine, usual = evidence.both("correlation")
    if mine - usual > LEFT_OVER:
        yield Finding(
            "residual",
            "warn",
            f"neighbouring pixels of the residual are correlated by {mine:.2f}, in drawn scenes by {usual:.2f}: the PSF is slightly another one, or "
            "light that the document does not know; look at the residual maps",
        )
    for axis in "xy":
        mine, usual = evidence.both(f"sigma_{axis}_nm")
        if mine > UNSURE * usual:
            yield Finding(
                "sigma",
                "warn",
                f"the model is less sure than on drawn scenes: sigma in {axis} is {mine:.3g} nm, {usual:.3g} nm there; something is not as "
                "the document says",
            )
    for kind, (mine, usual) in evidence.told_apart.items():
        if np.isfinite(mine) and mine - max(usual if np.isfinite(usual) else 0.5, 0.5) > PATCHES:
            yield Finding(
                "patches",
                "warn",
                f"patches {kind} are told from drawn ones too well (score {mine:.2f}, {usual:.2f} among drawn ones, 0.5 is guessing): look at the "
                "frames beside each other for what the document does not know",
            )


def _grid(evidence: Evidence) -> Iterator[Finding]:
    least = max(GRID, 4 / math.sqrt(len(evidence.movie.counted)))
    uneven = [axis for axis in "xy" if evidence.both(f"subpixel_{axis}")[0] - evidence.both(f"subpixel_{axis}")[1] > least]
    if uneven:
        yield Finding(
            "subpixel",
            "warn",
            f"positions gather inside of the camera pixel, in {' and '.join(uneven)}, unlike in drawn scenes: estimates are drawn to a grid",
        )
