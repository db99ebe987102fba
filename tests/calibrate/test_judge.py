"""What a calibration is worth: errors beside their bounds, the usable range, a word for each thing that spoils it, and refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bead_stacks import ASTIGMATIC, CAMERA, PIXEL_NM, PLACES, Z, bead_counts, bead_stack
from denseloc.calibrate.judge import Judgement, _usable, _warnings, dark_planes, judge, localize_beads, missed_share
from denseloc.calibrate.psf_fit import PSFFit, fit_half, fit_psf
from denseloc.calibrate.stack import BeadStack
from denseloc.camera import SCMOSSettings
from denseloc.errors import CalibrationError
from denseloc.optics import GaussianSettings

FLAT = GaussianSettings(width_nm=140, roi_px=21)


def fitted(*stacks: BeadStack, kind: str = "astigmatic", roi_px: int = 15, steps: int = 60) -> PSFFit:
    return fit_psf(stacks, PIXEL_NM, kind, roi_px=roi_px, map_step_nm=0, steps=steps)


@pytest.fixture(scope="module")
def sound() -> PSFFit:
    return fitted(bead_stack(photons=6000.0, z_nm=np.linspace(-500, 500, 21)))


@pytest.fixture(scope="module")
def judged(sound: PSFFit) -> Judgement:
    return judge(sound)


def test_a_sound_calibration_has_errors_near_their_bounds(judged: Judgement) -> None:
    assert judged.warnings == ()
    assert judged.chi2 == pytest.approx(1, abs=0.1)
    known = judged.z_rmse_and_bound_nm
    assert known is not None
    error, bound = known
    assert 5 < bound < 40
    assert 0.75 < error / bound < 1.3
    spots = judged.localizations
    assert spots.converged.mean() > 0.95
    good = spots.converged
    assert np.sqrt(np.mean(spots.x_nm[good] ** 2)) == pytest.approx(float(spots.crlb_x_nm[good].mean()), rel=0.35)
    assert np.sqrt(np.mean(spots.y_nm[good] ** 2)) == pytest.approx(float(spots.crlb_y_nm[good].mean()), rel=0.35)
    assert abs(np.mean(judged.z_bias_nm)) < 0.3 * error
    assert judged.depths_nm.shape == judged.z_rmse_nm.shape == judged.z_crlb_nm.shape == (21,)


def test_the_usable_range_of_a_sound_calibration_is_nearly_all(judged: Judgement) -> None:
    low, high = judged.usable_nm
    assert low <= -450
    assert high >= 450
    assert judged.usable.sum() >= 19
    assert np.abs(judged.wobble_nm).max() < 5


def test_the_usable_range_is_the_longest_run_of_good_depths() -> None:
    depths = np.arange(-500.0, 501.0, 50.0)
    bound = np.full(21, 8.0)
    error = np.where((depths >= -200) & (depths <= 300), 12.0, 90.0)
    assert _usable(depths, error, bound) == (-200, 300)
    error[depths == 50] = 500.0  # one bad depth is chance
    assert _usable(depths, error, bound) == (-200, 300)
    error[(depths >= 0) & (depths <= 100)] = 500.0  # three are not
    assert _usable(depths, error, bound) in ((-200, -50), (150, 300))
    assert _usable(depths, np.full(21, np.inf), bound) == (0, 0)
    assert _usable(depths, np.full(21, 60.0), np.full(21, 40.0)) == (-500, 500)  # near its bound, though large


def test_beyond_the_usable_range_nothing_is_promised(sound: PSFFit) -> None:
    """A PSF that is wrong from one depth on is usable up to there."""
    true = sound.build()
    spots = localize_beads(sound, true)
    assert spots.z_nm is not None
    far = spots.stage_nm > 150
    assert np.abs((spots.z_nm - spots.stage_nm)[spots.converged & ~far]).max() < 150
    patches = sound.fit.patches
    other = object.__new__(type(patches))
    other.__dict__ |= patches.__dict__
    other.values = patches.values.clone()
    middle = patches.values[(patches.z_nm.abs() < 1)]
    for bead in range(3):
        other.values[(patches.bead == bead) & (patches.z_nm > 150)] = middle[bead]
    fit = object.__new__(type(sound.fit))
    fit.__dict__ |= sound.fit.__dict__
    fit.patches = other
    result = judge(replace(sound, fit=fit))
    assert result.usable_nm[1] == pytest.approx(150, abs=60)
    assert any("z can be trusted from" in word for word in result.warnings) == (result.usable_nm[1] - result.usable_nm[0] < 500)


def test_a_half_that_was_held_out_judges(sound: PSFFit) -> None:
    rest, _ = fit_half(sound)
    result = judge(sound, rest)
    assert result.held_out
    assert len(result.depths_nm) == 10
    known = result.z_rmse_and_bound_nm
    assert known is not None
    assert known[0] / known[1] < 1.5


def test_a_psf_that_tells_no_depth_is_judged_sideways() -> None:
    found = fitted(bead_stack(FLAT, z_nm=Z[:6]), kind="gaussian", roi_px=11)
    result = judge(found)
    assert result.z_rmse_nm is result.z_crlb_nm is result.localizations.z_nm is result.z_rmse_and_bound_nm is None
    assert result.usable_nm == (Z[0], Z[5])
    assert all("z can be" not in word for word in result.warnings)


# ----------------------------------------------------------------------------------------------------------------------- warnings


def told(found: PSFFit, result: Judgement) -> str:
    """Give the one warning."""
    (word,) = _warnings(found, result)
    assert "\n" not in word
    return word


def test_few_beads(sound: PSFFit, judged: Judgement) -> None:
    bead = replace(sound.beads[0], reason="too dim")
    assert told(replace(sound, beads=(bead, *sound.beads[1:])), judged).startswith("2 beads only: ")
    assert told(replace(sound, beads=sound.beads[:1]), judged).startswith("1 bead only: ")


def test_saturated_beads(sound: PSFFit, judged: Judgement) -> None:
    bead = replace(sound.beads[0], reason="saturated: 4 pixels")
    assert told(replace(sound, beads=(*sound.beads, bead)), judged) == "1 bead is saturated and left out: lower the exposure"
    assert told(replace(sound, beads=(*sound.beads, bead, bead)), judged).startswith("2 beads are saturated")


def test_pixels_cut_off_below(sound: PSFFit, judged: Judgement) -> None:
    stack = replace(sound.stacks[0], zeros=0.34)
    assert told(replace(sound, stacks=(stack,)), judged).startswith("beads.tif: 34 % of the pixels are exactly 0")


def test_a_patch_that_is_too_small() -> None:
    found = fitted(bead_stack(), roi_px=9)
    words = judge(found).warnings
    assert any("in the outermost two pixels of the patch: enlarge roi_px (--roi-px), which is 9" in word for word in words)


def test_a_stage_that_drifts() -> None:
    planes = [bead_counts(z_nm=Z[i : i + 1], places=[(x + 25 * i, y) for x, y in PLACES], seed=i)[0] for i in range(len(Z))]
    found = fitted(BeadStack.of(np.stack(planes), Z, CAMERA.build()), kind="spline", roi_px=17, steps=30)
    result = judge(found)
    assert any("the beads move sideways by 1" in word for word in result.warnings)
    middle = np.abs(result.depths_nm) <= 400
    slope = np.polyfit(result.depths_nm[middle], result.wobble_nm[middle, 0], 1)[0]
    assert slope == pytest.approx(25 / 100, rel=0.2)
    assert np.abs(result.wobble_nm[:, 1]).max() < 25


@pytest.mark.parametrize(
    ("electrons", "words"), [(2.0, "or the camera's gain is wrong"), (0.2, "electrons per count are too small")]
)
def test_a_wrong_gain(electrons: float, words: str) -> None:
    camera = SCMOSSettings(offset_counts=100, electrons_per_count=electrons, read_noise_electrons=1.5).build()
    found = fitted(BeadStack.of(bead_counts(photons=10_000.0), Z, camera))
    assert words in told(found, judge(found))


def test_a_spline_that_fits_the_noise_of_one_bead_does_not_blame_the_camera() -> None:
    found = fitted(bead_stack(places=PLACES[:1]), kind="spline", roi_px=17, steps=90)
    assert found.chi2 < 0.7
    assert told(found, judge(found)).startswith("1 bead only")
    rest, _ = fit_half(fitted(bead_stack(places=PLACES[:1], z_nm=np.linspace(-600, 600, 21)), kind="spline", roi_px=17, steps=30))
    assert not any("less noise" in word for word in judge(found, rest).warnings)


def test_a_focus_that_light_does_not_allow(sound: PSFFit, judged: Judgement) -> None:
    assert "deeper than light allows" in told(replace(sound, psf=sound.psf.model_copy(update={"depth_nm": 4000.0})), judged)
    shallow = replace(sound, psf=sound.psf.model_copy(update={"depth_nm": 60.0}))
    assert any("shallower than light allows" in word for word in _warnings(shallow, judged))


def test_a_wrong_z_step_is_seen_in_the_depth_of_focus() -> None:
    found = fitted(BeadStack.of(bead_counts(), Z / 20, CAMERA.build()), steps=400)
    assert any("is the z step right?" in word for word in _warnings(found, judge(found)))


def test_a_short_usable_range(sound: PSFFit, judged: Judgement) -> None:
    assert (
        told(sound, replace(judged, usable_nm=(-100.0, 200.0)))
        == "z can be trusted from -100 to 200 nm only, of the 1000 nm that were recorded"
    )
    flat = replace(judged, usable_nm=(-100.0, 200.0), z_rmse_nm=None)
    assert told(sound, flat).startswith("x and y can be trusted from -100")


# ----------------------------------------------------------------------------------------------------------------------- refusals


def refused(found: PSFFit, words: str) -> None:
    with pytest.raises(CalibrationError, match=words) as error:
        judge(found)
    assert "\n" not in str(error.value)


def test_a_psf_that_misses_the_light_is_refused() -> None:
    found = fitted(bead_stack(), kind="gaussian")
    assert missed_share(found) > 0.2
    refused(found, "misses 2. % of the beads' light .chi2 .*--kind spline")


def test_what_a_good_psf_misses_is_nothing(sound: PSFFit) -> None:
    assert missed_share(sound) < 0.02


@pytest.mark.parametrize(("kind", "reach"), [("astigmatic", 600), ("spline", 600), ("spline", 400)])
def test_depths_that_cannot_be_told_are_refused(kind: str, reach: float) -> None:
    found = fitted(
        bead_stack(FLAT, z_nm=np.linspace(-reach, reach, 13), seed=1),
        kind=kind,
        roi_px=13,
        steps=80 if kind == "astigmatic" else 20,
    )
    refused(found, "depths cannot be told: .* for a 2D microscope .*--kind gaussian")


def test_fits_that_fail_are_refused(sound: PSFFit, monkeypatch: pytest.MonkeyPatch) -> None:
    spots = localize_beads(sound)
    failing = replace(spots, converged=np.arange(len(spots.converged)) % 3 == 0)
    monkeypatch.setattr("denseloc.calibrate.judge.localize_beads", lambda _: failing)
    refused(sound, "does not find its own beads again: 67 % of the fits fail")


def test_another_psf_can_localize_the_beads(sound: PSFFit) -> None:
    moved = ASTIGMATIC.model_copy(update={"focus_a_nm": -120.0, "focus_b_nm": 340.0, "roi_px": sound.psf.roi_px}).build(PIXEL_NM)
    spots = localize_beads(sound, moved)
    middle = spots.converged & (np.abs(spots.stage_nm) < 300)
    assert np.median((spots.z_nm - spots.stage_nm)[middle]) == pytest.approx(100, abs=10)


@pytest.mark.parametrize("kind", ["astigmatic", "spline"])
def test_planes_without_light_are_named(kind: str) -> None:
    stack = bead_stack()
    photons = stack.photons.clone()
    photons[4:6] = 8.0
    found = fitted(replace(stack, photons=photons), kind=kind, roi_px=11, steps=30)
    refused(found, r"beads.tif: the beads are dark in 2 of 13 planes \(4, 5; counted from 0")


def test_a_good_stack_has_no_dark_planes(sound: PSFFit) -> None:
    assert dark_planes(sound) == ""


def test_sizes_that_light_does_not_have(sound: PSFFit, judged: Judgement) -> None:
    wide = replace(sound, psf=sound.psf.model_copy(update={"width_nm": 1400.0}))
    assert "1400 nm wide in focus, expected 60 to 600 nm" in " ".join(_warnings(wide, judged))
