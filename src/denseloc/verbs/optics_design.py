"""Design the optics: a phase mask by Fisher information, or together with the network that reads its images."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import OutputError, TrainingError
from ..files import alone, check_writable, replacing
from ..localize import TrainableLocalizer
from ..machine import choose_device, keep_memory
from ..model_file import Model, save_model
from ..optics import PSF, ColoursPSF, PupilPSF
from ..optics.colour_stack import ColourStackPSF
from ..optics.designed_mask import designed_mask
from ..optics.masks import MaskSettings
from ..optics.stack import DesignedPSF, StackPSF
from ..optics_document import OpticsDocument
from ..train import Progress, complete, make_ready
from ..train.co_design import CoDesign
from ..train.fisher_design import FisherDesign, Light
from .optics_checks import NOTED_ERROR, check_memory, check_modulator, check_sampling, sampling_error
from .optics_files import Bounds, bounds_of, draw, write_masks, write_psf_file

PICTURES = 8
"""Pictures of a design on its way."""


@dataclass(frozen=True)
class Designed:
    """What a design left behind.

    Args:
        folder: with all files.
        steps, planned: steps done and planned.
        is_finished: whether it was not stopped; files other than pictures are written then.
        mask: as a section ``[psf.mask]``.
        before, after: mean and largest bound over the depths of the start and of the result, in nm.
        model: the localizer that was trained with the mask, for the objective "network".
        notes: what to look at.
        record: all numbers.
    """

    folder: Path
    steps: int
    planned: int
    is_finished: bool
    mask: MaskSettings
    before: Bounds
    after: Bounds
    model: Model | None
    notes: tuple[str, ...]
    record: dict[str, Any]


def design(
    document: OpticsDocument | Path | str,
    out: Path | str,
    *,
    device: str | None = None,
    resume: bool = False,
    report: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Designed:
    """Design a phase mask for a microscope and a range of depths, and write it as PSF, as document and for a light modulator.

    With a PSF of several colours, mask and network learn to tell them apart besides.

    Args:
        document: an experiment with a section ``[design]``, or its file.
        out: folder for the results, made if it is not there.
        device: "cpu", "cuda", ...; the best one there is if None.
        resume: go on from the checkpoint; the result equals that of an uninterrupted design.
        report: told how it goes.
        stop: asked before each step; True leaves the checkpoint and the pictures so far.

    Raises:
        DocumentError, OutputError, TrainingError.
    """
    asked = document if isinstance(document, OpticsDocument) else OpticsDocument.from_file(document)
    checkpoint = _prepared(Path(out))
    with alone(checkpoint):
        return _designed(asked, checkpoint, device, resume, report, stop)


def _designed(
    asked: OpticsDocument,
    checkpoint: Path,
    device: str | None,
    resume: bool,
    report: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> Designed:
    """Check, take the steps, and write what they gave; arguments as in `design`."""
    _check_unfinished(checkpoint, resume)
    folder = checkpoint.parent
    keep_memory()
    chosen = choose_device(device)
    check_modulator(asked)
    optics = asked.psf.build(asked.pixel_size_nm)
    for pupil in pupils_of(optics):
        check_sampling(asked, pupil)
    psf = with_first_mask(asked, optics).to(chosen)
    check_memory(asked, psf, chosen)
    light = light_of(asked)
    before = bounds_of(psf, light)
    worker = _worker(asked, psf, light, chosen, checkpoint)
    if resume:
        worker.resume()

    def keep() -> None:
        draw(folder, asked, psf, light, {"now": bounds_of(psf, light), "start": before}, worker.step, worker.steps)

    worker.run(report, stop=stop, keep=keep, keep_every=max(1, worker.steps // PICTURES))
    uncertainty = complete(worker, report, stop) if isinstance(worker, CoDesign) else None
    finished = uncertainty is not None if isinstance(worker, CoDesign) else worker.step >= worker.steps
    mask = psf.mask.section()
    after = bounds_of(psf, light)
    notes = _notes(asked, mask) if finished else ()
    record = _record(asked, worker, light, before, after, notes) | ({} if uncertainty is None else {"uncertainty": uncertainty})
    model = _finish(folder, asked, mask, worker, record) if finished else None
    if finished:
        checkpoint.unlink(missing_ok=True)
    return Designed(folder, worker.step, worker.steps, finished, mask, before, after, model, notes, record)


def _prepared(folder: Path) -> Path:
    """Make the folder; give the checkpoint in it.

    Raises:
        OutputError: it cannot be made or written to.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, expected a folder for the results; choose another name")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {folder} cannot be made ({error.strerror}); choose another place") from None
    checkpoint = folder / "design.checkpoint"
    check_writable(checkpoint)
    return checkpoint


def _check_unfinished(checkpoint: Path, resume: bool) -> None:
    """Refuse to write over an unfinished design."""
    if checkpoint.exists() and not resume:
        raise TrainingError(
            f"{checkpoint} holds an unfinished design; go on with it (--resume, in Python resume=True), or remove it to begin anew"
        )


def pupils_of(optics: PSF) -> list[PupilPSF]:
    """Give the pupils of the colour channels."""
    pupils = [optics.in_channel(number) for number in range(optics.channels)]
    return [pupil for pupil in pupils if isinstance(pupil, PupilPSF)]


def with_first_mask(document: OpticsDocument, optics: PSF) -> DesignedPSF:
    """Give what the design works on, with the mask that it begins with."""
    settings, first = document.design, pupils_of(optics)[0]
    generator = torch.Generator().manual_seed(settings.seed)
    mask = designed_mask(first, settings.mask, settings.degree, generator, settings.start_rad)
    if isinstance(optics, ColoursPSF):
        return ColourStackPSF(optics, mask, document.specimen.z_nm, settings.z_step_nm)
    return StackPSF(first, mask, document.specimen.z_nm, settings.z_step_nm)


def _worker(
    document: OpticsDocument, psf: DesignedPSF, light: Light, device: torch.device, checkpoint: Path
) -> FisherDesign | CoDesign:
    """Make what takes the steps."""
    mark = hashlib.sha256(json.dumps(document.to_json(), sort_keys=True).encode()).hexdigest()
    if document.design.objective == "fisher":
        assert isinstance(psf, StackPSF)
        return FisherDesign(psf, document.design, light, checkpoint, mark)
    localizer = document.build_localizer()
    assert isinstance(localizer, TrainableLocalizer)
    make_ready(localizer, document.training, device, goes_on=checkpoint.exists())
    simulator = document.build_simulator(localizer, device)
    simulator.microscope.psf = psf
    return CoDesign(localizer, simulator, document.training, document.design, psf, device, checkpoint, mark)


def light_of(document: OpticsDocument) -> Light:
    """Give the emitter for which bounds are told: as the document says, or the median of its specimen."""
    camera, specimen = document.build_camera(), document.build_specimen((32, 32))
    generator = torch.Generator().manual_seed(0)
    emitters = specimen.draw(1, generator, n_movies=50)
    light = specimen.draw_background(1, generator, n_movies=50)
    side = document.psf.roi_px
    photons = document.design.photons or float(emitters.photons.median() if len(emitters) else torch.tensor(1000.0))
    background = document.design.background
    return Light(
        photons=photons,
        background=float(light.median()) if background is None else background,
        excess=float(torch.as_tensor(camera.excess, dtype=torch.float32).mean()),
        noise_variance=float(camera.random_crop((side, side), generator).noise_variance((side, side)).mean()),
    )


def _finish(
    folder: Path, document: OpticsDocument, mask: MaskSettings, worker: FisherDesign | CoDesign, record: dict[str, Any]
) -> Model | None:
    """Write what a finished design gives: PSF, document, masks, record, and the model of a co-design."""
    experiment = document.with_mask(mask)
    write_psf_file(folder / "psf.h5", experiment, record)
    quick = experiment.model_copy(update={"psf": worker.psf.spline()})  # training draws it in no time
    with replacing(folder / "experiment.json") as temporary:
        temporary.write_text(json.dumps(quick.to_json(), indent=1) + "\n", encoding="utf-8")
    write_masks(folder, document, mask)
    model = None
    if isinstance(worker, CoDesign):
        made = worker.localizer.cpu().eval()
        model = Model(made, experiment, record, "model")
        save_model(folder / "model.safetensors", model)
    with replacing(folder / "design.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return model


def _notes(document: OpticsDocument, mask: MaskSettings) -> tuple[str, ...]:
    """Say what to look at in a finished design."""
    optics = pupils_of(document.with_mask(mask).psf.build(document.pixel_size_nm))
    notes = []
    low, high = document.specimen.z_nm
    error, finer = max(sampling_error(pupil, (low, high)) for pupil in optics)
    if error > NOTED_ERROR:
        notes.append(
            f"with pupil_px {finer} the designed images change by {100 * error:.0f} %; design again with {document.pupil_key}.pupil_px = {finer}"
        )
    inside = min(float(_light_inside(pupil, (low, high)).min()) for pupil in optics)
    if inside < 0.5:
        notes.append(
            f"only {100 * inside:.0f} % of the light falls on the patch of {document.psf.roi_px} px at the worst depth; raise psf.roi_px if the rest "
            "matters to you"
        )
    return tuple(notes)


@torch.no_grad()
def _light_inside(optics: PupilPSF, z_nm: tuple[float, float]) -> Tensor:
    z = torch.linspace(*z_nm, 5)
    return optics(torch.zeros(len(z), 2), z).sum((1, 2, 3))


def _record(
    document: OpticsDocument, worker: FisherDesign | CoDesign, light: Light, before: Bounds, after: Bounds, notes: tuple[str, ...]
) -> dict[str, Any]:
    """Gather what is worth keeping."""
    return {
        "program": "denseloc",
        "objective": document.design.objective,
        "steps": worker.step,
        "seconds": round(worker.seconds, 1),
        "total_seconds": round(worker.seconds, 1),
        "seed": document.design.seed,
        "torch": torch.__version__,
        "device": str(worker.device),
        "light": {name: round(value, 4) for name, value in vars(light).items()},
        "bound_before_nm": before.to_json(),
        "bound_after_nm": after.to_json(),
        "design": document.design.model_dump(mode="json"),
        "history": [entry for entry in worker.history if all(not isinstance(v, float) or math.isfinite(v) for v in entry.values())],
        "notes": list(notes),
    }
