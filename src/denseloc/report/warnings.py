"""Plain words for what looks wrong in a localization run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from ..data import Localizations, Movie
from ..description import Range
from .samples import CHI2_FLOOR, CHI2_LIMIT, CHI2_MOLECULES_LIMIT, CORRELATION_LIMIT, FrameSample, compare_all
from .summary import counts_per_frame, finite, frame_range, local_density_per_um2, number, pixel_size, places, subpixel

EDGE = 0.02
"""Part of a range, from its end, that counts as being at the limit."""
AT_LIMIT = 0.05
"""Share of localizations at one limit that is worth a warning (an even spread puts `EDGE` there)."""
OUTSIDE = 0.05
"""Share of values outside of the training range that is worth a warning."""
DRIFT_FACTOR = 3.0
"""Change of the number per frame from the first to the last fifth that is worth a warning."""
EXCESS_LIMIT = 0.1
"""Light of the frames beyond that of the model, as a part of it, from which on it is named as the cause."""
STRETCHED = 1.4
"""Ratio of the uncertainties along x and y from which on spots are long."""
LEAST_ROWS = 50
RANGE_TOPICS = {"photons": "photons", "background": "background", "density_per_um2": "density", "z_nm": "depth"}
"""Topics of a check that stand for training ranges."""
MISFITS = frozenset({"camera", "psf", "density", "residual", "photons", "background"})
"""Topics of a check that explain why the model's picture differs from the frames."""
GRID_CONTRAST = 0.1
GRID_CHANCE = 1e-4
"""Chance that an even spread looks as uneven, below which it is worth a warning."""


def judge(
    table: Localizations,
    samples: Sequence[FrameSample] = (),
    *,
    ranges: Mapping[str, Range] | None = None,
    movie: Movie | None = None,
    said: Collection[str] = (),
) -> list[str]:
    """Say in plain words what looks wrong, worst first; an empty list if nothing does.

    Args:
        table: the localizations.
        samples: raw frames with the model's picture of them.
        ranges: what the model was trained on, (low, high) by name: ``photons``, ``z_nm``, ``background`` and ``density_per_um2``.
        movie: the movie, for the range of frames.
        said: topics of `denseloc.suitability` of which something was said already, before the run; it is not said twice.
    """
    ranges = ranges or {}
    named = frozenset(name for name, topic in RANGE_TOPICS.items() if topic in said)
    found = [] if MISFITS.intersection(said) else [*_model(samples)]
    if len(table) == 0:
        return [
            "Nothing was localized. Check that gain and offset give sensible photons, that the region holds molecules and that the "
            "threshold on probability is not too high.",
            *found,
        ]
    return [
        *found,
        *_missing(table),
        *_density(table, {name: limits for name, limits in ranges.items() if name not in named}),
        *_limits(table, ranges, named),
        *_outside(table, {name: limits for name, limits in ranges.items() if name not in named}),
        *(() if "subpixel" in said else _grid(table, pixel_size(table, movie, samples))),
        *_time(counts_per_frame(table, frame_range(table, movie)), frame_range(table, movie)[0]),
        *_sigma(table),
        *_stretched(table),
    ]


def _cause(excess: float) -> str:
    """Say what the light that is left over speaks of."""
    if excess > EXCESS_LIMIT:
        return (
            f"{100 * excess:.0f} % more light than the localizations explain: many molecules are missed, because they are crowded or dim, or the PSF "
            "is wider than the model's."
        )
    if excess < -EXCESS_LIMIT:
        return (
            f"The localizations draw {-100 * excess:.0f} % more light than there is: some are false, or photons or gain are wrong."
        )
    return (
        "There is about as much light as the localizations explain, but it is spread differently: the PSF has another shape (a two-dimensional "
        "model sees molecules out of focus, or behind a cylindrical lens), the background is uneven, or the gain is wrong."
    )


def _model(samples: Sequence[FrameSample]) -> Iterator[str]:
    agreements = compare_all(samples)
    if not agreements:
        return
    chi2 = float(np.median([a.chi2 for a in agreements]))
    on_molecules = [a.chi2_molecules for a in agreements if a.chi2_molecules is not None]
    molecules = float(np.median(on_molecules)) if on_molecules else 1.0
    correlation = float(np.median([a.correlation for a in agreements]))
    if chi2 > CHI2_LIMIT:
        excess = float(np.median([a.excess for a in agreements]))
        yield (
            f"The model does not describe this movie: chi2 per pixel is {chi2:.2f} where 1 is expected. {_cause(excess)} Positions and "
            "sigmas may be wrong."
        )
    elif chi2 < CHI2_FLOOR:
        yield (
            f"The movie holds less noise than the model expects: chi2 per pixel is {chi2:.2f} where 1 is expected. Check gain, "
            "offset and read noise, and that the movie was not averaged or smoothed."
        )
    elif molecules > CHI2_MOLECULES_LIMIT:
        yield (
            f"The model describes the background but not the molecules: chi2 per pixel is {molecules:.2f} where molecules are. "
            "The PSF may be wrong, or molecules were missed."
        )
    elif abs(correlation) > CORRELATION_LIMIT and sum(a.n_pixels for a in agreements) > 1000:
        yield (
            f"The residual is not pure noise: neighbouring pixels are correlated by {correlation:.2f}. Molecules may be missed, or "
            "the PSF or the background may be slightly wrong."
        )


def _missing(table: Localizations) -> Iterator[str]:
    may_lack = ("first_", "probability") if "is_refined" in table else ("first_",)  # emitters that a refinement has added
    fitted = table.select(table.is_refined == 1) if "is_refined" in table else table  # the others have no bounds
    bad = {}
    for name in (name for name in table.columns if not name.startswith(may_lack)):
        rows = fitted if name.startswith(("crlb_", "sigma_photons")) else table
        bad[name] = len(rows) - len(finite(rows, name))
    named = [f"{name} ({number(n)})" for name, n in bad.items() if n]
    if named:
        yield f"Some values are not numbers: {', '.join(named)} of {number(len(table))} rows. Leave these rows out first."


def _density(table: Localizations, ranges: Mapping[str, Range]) -> Iterator[str]:
    density = local_density_per_um2(table)
    if density is None or "density_per_um2" not in ranges:
        return
    high = ranges["density_per_um2"][1]
    if density > 1.1 * high:
        yield (
            f"The movie is denser than anything the model was trained on: {density:.2f} per µm² around a typical localization, "
            f"trained up to {number(high)} per µm². Expect missed molecules; train for this density or use sparser frames."
        )


def _limits(table: Localizations, ranges: Mapping[str, Range], said: Collection[str] = ()) -> Iterator[str]:
    for name, what, advice in (
        (
            "photons",
            "the upper photon limit",
            "The model cannot go higher: their photons and sigmas are wrong. Widen the photon range.",
        ),
        ("z_nm", "the limits of z", "Molecules beyond the limits are put there: leave them out, or widen the z range."),
    ):
        values = finite(table, name)
        if len(values) < 50 or name in said:
            continue
        low, high = ranges.get(name, (float(values.min()), float(values.max())))
        margin = EDGE * (high - low)
        if margin <= 0 and name not in ranges:
            continue  # all values are equal: nothing was estimated
        low_share = float(np.mean(values <= low + margin)) if name == "z_nm" else 0.0
        high_share = float(np.mean(values >= high - margin))
        if max(low_share, high_share) > AT_LIMIT:
            unit = "nm" if name == "z_nm" else "photons"
            span = f"{number(low)} to {number(high)} nm" if name == "z_nm" else f"{number(high)} {unit}"
            yield f"{_percent(low_share + high_share)} of the localizations lie at {what} ({span}). {advice}"


def _outside(table: Localizations, ranges: Mapping[str, Range]) -> Iterator[str]:
    for name in ("background", "photons"):
        values = finite(table, name)
        if name not in ranges or not len(values):
            continue
        low, high = ranges[name]
        share = float(np.mean((values < low) | (values > high)))
        if share > OUTSIDE:
            yield (
                f"{_percent(share)} of the localizations have {name} outside of what the model was trained on ({number(low)} to "
                f"{number(high)} photons; the median here is {number(float(np.median(values)))}). Train for these conditions."
            )


def _grid(table: Localizations, pixel_size_nm: tuple[float, float] | None) -> Iterator[str]:
    if pixel_size_nm is None:
        return
    place = places(table, pixel_size_nm)
    axes = (subpixel(table.x_nm, pixel_size_nm[1], "x", place), subpixel(table.y_nm, pixel_size_nm[0], "y", place))
    uneven = [a for a in axes if a.p_value < GRID_CHANCE and a.contrast > GRID_CONTRAST]
    if uneven:
        named = " and ".join(f"{a.axis} (by {_percent(a.contrast)})" for a in uneven)
        yield (
            f"Positions are not spread evenly inside of the camera pixel, in {named}. Estimates may be drawn to a grid, which "
            "makes false structure of the size of a pixel. Long straight structures along the rows of pixels can give this too."
        )


def _time(counts: np.ndarray, first: int) -> Iterator[str]:
    n = len(counts)
    if n < 10 or counts.sum() < 100:
        return
    fifth = n // 5
    start, end = float(counts[:fifth].mean()), float(counts[-fifth:].mean())
    floor = 1.0 / fifth
    if max(start, end) > DRIFT_FACTOR * max(min(start, end), floor):
        yield (
            f"The number of localizations per frame changes from {number(start)} in the first fifth of the movie to {number(end)} "
            "in the last. Bleaching does this; so does a loss of focus. Look at the plot of counts over time."
        )
    begin, length = _longest_gap(counts)
    if counts.mean() >= 1 and length > max(20, 0.02 * n):
        yield f"Frames {first + begin} to {first + begin + length - 1} hold no localization. Look at them."


def _longest_gap(counts: np.ndarray) -> tuple[int, int]:
    """Find (start, length) of the longest run of zeros."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], counts == 0, [0]]).astype(np.int8)))
    starts, stops = edges[::2], edges[1::2]
    if not len(starts):
        return 0, 0
    longest = int(np.argmax(stops - starts))
    return int(starts[longest]), int(stops[longest] - starts[longest])


def _stretched(table: Localizations) -> Iterator[str]:
    """Say that localizations are much less certain along one axis, as where spots are long."""
    if "sigma_x_nm" not in table or "sigma_y_nm" not in table or "z_nm" in table or len(table) < LEAST_ROWS:
        return
    x, y = finite(table, "sigma_x_nm"), finite(table, "sigma_y_nm")
    if not len(x) or not len(y):
        return
    ratio = float(np.median(x)) / max(float(np.median(y)), 1e-9)
    if not 1 / STRETCHED < ratio < STRETCHED:
        axis, times = ("x", ratio) if ratio > 1 else ("y", 1 / ratio)
        yield (
            f"Localizations are {times:.1f} times less certain along {axis}: the spots are long, as behind a cylindrical lens or out of focus, and "
            "each may be taken for several molecules in a row. Calibrate that PSF and use a model for it."
        )


def _sigma(table: Localizations) -> Iterator[str]:
    if "is_refined" in table:  # other frames have told their share, the bound is that of one
        return
    for axis in ("x", "y", "z"):
        sigma, bound = f"sigma_{axis}_nm", f"crlb_{axis}_nm"
        if sigma not in table or bound not in table:
            continue
        good = np.isfinite(table.columns[sigma]) & np.isfinite(table.columns[bound]) & (table.columns[bound] > 0)
        ratio = float(np.median(table.columns[sigma][good] / table.columns[bound][good])) if good.any() else 1.0
        if ratio < 0.85:
            yield (
                f"{sigma} is smaller than theory allows: {ratio:.2f} times the Cramér-Rao bound at the median. The localizations "
                "are less sure than they say; do not weight or filter by sigma before you know why."
            )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.095 else f"{100 * share:.1f} %"
