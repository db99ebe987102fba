"""The page of a plan: the bounds of PSFs over depth and in a crowd, and which PSF or density serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import __version__
from ..fit import Expectation, Light
from .page import document
from .plates import BLUE, INK, ORANGE, Plate, canvas, plain, plate_of_figure
from .plots import LEGEND
from .rendering import rendered
from .summary import number

COLOURS = (BLUE, ORANGE, INK, "#3a8f5c", "#8a4fa3", "#a3764f")


def plan_page(expectations: Sequence[Expectation], light: Light) -> str:
    """Draw the page of a plan as one HTML page without scripts that needs no network."""
    names = ", ".join(one.name for one in expectations)
    context: dict[str, Any] = {
        "title": f"What to expect of {names}",
        "version": __version__,
        "verdict": verdict(expectations, light),
        "facts": [
            (
                f"{expectations[0].z_range_nm[0]:.0f} to {expectations[0].z_range_nm[1]:.0f}".replace("-", "\u2212"),
                "nm",
                "depths of the emitters",
            ),
            (number(light.photons), "", "photons of an emitter"),
            (f"{light.background:g}", "", "background photons per pixel"),
            (f"{light.excess:g}", "", "variance of the shot noise per photon"),
            (f"{np.sqrt(light.noise_variance):.2g}", "", "read noise in photons"),
        ],
        "curves": over_depth(expectations) + in_crowd(expectations),
        "rows": [(one.name, crowd) for one in expectations for crowd in one.in_crowd],
        "has_depth": any(one.over_depth.z_nm is not None for one in expectations),
        "sections": [(one.name, document(one.psf.settings.model_dump(mode="json", exclude_none=True))) for one in expectations],
    }
    return rendered("plan.html", context)


def verdict(expectations: Sequence[Expectation], light: Light) -> list[str]:
    """Say in plain words which PSF and which density serve."""
    lines = []
    for one in expectations:
        lateral, axial = one.alone_nm
        alone = f"{lateral:.1f} nm in x and y" + (f", {axial:.1f} nm in z" if axial is not None else "")
        low, high = one.z_range_nm
        where = f" at {low:.0f} to {high:.0f} nm" if high > low else ""
        lines.append(
            f"{one.name}: a lone molecule of {number(light.photons)} photons{where} can be placed to {alone}; {_served(one)}"
        )
    if len(expectations) > 1:
        most = max(expectations, key=lambda one: one.in_crowd[-1].found)
        density = most.in_crowd[-1].density_per_um2
        lines.append(
            f"At {density:g} per \u00b5m\u00b2, {most.name} lets the largest share be found: {100 * most.in_crowd[-1].found:.0f} %"
        )
        deep = [one for one in expectations if one.alone_nm[1] is not None]
        if len(deep) > 1:
            best = min(deep, key=lambda one: one.alone_nm[1] or np.inf)
            lines.append(f"Alone, {best.name} is the best in z")
    return lines


def _served(one: Expectation) -> str:
    most = one.served_per_um2
    if most == 0:
        return f"at {one.in_crowd[0].density_per_um2:g} per \u00b5m\u00b2 already more than a fifth of them run together"
    if np.isinf(most):
        return f"up to {one.in_crowd[-1].density_per_um2:g} per \u00b5m\u00b2 four fifths of them or more can be told apart"
    return f"four fifths of them can be told apart up to {most:.2g} per \u00b5m\u00b2"


def over_depth(expectations: Sequence[Expectation]) -> list[Plate]:
    """Draw the bounds of a lone emitter against depth, lateral and axial."""
    plates = []
    for axis, title in (("lateral", "Alone: x and y"), ("axial", "Alone: z")):
        figure, axes = canvas()
        words, medians = [], []
        for one, colour in zip(expectations, COLOURS, strict=False):
            depth = one.over_depth
            values = np.sqrt((depth.x_nm**2 + depth.y_nm**2) / 2) if axis == "lateral" else depth.z_nm
            if values is None or len(depth.depths_nm) < 2:
                continue
            axes.plot(
                depth.depths_nm, np.where(np.isfinite(values), values, np.nan), color=colour, linewidth=1.5, label=plain(one.name)
            )
            medians.append(float(np.median(values)))
            words.append(f"{one.name} {medians[-1]:.1f} nm")
        if not words:
            continue
        axes.set(xlabel="z (nm)", ylabel="standard deviation (nm)")
        axes.set_ylim(0, min(axes.get_ylim()[1], 6 * max(medians)))
        axes.legend(**LEGEND, loc="upper center")
        text = f"Bounds against depth, medians: {', '.join(words)}."
        plates.append(
            plate_of_figure(
                figure, title, text, "Cram\u00e9r-Rao bound, averaged over places in the pixel; no unbiased method is better."
            )
        )
    return plates


def in_crowd(expectations: Sequence[Expectation]) -> list[Plate]:
    """Draw which share can be found, and how well, against density."""
    plates = []
    for name, label, title in (
        ("found", "share told apart", "In a crowd: found"),
        ("lateral_nm", "x, y bound of those (nm)", "In a crowd: x and y"),
        ("axial_nm", "z bound of those (nm)", "In a crowd: z"),
    ):
        figure, axes = canvas()
        words = []
        for one, colour in zip(expectations, COLOURS, strict=False):
            points = [(c.density_per_um2, getattr(c, name)) for c in one.in_crowd if getattr(c, name) is not None]
            points = [point for point in points if np.isfinite(point[1])]
            if points:
                axes.plot(*zip(*points, strict=True), "o-", color=colour, linewidth=1.5, markersize=3.5, label=plain(one.name))
                words.append(f"{one.name} {points[-1][1]:.2g} at {points[-1][0]:g} per \u00b5m\u00b2")
        if not words:
            continue
        axes.set(xlabel="emitters per \u00b5m\u00b2 and frame", ylabel=label, xscale="log")
        axes.set_ylim(0, 1.02 if name == "found" else None)
        densities = sorted({crowd.density_per_um2 for one in expectations for crowd in one.in_crowd})
        axes.set_xticks(densities, [f"{density:g}" for density in densities])
        axes.minorticks_off()
        axes.legend(**LEGEND, loc="best")
        caption = (
            "About the Jaccard index of a perfect method that sees single frames; one that sees neighbouring frames can exceed it."
            if name == "found"
            else "Root mean square of the bounds of those that are found, all neighbours fitted together."
        )
        plates.append(plate_of_figure(figure, title, f"{title}: {', '.join(words)}.", caption))
    return plates
