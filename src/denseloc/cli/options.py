"""Arguments and options of the commands, each with its help; those of one command stand together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option


def _given(text: str, *names: str, metavar: str | None = None, **more: Any) -> Any:
    """Describe an option that has no default worth showing."""
    return Option(*names, metavar=metavar, help=text, show_default=False, **more)


def _else(text: str, default: str, metavar: str | None = None, **more: Any) -> Any:
    """Describe an option whose default is a rule, not a value."""
    return Option(metavar=metavar, help=text, show_default=default, **more)


def _switch(name: str, text: str) -> Any:
    return Option(name, help=text)


MACHINE = "Machine"
CAMERA_HELP = "Such as 'offset=100, electrons_per_count=2.2', for an EMCCD with em_gain; or a .toml file."

# used by several commands
Movie = Annotated[Path, Argument(metavar="MOVIE", help="Movie file, or folder of single-frame TIFFs.", show_default=False)]
Table = Annotated[Path, Argument(metavar="TABLE", help="Table: .parquet, .csv or .hdf5.", show_default=False)]
Document = Annotated[Path, Argument(metavar="EXPERIMENT", help="Experiment document, .toml or .json.", show_default=False)]
PixelSize = Annotated[str | None, _given("Camera pixel in the sample: 100, or y,x.", metavar="NM")]
Camera = Annotated[
    str | None,
    _given(CAMERA_HELP, metavar="TEXT"),
]
FieldNm = Annotated[str | None, _else("Height and width of the camera field in nm.", "as the table says", "H,W")]
Device = Annotated[str | None, _else("cpu or cuda.", "the best there is", rich_help_panel=MACHINE)]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Print errors only.")]

SELECTION = "Which localizations"
MinProbability = Annotated[
    float | None, _given("Leave out rows that are less probable, 0 to 1.", metavar="P", rich_help_panel=SELECTION)
]
MaxSigmaNm = Annotated[
    float | None, _given("Leave out rows with a larger sigma in x or y.", metavar="NM", rich_help_panel=SELECTION)
]
MinPhotons = Annotated[float | None, _given("Leave out rows with fewer photons.", metavar="N", rich_help_panel=SELECTION)]
FilterRate = Annotated[
    float | None, _given("Leave out this share, 0 to 0.85, of largest expected error.", metavar="R", rich_help_panel=SELECTION)
]
RescaleOffsets = Annotated[
    bool,
    _switch("--rescale-offsets", "Spread positions that lean to the middle of their camera pixel, where the sample allows it."),
]

# localize
TableOut = Annotated[
    Path, _given("Table to write: .parquet, .csv (ThunderSTORM), .hdf5 (Picasso).", "--out", "-o", metavar="TABLE")
]
Model = Annotated[str | None, _given("Model file, or name of a shipped one (see: denseloc models).", metavar="FILE|NAME")]
Method = Annotated[str | None, _given("Method by its name, where no model is given (decode, single, multi, cel0).", metavar="NAME")]
Psf = Annotated[Path | None, _given("Calibrated PSF, for a method that needs no training (single, multi, cel0).", metavar="FILE")]
FrameRange = Annotated[str | None, _given("Only the rows of frames A .. B-1, counted from 0.", metavar="A:B")]
Planes = Annotated[
    int | None, _else("Focal planes of a frame, where they follow one another as images of the file.", "what the file says", min=1)
]
Roi = Annotated[str | None, _given("Only this region, in pixels.", metavar="Y0,X0,H,W")]
Threshold = Annotated[float | None, _else("Least probability of a localization, 0 to 1.", "the method's own")]
AllowTruncated = Annotated[bool, _switch("--allow-truncated", "Use the whole frames of a movie file that breaks off.")]
Refine = Annotated[bool, _switch("--refine", "Refine what was found by maximum likelihood (see: denseloc refine).")]
Resume = Annotated[bool, _switch("--resume", "Go on where an interrupted run was stopped.")]
NoPicture = Annotated[bool, _switch("--no-picture", "Leave the picture out.")]
NoReport = Annotated[bool, _switch("--no-report", "Leave the report out.")]
TilePx = Annotated[
    int, Option(min=16, max=4096, help="Largest tile computed at once; does not change the result.", rich_help_panel=MACHINE)
]
BlockFrames = Annotated[
    int | None,
    _else("Frames read and kept at once; do not change the result.", "by size", min=1, max=16384, rich_help_panel=MACHINE),
]

Image = Annotated[
    Path | None, _given("Sum of the method's own images, .tif with 32-bit values (deep_storm, deep_storm_3d).", metavar="IMAGE")
]

# render
Drawn = Annotated[
    Path, Argument(metavar="TABLE|IMAGE", help="Table, or an image that localize --image has written.", show_default=False)
]
PictureOut = Annotated[Path, _given("Picture to write: .png, or .tif with 32-bit values.", "--out", "-o", metavar="PICTURE")]
PicturePixel = Annotated[float | None, _else("Pixel of the picture in nm.", "10, more for large fields")]
Mode = Annotated[str, Option(help="gaussian (each with its own sigma) or histogram.")]
SigmaNm = Annotated[float | None, _else("One standard deviation for all.", "each localization's own")]
Colour = Annotated[str | None, _else("z shows depth as colour, none does not.", "z where the table has it")]
ZRange = Annotated[str | None, _else("z of the ends of the colours, in nm.", "1 % and 99 %", "LOW,HIGH")]
Colormap = Annotated[str, Option(help="Colours of a .png without depth, by matplotlib's name.")]
NoScaleBar = Annotated[bool, _switch("--no-scale-bar", "Only the pixels.")]

# report
ReportMovie = Annotated[
    Path | None, Argument(metavar="MOVIE", help="The movie, where it is no longer where the table says.", show_default=False)
]
PageOut = Annotated[Path | None, Option("--out", "-o", metavar="PAGE", help="Page to write.", show_default="TABLE with .html")]
Title = Annotated[str | None, _else("Heading.", "name of the movie")]

# evaluate
Truth = Annotated[Path, Argument(metavar="TRUTH", help="Table of the true emitters, of any format.", show_default=False)]
AsJson = Annotated[bool, _switch("--json", "Print one JSON object.")]
Wobble = Annotated[Path | None, _given("Lines dx,dy,z in nm: found minus true at depth z.", metavar="FILE")]
RemoveOffset = Annotated[bool, _switch("--remove-offset", "Take a constant offset between the tables away first.")]
Whole = Annotated[bool, _switch("--whole", "Compare with all of the truth, localized frames and region or not.")]
BorderNm = Annotated[float, Option(min=0, help="Border of the field, or of the region localized, that does not count.")]
LateralNm = Annotated[float, Option(min=0, help="Largest distance of a pair in x, y.")]
AxialNm = Annotated[float, Option(min=0, help="Largest distance of a pair in z.")]

# simulate
MovieOut = Annotated[Path, _given("Movie to write, .tif with 16-bit counts.", "--out", "-o", metavar="MOVIE")]
Frames = Annotated[int, Option(min=1, max=10_000_000, help="Number of frames.")]
Size = Annotated[str, Option("--size", metavar="PX", help="Pixels: 64, or rows x columns as 64x48.")]
Seed = Annotated[int, Option(min=-(1 << 63), max=(1 << 63) - 1, help="Equal seeds give equal movies.")]
TruthOut = Annotated[Path | None, _else("Table of the true emitters to write.", "MOVIE with .truth.parquet", "TABLE")]

# train
ModelOut = Annotated[Path, _given("Model file to write, .safetensors.", "--out", "-o", metavar="MODEL")]
StartFrom = Annotated[str | None, _given("Begin with the weights of another model.", metavar="FILE|NAME")]
ResumeTraining = Annotated[bool, _switch("--resume", "Go on from the checkpoint beside the model file.")]

# recalibrate
TrainedModel = Annotated[
    str,
    Argument(
        metavar="MODEL", help="Model file, name of a shipped one, or document of a method without training.", show_default=False
    ),
]
CorrectedOut = Annotated[
    Path | None, Option("--out", "-o", metavar="MODEL", help="Model file to write, .safetensors.", show_default="MODEL itself")
]

# demo
DemoOut = Annotated[Path, Option("--out", "-o", metavar="FOLDER", help="Folder for table, picture and report.")]
