"""The column dictionary: the one list of names, units and meanings of everything that stands in a table."""

from __future__ import annotations

from dataclasses import dataclass

from ..units import ORIGIN, Z_SIGN


@dataclass(frozen=True)
class Column:
    """One column: name, numpy dtype, unit and meaning."""

    name: str
    dtype: str
    unit: str
    meaning: str


COLUMNS: dict[str, Column] = {
    column.name: column
    for column in (
        Column("frame", "int64", "", "frame number, counted from 0 in the whole movie"),
        Column("molecule", "int64", "", "identity of the fluorophore over the movie"),
        Column("x_nm", "float64", "nm", f"column position from the {ORIGIN}"),
        Column("y_nm", "float64", "nm", f"row position from the {ORIGIN}"),
        Column("z_nm", "float64", "nm", f"axial position; {Z_SIGN}"),
        Column("photons", "float32", "photons", "detected photons in this frame"),
        Column("background", "float32", "photons", "background per pixel and frame"),
        Column("probability", "float32", "", "probability that the localization is a real emitter"),
        Column("sigma_x_nm", "float32", "nm", "standard deviation of x_nm"),
        Column("sigma_y_nm", "float32", "nm", "standard deviation of y_nm"),
        Column("sigma_z_nm", "float32", "nm", "standard deviation of z_nm"),
        Column("sigma_photons", "float32", "photons", "standard deviation of photons"),
        Column("crlb_x_nm", "float32", "nm", "Cramer-Rao bound of x_nm as a standard deviation"),
        Column("crlb_y_nm", "float32", "nm", "Cramer-Rao bound of y_nm as a standard deviation"),
        Column("crlb_z_nm", "float32", "nm", "Cramer-Rao bound of z_nm as a standard deviation"),
        Column("width_nm", "float32", "nm", "fitted size of the PSF as a Gaussian standard deviation"),
        Column("width_x_nm", "float32", "nm", "fitted width along x, or along the axis of the spot that is nearer to x"),
        Column("width_y_nm", "float32", "nm", "fitted width along y, or along the other axis of the spot"),
        Column("angle_deg", "float32", "deg", "direction of the axis of width_x_nm, from +x towards +y; above -45 and up to 45"),
        Column("log_likelihood", "float32", "", "log-likelihood of the fit, of all pixels that were fitted together"),
        Column("p_value", "float32", "", "probability that pixels which follow the model agree worse with it than these"),
        Column(
            "is_refined",
            "int64",
            "",
            "1 where the fit has converged, 0 where photons and background have kept their first values",
        ),
        Column("first_x_nm", "float64", "nm", "x_nm before it was refined"),
        Column("first_y_nm", "float64", "nm", "y_nm before it was refined"),
        Column("first_z_nm", "float64", "nm", "z_nm before it was refined"),
        Column("first_photons", "float32", "photons", "photons before it was refined"),
        Column("channel", "int64", "", "colour channel, counted from 0 as the document names them"),
        Column("channel_probability", "float32", "", "probability of the colour channel that is stated"),
    )
}

CONVENTIONS = {"origin": ORIGIN, "frame_base": 0, "axis_order": "x = column, y = row", "length_unit": "nm", "z_sign": Z_SIGN}
"""Written into every file that we write."""
