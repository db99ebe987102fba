"""The command that refines a table by maximum likelihood."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from . import options
from .analysis import Watch, check_beside, finish, told
from .screen import Screen
from .signals import ended, orderly_stop
from .words import pixel_size

MovieOfTable = Annotated[Path, Argument(metavar="MOVIE", help="The movie that the table was made from.", show_default=False)]
Psf = Annotated[
    Path | None,
    Option(
        metavar="FILE",
        help="Calibrated PSF.",
        show_default="that of the table's model, else a Gaussian as wide as the movie's spots",
    ),
]
NoPrior = Annotated[bool, Option("--no-prior", help="Let each frame alone decide, not what the table knows of its positions.")]
NoSharing = Annotated[bool, Option("--no-sharing", help="Do not let the frames in which a molecule is seen share its position.")]
Add = Annotated[bool, Option("--add", help="Look for emitters that the table has missed.")]
Remove = Annotated[bool, Option("--remove", help="Take away emitters that the likelihood does not pay for.")]
Sloped = Annotated[bool, Option("--sloped-background", help="Let the background around a group of emitters slope.")]

REFINE_EXAMPLES = (
    "denseloc refine table.parquet movie.tif -o refined.parquet",
    "denseloc refine table.parquet movie.tif -o refined.parquet --psf psf.h5",
    "denseloc refine table.csv movie.tif -o refined.parquet --psf psf.h5 --camera camera.toml --add --remove",
    "denseloc localize movie.tif -o table.parquet --model mine.safetensors --refine",
)


def refine(
    table: options.Table,
    movie: MovieOfTable,
    out: options.TableOut,
    psf: Psf = None,
    pixel_size_nm: options.PixelSize = None,
    camera: options.Camera = None,
    no_prior: NoPrior = False,
    no_sharing: NoSharing = False,
    add: Add = False,
    remove: Remove = False,
    sloped_background: Sloped = False,
    allow_truncated: options.AllowTruncated = False,
    planes: options.Planes = None,
    resume: options.Resume = False,
    no_picture: options.NoPicture = False,
    no_report: options.NoReport = False,
    quiet: options.Quiet = False,
    device: options.Device = None,
    block_frames: options.BlockFrames = None,
) -> None:
    """Refine a table of any method: all emitters of a frame fitted together by maximum likelihood, beginning where the table says.

    What the table knows of its positions is a prior, and the frames in which a molecule is seen share its position. The first values stay in the
    table as first_x_nm, first_y_nm, first_z_nm and first_photons.
    """
    with Screen("looking at the movie", "refining", quiet) as screen:
        from .. import verbs
        from ..preparation import Preparation, read_camera

        watch = Watch(screen, resume)

        def prepared(ready: Preparation) -> None:
            check_beside(out, not no_picture, not no_report)
            watch.prepared(ready)

        with orderly_stop(screen.say, "the present block") as stop:
            made = verbs.refine(
                table,
                movie,
                out,
                psf=psf,
                pixel_size_nm=pixel_size(pixel_size_nm),
                camera=None if camera is None else read_camera(camera),
                planes=planes,
                prior=not no_prior,
                share_positions=not no_sharing,
                add=add,
                remove=remove,
                sloped_background=sloped_background,
                block_frames=block_frames,
                device=device,
                resume=resume,
                allow_truncated=allow_truncated,
                prepared=prepared,
                report=watch.report,
                stop=stop,
            )
            late = stop()
    if late:
        raise ended(late, f"{made.table} is whole; picture and report were not made (denseloc render and denseloc report do it)")
    finish(made.as_run(), quiet, not no_picture, not no_report)
    if not quiet:
        told(made)
