from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from denseloc.camera import SCMOSSettings
from denseloc.description import parse
from denseloc.errors import CameraError, DocumentError

NUMBERS = {"offset_counts": 100.0, "electrons_per_count": 0.46, "read_noise_electrons": 1.6}


def maps(rows: int = 12, columns: int = 17) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack(
        [rng.normal(100, 5, (rows, columns)), rng.uniform(0.3, 0.6, (rows, columns)), rng.gamma(2, 10, (rows, columns))]
    ).astype(np.float32)


def test_each_pixel_has_its_own_offset_gain_and_noise(generator: torch.Generator) -> None:
    table = maps()
    camera = SCMOSSettings(pixel_maps=table).build()
    counts = camera.sample(torch.full((20_000, 12, 17), 30.0), generator)
    mean = torch.from_numpy(table[0] + 30 / table[1])
    variance = torch.from_numpy(30 / table[1] ** 2 + table[2]) + 1 / 12
    torch.testing.assert_close(counts.mean(0), mean, rtol=0.0, atol=0.6)
    torch.testing.assert_close(counts.var(0), variance, rtol=0.06, atol=0.0)
    photons = camera.to_photons(counts)
    assert photons.mean().item() == pytest.approx(30.0, abs=0.02)
    torch.testing.assert_close(photons.var(0), 30 + camera.noise_variance((12, 17)), rtol=0.06, atol=0.0)


def test_numbers_equal_constant_maps(generator: torch.Generator) -> None:
    flat = np.stack([np.full((4, 4), v, np.float32) for v in (100.0, 0.46, (1.6 / 0.46) ** 2)])
    a, b = SCMOSSettings(**NUMBERS).build(), SCMOSSettings(pixel_maps=flat).build()
    photons = torch.full((3, 4, 4), 25.0)
    first = a.sample(photons, torch.Generator().manual_seed(3))
    second = b.sample(photons, torch.Generator().manual_seed(3))
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(a.log_prob(first, photons), b.log_prob(first, photons))


def test_random_crop_keeps_maps_and_frames_together(generator: torch.Generator) -> None:
    table = maps()
    table[0] = np.arange(12 * 17).reshape(12, 17) * 100
    camera = SCMOSSettings(pixel_maps=table).build()
    corners = set()
    for _ in range(30):
        part = camera.random_crop((5, 1, 6, 8), generator)
        assert part.offset.shape == (6, 8)
        corners.add(float(part.offset[0, 0]))
        photons = part.to_photons(part.sample(torch.full((50, 1, 6, 8), 9.0), generator))
        assert photons.mean().item() == pytest.approx(9.0, abs=1.0)
    assert len(corners) > 15
    assert camera.random_crop((12, 17), generator).offset.shape == (12, 17)


def test_frames_of_another_size_are_refused(generator: torch.Generator) -> None:
    camera = SCMOSSettings(pixel_maps=maps()).build()
    with pytest.raises(CameraError, match="12x17 px, the frames 6x8 px"):
        camera.sample(torch.ones(1, 6, 8), generator)
    with pytest.raises(CameraError, match="not inside the camera's maps of 12 x 17"):
        camera.crop(8, 0, 6, 6)


@pytest.mark.parametrize("photons", [2.0, 20.0, 300.0])
def test_log_prob_is_near_the_exact_convolution(photons: float) -> None:
    camera = SCMOSSettings(**NUMBERS).build()
    counts = np.arange(0.0, 1200.0)
    n = np.arange(int(photons + 10 * photons**0.5 + 20))
    read = stats.norm((counts[:, None] - 100) * 0.46, 1.6)
    exact = (stats.poisson(photons).pmf(n) * read.pdf(n) * 0.46).sum(1)
    found = camera.log_prob(torch.from_numpy(counts), torch.tensor(photons)).exp().numpy()
    assert np.abs(found - exact).sum() < 0.08  # an approximation; worst at little light
    assert found.sum() == pytest.approx(1.0, abs=0.02)


def test_log_prob_has_the_gradient_of_its_values() -> None:
    camera = SCMOSSettings(**NUMBERS).build().double()
    photons = torch.tensor([0.5, 4.0, 90.0], dtype=torch.float64, requires_grad=True)
    counts = torch.tensor([101.0, 108.0, 280.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: camera.log_prob(counts, p), (photons,))


def test_maps_can_stand_in_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "maps.npy", maps())
    settings = parse(SCMOSSettings, {"pixel_maps": str(tmp_path / "maps.npy")}, "camera.toml")
    again = SCMOSSettings.model_validate_json(settings.model_dump_json())
    np.testing.assert_array_equal(again.pixel_maps, maps())


def test_wrong_settings_are_named() -> None:
    bad = maps()
    bad[1, 3, 3] = 0
    for values, words in [
        ({"offset_counts": 100.0}, "needs electrons_per_count, read_noise_electrons"),
        ({**NUMBERS, "pixel_maps": maps()}, "drop one of them"),
        ({"pixel_maps": maps()[:2]}, r"shape \(3, rows, columns\)"),
        ({"pixel_maps": bad}, "electrons per count, must be above 0 everywhere; 1 of 204 pixels are not"),
        ({"pixel_maps": "nowhere.npy"}, "cannot read the array file nowhere.npy"),
        ({**NUMBERS, "electrons_per_count": -1.0}, "the inverse of counts per electron"),
    ]:
        with pytest.raises(DocumentError, match=words):
            parse(SCMOSSettings, values, "camera.toml")


@pytest.mark.parametrize("from_file", [False, True])
@pytest.mark.parametrize(
    ("index", "value", "words"),
    [
        (
            0,
            np.nan,
            "map 0, offset in counts, must be finite everywhere; 3 of 204 pixels are not .row 2, column 3 is nan.; calibrate",
        ),
        (0, -np.inf, "map 0, offset in counts, must be finite"),
        (1, np.inf, "map 1, electrons per count, must be finite everywhere; 3 of 204"),
        (1, np.nan, "map 1, electrons per count, must be finite everywhere; 3 of 204"),
        (1, 0.0, "map 1, electrons per count, must be above 0 everywhere; 3 of 204 pixels are not .row 2, column 3 is 0."),
        (1, -0.5, "map 1, electrons per count, must be above 0 everywhere; 3 of 204"),
        (2, -0.1, "map 2, variance in counts.2, must be at or above 0 everywhere; 3 of 204"),
        (2, np.nan, "map 2, variance in counts.2, must be finite everywhere"),
        (2, 1e300, "map 2, variance in counts.2, must be finite everywhere; 3 of 204 pixels are not .row 2, column 3 is inf."),
    ],
)
def test_pixels_that_no_camera_has_are_counted(tmp_path: Path, index: int, value: float, words: str, from_file: bool) -> None:
    bad = maps().astype(np.float64)
    bad[index, 2, 3:6] = value
    np.save(tmp_path / "maps.npy", bad)
    with pytest.raises(DocumentError, match=words) as error:
        parse(SCMOSSettings, {"pixel_maps": str(tmp_path / "maps.npy") if from_file else bad}, "camera.toml")
    assert "\n" not in str(error.value)


def test_maps_without_pixels() -> None:
    with pytest.raises(DocumentError, match="holds no pixels"):
        parse(SCMOSSettings, {"pixel_maps": np.zeros((3, 0, 4))}, "camera.toml")


def test_dead_offsets_and_noiseless_pixels_are_possible() -> None:
    table = maps()
    table[0, 0, 0], table[2, 0, 0] = -3.0, 0.0
    assert SCMOSSettings(pixel_maps=table).build().offset[0, 0] == -3
