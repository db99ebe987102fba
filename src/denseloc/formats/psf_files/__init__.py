"""PSF files: our own and those of other programs' calibrations; one file a format.

A format has `suffixes`, says by the content of a file whether it `claims` it, and can `read` it; some can `write`, and some say of a file
that nobody claims what its `contents` are. To add one, write a file here and put its class on the shelf below.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...description import nearest
from ...errors import CalibrationError
from ...files import check_writable
from ...optics import PSFSettings
from ...units import PixelSize, pixel_size_pair
from .json_toml import SectionFile
from .own import Own
from .parts import PSFFile, PSFFormat, WritablePSFFormat, needed_pixel_size, plain
from .picasso_yaml import PicassoYaml
from .possible import check_possible
from .sigma_curves import SigmaCurves
from .smap import Smap
from .uipsf import UiPsf

SAME_PIXEL = 0.03
"""Pixel sizes that differ by less are the same."""

PSF_FORMATS: tuple[PSFFormat, ...] = (Own(), Smap(), UiPsf(), PicassoYaml(), SigmaCurves(), SectionFile())


def psf_suffixes(*, to_write: bool = False) -> tuple[str, ...]:
    """List the suffixes of the PSF files that can be read, or be written, our own first."""
    formats = [one for one in PSF_FORMATS if not to_write or isinstance(one, WritablePSFFormat)]
    return tuple(dict.fromkeys(suffix for one in formats for suffix in one.suffixes))


def read_psf(path: Path | str, *, pixel_size_nm: float | PixelSize | None = None) -> PSFFile:
    """Read a PSF: our own file, a section, or the calibration of another program.

    The suffix and the content decide. The record says which program wrote it, the range of depths, the pixel size where it is known, and
    in ``notes`` what was left out or assumed.

    Args:
        path: `.h5` (ours, uiPSF), `.mat` (SMAP, fit3Dcspline), `.yaml` (Picasso), `.csv` (curves of widths), `.json`, `.toml` (section).
        pixel_size_nm: one number or (y, x), for files that count in pixels without saying how large they are.

    Returns:
        The section and its record.

    Raises:
        CalibrationError: missing, of an unknown format, of another program, or damaged.
        DocumentError: a section with an unknown key or an impossible value.
    """
    path = Path(path)
    if path.is_dir():
        raise CalibrationError(f"{path}: this is a folder, expected the file of a PSF; give the file")
    if not path.is_file():
        raise CalibrationError(f"{path}: no such file{_neighbour(path)}; check the path")
    formats = [one for one in PSF_FORMATS if path.suffix.lower() in one.suffixes]
    if not formats:
        raise CalibrationError(
            f"{path}: unknown PSF format '{path.suffix}', expected one of {', '.join(psf_suffixes())}; convert the file"
        )
    size = _given(path, pixel_size_nm)
    try:
        if path.stat().st_size == 0:
            raise CalibrationError(f"{path}: the file is empty (0 bytes), expected a PSF; write or copy it again")
        for one in formats:
            if one.claims(path):
                section, record = one.read(path, size)
                record = plain(record)
                check_possible(path, section, record if size is None else {**record, "pixel_size_nm": size})
                return PSFFile(section, record)
        found = next(filter(None, (one.contents(path) for one in formats)), f"{path.stat().st_size} bytes of something else")
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be read ({error.strerror or error}); check the file and its permissions") from error
    known = " or ".join(one.expects for one in formats)
    raise CalibrationError(f"{path}: holds {found}, expected {known}; give the calibration")


def read_psf_for(path: Path | str, size: float | PixelSize | None, asked: float | PixelSize | None) -> PSFFile:
    """Read a PSF for a movie, and refuse that of another pixel size.

    The file of another program that counts in pixels is scaled to another size only where the user asks for that size.

    Args:
        path: as in `read_psf`.
        size: of the movie's pixels, where it is known.
        asked: the size that the user has given, if any.

    Raises:
        CalibrationError: as in `read_psf`, or calibrated with pixels of another size.
    """
    found = read_psf(path, pixel_size_nm=size)
    if size is None:
        return found
    mine = pixel_size_pair(size)
    if asked is not None and known_pixel_size(found.record) == mine:
        return found
    try:
        own = known_pixel_size(read_psf(path).record)
    except CalibrationError:
        return found  # it does not say its own
    if own is not None and any(abs(a / b - 1) > SAME_PIXEL for a, b in zip(mine, own, strict=True)):
        raise CalibrationError(
            f"{path}: calibrated with pixels of {own[0]:g} x {own[1]:g} nm (y, x), the movie has {mine[0]:g} x {mine[1]:g} nm; calibrate a PSF "
            "with this camera, or give the right pixel size (--pixel-size-nm)"
        )
    return found


def known_pixel_size(record: Mapping[str, Any]) -> PixelSize | None:
    """Give the (y, x) pixel size in nm of the camera with which a PSF was calibrated, None where its file does not say it."""
    size = record.get("pixel_size_nm")
    return None if size is None else pixel_size_pair(tuple(size) if isinstance(size, (list, tuple)) else size)


def foreign_notes(record: Mapping[str, Any]) -> list[str]:
    """Give what was assumed or left out when the file of another program was read; those of our own were said when it was made."""
    notes = record.get("notes")
    return [str(note) for note in notes] if isinstance(notes, list) and record.get("program") != "denseloc" else []


def write_psf(
    path: Path | str,
    section: PSFSettings,
    record: Mapping[str, Any] | None = None,
    *,
    pixel_size_nm: float | PixelSize | None = None,
) -> None:
    """Write a PSF in the format of the suffix; the target is whole or untouched.

    `.h5` keeps everything. `.json` and `.toml` keep the section, `.mat` the spline for SMAP, `.yaml` the widths for Picasso.

    Args:
        path: the suffix decides.
        section: the PSF.
        record: how it was calibrated; see `parts` for the keys with a fixed meaning.
        pixel_size_nm: one number or (y, x); absent: that of the record.

    Raises:
        CalibrationError: unknown suffix, or the format cannot hold this PSF.
        OutputError: the target cannot be written.
    """
    path = Path(path)
    known = {suffix: one for one in reversed(PSF_FORMATS) if isinstance(one, WritablePSFFormat) for suffix in one.suffixes}
    chosen = known.get(path.suffix.lower())
    if chosen is None:
        suffixes = psf_suffixes(to_write=True)
        raise CalibrationError(
            f"{path}: no PSF can be written as '{path.suffix}'{nearest(path.suffix, suffixes)}, expected {', '.join(suffixes)}"
        )
    check_writable(path)
    chosen.write(path, section, record or {}, _given(path, pixel_size_nm))


def _given(path: Path, pixel_size_nm: float | PixelSize | None) -> PixelSize | None:
    return None if pixel_size_nm is None else needed_pixel_size(path, pixel_size_pair(pixel_size_nm), {}, "")


def _neighbour(path: Path) -> str:
    """Offer the file in the same folder with the nearest name."""
    try:
        return nearest(path.name, sorted(other.name for other in path.parent.iterdir()))
    except OSError:
        return ""


__all__ = [
    "PSF_FORMATS",
    "PSFFile",
    "PSFFormat",
    "WritablePSFFormat",
    "foreign_notes",
    "known_pixel_size",
    "psf_suffixes",
    "read_psf",
    "read_psf_for",
    "write_psf",
]
