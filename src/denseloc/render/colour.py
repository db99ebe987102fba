"""Colours that stand for depth: hues in equal perceptual steps at one lightness, so that brightness is left to show density.

Source: the colour space is Oklab, B. Ottosson, "A perceptual color space for image processing" (2020).
"""

from __future__ import annotations

import numpy as np

_LIGHTNESS = 0.70
_CHROMA = 0.20
_HUES_DEGREES = (268.0, 20.0)
"""Blue for the lowest z, over cyan, green and yellow, to red for the highest."""

_TO_CONE = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_TO_LINEAR_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def _linear_rgb(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """Turn lightness, chroma and hue (radians) of Oklab into linear RGB (n, 3), which may lie outside 0..1."""
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)
    return ((lab @ _TO_CONE.T) ** 3) @ _TO_LINEAR_RGB.T


def depth_colours(n: int = 256) -> np.ndarray:
    """Make n colours from the lowest to the highest z: (n, 3) float32 of sRGB in 0..1.

    The chroma of each hue is as high as a screen can show at the common lightness, up to a common limit.
    """
    hue = np.deg2rad(np.linspace(*_HUES_DEGREES, n))
    lightness = np.full(n, _LIGHTNESS)
    low, high = np.zeros(n), np.full(n, _CHROMA)
    for _ in range(24):
        middle = (low + high) / 2
        rgb = _linear_rgb(lightness, middle, hue)
        fits = ((rgb >= 0) & (rgb <= 1)).all(axis=-1)
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    rgb = _linear_rgb(lightness, low, hue).clip(0.0, 1.0)
    return np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055).astype(np.float32)
