"""The loop trains what is not of the DECODE family: here a network from image to image, with running statistics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn

from denseloc.data import Frames, Localizations
from denseloc.errors import TrainingError
from denseloc.experiment import Experiment
from denseloc.localize import (
    LOCALIZERS,
    Batch,
    DecodeSettings,
    Localizer,
    LocalizerSettings,
    Scales,
    SingleSettings,
    TrainableLocalizer,
)
from denseloc.model_file import load_model, save_model
from denseloc.suitability import serves_many
from denseloc.train import Trainer
from denseloc.train.validate import score
from denseloc.training import train


class SpotsSettings(LocalizerSettings):
    """``[localizer] kind = "spots"``."""

    kind: Literal["spots"] = "spots"

    def build(self, scales: Scales) -> Spots:
        """Make the localizer, untrained."""
        return Spots(scales)


class Spots(TrainableLocalizer):
    """Learns an image of where emitters lie; pixels above a half are localizations."""

    def __init__(self, scales: Scales) -> None:
        super().__init__(scales)
        self.first = nn.Conv2d(scales.planes, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.middle = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 1, 1)

    def image(self, photons: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(photons / 100)))
        return self.last(torch.relu(self.middle(x)))[:, 0]

    def batch_loss(self, batch: Batch) -> Tensor:
        found = self.image(batch.photons.flatten(0, 1))
        wanted, e, (y_nm, x_nm) = torch.zeros_like(found), batch.emitters, self.scales.pixel_size_nm
        wanted[e.frame, (e.y_nm / y_nm).long(), (e.x_nm / x_nm).long()] = 1
        return (found - wanted).square().mean()

    def localize_batch(self, batch: Batch) -> Localizations:
        return self.forward(Frames(batch.photons.flatten(0, 1), self.scales.pixel_size_nm))

    def hidden_weights(self) -> list[nn.Parameter]:
        return [self.middle.weight]

    @torch.no_grad()
    def forward(self, frames: Frames, keep: tuple[int, int] | None = None, tile_px: int = 256) -> Localizations:
        frame, row, column = torch.nonzero(self.image(frames.photons) > 0.5, as_tuple=True)
        y_nm, x_nm = frames.pixel_size_nm
        columns = {"frame": frame + frames.first_frame, "x_nm": (column + 0.5) * x_nm, "y_nm": (row + 0.5) * y_nm}
        return Localizations({name: values.numpy() for name, values in columns.items()}).sort()


class StillSettings(LocalizerSettings):
    """A method without weights."""

    kind: Literal["still"] = "still"
    needs_training: ClassVar[bool] = False

    def build(self, scales: Scales) -> Localizer:
        """Make the localizer."""
        return Still(scales)


class Still(Localizer):
    """Finds nothing."""

    def forward(self, frames: Frames, keep: tuple[int, int] | None = None, tile_px: int = 256) -> Localizations:
        return Localizations.empty()


@pytest.fixture(autouse=True)
def shelf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOCALIZERS, "sections", dict(LOCALIZERS.sections))
    for section in (SpotsSettings, StillSettings):
        LOCALIZERS.add(section)


@pytest.fixture
def document(tiny_document: dict[str, Any]) -> dict[str, Any]:
    training = {**tiny_document["training"], "steps": 60, "batch_size": 4}
    return {**tiny_document, "localizer": {"kind": "spots"}, "training": training}


def trainer(document: dict[str, Any], checkpoint: Path | None = None) -> Trainer:
    experiment = Experiment.from_json(document)
    localizer = experiment.build_localizer()
    assert isinstance(localizer, TrainableLocalizer)
    return Trainer(localizer, experiment.build_simulator(localizer), experiment.training, checkpoint=checkpoint)


def same(a: nn.Module, b: nn.Module) -> bool:
    other = b.state_dict()
    return all(torch.equal(value, other[name]) for name, value in a.state_dict().items())


def test_it_learns_and_is_scored(document: dict[str, Any]) -> None:
    t = trainer(document)
    with torch.no_grad():
        before = t.averaged.batch_loss(t.validation[0]).item()
    t.run()
    with torch.no_grad():
        assert t.averaged.batch_loss(t.validation[0]).item() < 0.5 * before
    assert t.score is not None
    assert 0 < t.score.jaccard <= 100
    assert t.score.rmse_axial_nm is None


def test_without_depth_of_its_own_it_is_scored_in_2d(document: dict[str, Any], tmp_path: Path) -> None:
    deep = {"kind": "astigmatic", "width_nm": 130.0, "focus_a_nm": 200.0, "focus_b_nm": -200.0, "depth_nm": 400.0, "roi_px": 9}
    document |= {"psf": deep, "specimen": {**document["specimen"], "z_nm": [-300.0, 300.0]}}
    t = trainer(document)
    assert t.localizer.scales.z_unit_nm == 300
    first = score(t.localizer, t.validation)  # finds everything or nothing
    assert first.rmse_axial_nm is None
    t.run()
    assert t.score is not None
    assert t.score.rmse_axial_nm is None
    assert t.score.jaccard > 0
    t.localizer.get_parameter("last.bias").data.fill_(-1e6)
    nothing = score(t.localizer, t.validation)
    assert (nothing.jaccard, nothing.rmse_axial_nm) == (0, None)


def test_muon_takes_the_hidden_weights_alone(document: dict[str, Any]) -> None:
    t = trainer(document)
    rest, hidden = ([w for group in o.param_groups for w in group["params"]] for o in t.optimizers)
    assert [w is t.localizer.get_parameter("middle.weight") for w in hidden] == [True]
    assert len(rest) + 1 == len(list(t.localizer.parameters()))
    t = trainer({**document, "training": {**document["training"], "optimizer": "adamw"}})
    assert [len(o.param_groups[0]["params"]) for o in t.optimizers] == [len(list(t.localizer.parameters()))]


def test_running_statistics_are_kept_with_the_averaged_weights(document: dict[str, Any]) -> None:
    t = trainer(document)
    for _ in range(3):
        assert t._train_step() is None
    assert t.localizer.get_buffer("norm.num_batches_tracked").item() == 3
    assert torch.equal(t.averaged.get_buffer("norm.running_mean"), t.localizer.get_buffer("norm.running_mean"))
    t.averaged.localize_batch(t.validation[0])  # validation does not move them
    assert t.averaged.get_buffer("norm.num_batches_tracked").item() == 3
    assert not torch.equal(t.averaged.get_parameter("last.weight"), t.localizer.get_parameter("last.weight"))


def test_going_on_equals_never_having_stopped(document: dict[str, Any], tmp_path: Path) -> None:
    document["training"]["steps"] = 10
    whole = trainer(document)
    whole.run()
    killed = trainer(document, tmp_path / "a.checkpoint")
    killed.run(stop=lambda: killed.step >= 4)
    again = trainer(document, tmp_path / "a.checkpoint")
    assert again.resume()
    assert again.step == 4
    again.run()
    assert same(again.localizer, whole.localizer)
    assert again.loss == whole.loss


def test_the_verb_trains_it_into_a_model_file(document: dict[str, Any], tmp_path: Path) -> None:
    document["training"]["steps"] = 3
    model = train(Experiment.from_json(document), tmp_path / "spots.safetensors", device="cpu")
    assert isinstance(model.localizer, Spots)
    assert same(load_model(tmp_path / "spots.safetensors").localizer, model.localizer)


@pytest.mark.parametrize("says_uncertainty", [True, False])
def test_a_finished_model_without_sigma_is_not_trained_anew(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says_uncertainty: bool
) -> None:
    document["training"]["steps"] = 2
    out = tmp_path / "spots.safetensors"
    model = train(Experiment.from_json(document), out, device="cpu")
    assert model.localizer.correction is None
    if not says_uncertainty:  # as of an older version
        save_model(out, replace(model, record={k: v for k, v in model.record.items() if k != "uncertainty"}))
    monkeypatch.setattr("denseloc.training.Trainer", lambda *_: pytest.fail("it trains"))
    again = train(Experiment.from_json(document), out, device="cpu", resume=True)
    assert same(again.localizer, model.localizer)


class ToldSpotsSettings(SpotsSettings):
    """Spots that are told the conditions, and whose key ``psf`` means something else."""

    kind: Literal["told"] = "told"  # type: ignore[assignment]
    psf: str | None = None

    @property
    def is_told(self) -> bool:
        return True


def test_a_section_says_itself_what_its_method_is_given(document: dict[str, Any]) -> None:
    LOCALIZERS.add(ToldSpotsSettings)
    various = {**document, "camera": {"kind": "various"}}
    for kind, told in (("spots", False), ("told", True), ("still", True)):
        experiment = Experiment.from_json({**various, "localizer": {"kind": kind}})
        localizer = experiment.build_localizer()
        assert (experiment.build_simulator(localizer).reference is None) == told
        assert serves_many(experiment) == told
    assert experiment._with_psf(ToldSpotsSettings()) == ToldSpotsSettings()  # it does not fit a PSF
    assert experiment._with_psf(SingleSettings()).psf == experiment.psf
    assert [DecodeSettings(conditioned=told).is_told for told in (False, True)] == [False, True]


def test_what_has_no_weights_needs_no_training(document: dict[str, Any], tmp_path: Path) -> None:
    still = Experiment.from_json({**document, "localizer": {"kind": "still"}})
    with pytest.raises(TrainingError, match="a localizer of kind 'still' needs no training"):
        train(still, tmp_path / "a.safetensors", device="cpu")
