"""``localize --image`` writes what the network itself shows, and ``render`` draws it."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import tifffile

from denseloc import pipeline, verbs
from denseloc.errors import Interrupted, ModelError, OutputError
from denseloc.journal import Journal
from denseloc.picture_sum import PictureSum
from denseloc.render.picture import read_tiff

from .conftest import untrained

BARE = ("--no-picture", "--no-report")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    storm = {"kind": "deep_storm", "preset": "tiny", "enlarged": 4}
    return untrained(tmp_path_factory.mktemp("image") / "storm.safetensors", localizer=storm)


@pytest.fixture(scope="module")
def whole(place, model, tmp_path_factory):
    """The image of an undisturbed run."""
    folder = tmp_path_factory.mktemp("whole")
    pipeline.localize(place.movie, folder / "whole.parquet", model=model, image=folder / "whole.tif")
    return tifffile.imread(folder / "whole.tif")


@pytest.fixture(scope="module")
def in_blocks(place, model, tmp_path_factory):
    """The image of an undisturbed run in blocks of five frames."""
    folder = tmp_path_factory.mktemp("blocks")
    pipeline.localize(place.movie, folder / "b.parquet", model=model, image=folder / "b.tif", block_frames=5)
    return tifffile.imread(folder / "b.tif")


def test_image_and_its_drawing(command, place, model, tmp_path):
    out, image, drawn = tmp_path / "t.parquet", tmp_path / "sum.tif", tmp_path / "sum.png"
    answer = command("localize", place.movie, "-o", out, "--model", model, "--image", image, *BARE)
    assert answer.code == 0, answer
    assert f"image    {image}" in answer.out
    assert {path.name for path in tmp_path.iterdir()} == {"t.parquet", "sum.tif"}
    with tifffile.TiffFile(image) as file:
        assert file.pages[0].shape == (96, 80)
        assert file.pages[0].dtype == np.float32
        assert file.imagej_metadata["unit"] == "nm"
        assert file.pages[0].tags["XResolution"].value == (1, 25)
    assert read_tiff(image).pixel_size_nm == (25.0, 25.0)
    answer = command("render", image, "-o", drawn, "--colormap", "inferno", "--no-scale-bar")
    assert f"picture  {drawn}   80 x 96 pixels of 25 nm" in answer.out
    assert PIL.Image.open(drawn).size == (80, 96)


def test_blocks_and_regions_do_not_change_the_image(place, model, tmp_path, whole):
    assert whole.max() > 0
    more = {"model": model, "image": tmp_path / "a.tif"}
    pipeline.localize(place.movie, tmp_path / "a.parquet", block_frames=7, **more)
    np.testing.assert_allclose(tifffile.imread(tmp_path / "a.tif"), whole, atol=1e-4)
    pipeline.localize(place.movie, tmp_path / "a.parquet", roi_px=(4, 6, 16, 12), **more)
    part = read_tiff(tmp_path / "a.tif")
    assert part.pixels.shape == (64, 48)
    assert part.origin_nm == (400.0, 600.0)


@pytest.mark.parametrize(("lost", "begins_at"), [(0, 20), (1, 15), (2, 0)])
def test_a_resumed_run_gives_the_same_image(place, model, tmp_path, whole, monkeypatch, lost, begins_at):
    """It goes on behind the last sum that can be read; the finished blocks behind that are worked anew."""
    monkeypatch.setattr("denseloc.picture_sum.SECONDS", 0.0)
    out, image = tmp_path / "a.parquet", tmp_path / "a.tif"
    asked = iter((0, 0, 0, 15))
    more = {"model": model, "image": image, "block_frames": 5}
    with pytest.raises(Interrupted, match="goes on"):
        pipeline.localize(place.movie, out, stop=lambda: next(asked), **more)
    assert not image.exists()
    kept = sorted((tmp_path / "a.parquet.parts").glob("picture-*"), reverse=True)
    assert [path.name for path in kept] == ["picture-0000000020.npy", "picture-0000000015.npy"]
    for path in kept[:lost]:
        path.write_bytes(b"damaged")
    seen = []
    pipeline.localize(place.movie, out, resume=True, report=lambda progress: seen.append(progress.frames), **more)
    assert seen[0] == begins_at + 5
    np.testing.assert_allclose(tifffile.imread(image), whole, atol=1e-4)
    assert not (tmp_path / "a.parquet.parts").exists()


def sums(folder):
    return sorted(int(path.stem.split("-")[1]) for path in folder.glob("*.parts/picture-*.npy"))


def test_the_sum_is_written_now_and_then_and_at_an_interruption(place, model, tmp_path, in_blocks):
    """Blocks are many and sums are large: a run that is let alone for less than a minute writes none."""
    more, asked, during = {"model": model, "image": tmp_path / "a.tif", "block_frames": 5}, iter((0, 0, 0, 15)), []
    with pytest.raises(Interrupted):
        pipeline.localize(
            place.movie,
            tmp_path / "a.parquet",
            stop=lambda: next(asked),
            report=lambda _: during.append(sums(tmp_path)),
            **more,
        )
    assert during == [[], [], [], []]
    assert sums(tmp_path) == [20]
    pipeline.localize(place.movie, tmp_path / "a.parquet", resume=True, **more)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), in_blocks)


@pytest.mark.parametrize(
    ("ended", "kept", "begins_at"),
    [("before the sum", [10, 15], 15), ("before the journal", [10, 15], 10), ("at once, much later", [10], 10)],
)
def test_a_run_that_is_ended_within_a_block_goes_on_exactly(place, model, tmp_path, monkeypatch, in_blocks, ended, kept, begins_at):
    """A block counts when sum and journal both have it; of the sums that were kept, the one that the journal reaches is taken."""
    out, image = tmp_path / "a.parquet", tmp_path / "a.tif"
    more = {"model": model, "image": image, "block_frames": 5}

    class Sum(PictureSum):
        def add(self, picture, span):
            if ended == "before the sum" and span[0] == 15:
                raise KeyboardInterrupt
            self.seconds = 0.0 if span[0] == 5 else 1e9
            super().add(picture, span)

        def __exit__(self, *how):
            if ended != "at once, much later":
                super().__exit__(*how)

    def add(self, table, start, *rest):
        if start == {"before the journal": 10, "at once, much later": 20}.get(ended):
            raise KeyboardInterrupt
        original(self, table, start, *rest)

    original = Journal.add
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "PictureSum", Sum)
        patch.setattr(Journal, "add", add)
        with pytest.raises(KeyboardInterrupt):
            pipeline.localize(place.movie, out, **more)
    assert sums(tmp_path) == kept
    seen = []
    pipeline.localize(place.movie, out, resume=True, report=lambda progress: seen.append(progress.frames), **more)
    assert seen[0] == begins_at + 5
    np.testing.assert_array_equal(tifffile.imread(image), in_blocks)


def test_an_image_that_memory_does_not_hold_is_told_before_the_work(place, model, tmp_path, monkeypatch):
    monkeypatch.setattr("denseloc.picture_sum.free_bytes", lambda device: 50_000.0)
    with pytest.raises(
        OutputError, match=r"80 x 96 pixels need 6\.14e-05 GB of memory, 5e-05 GB are free; localize a region"
    ) as caught:
        pipeline.localize(place.movie, tmp_path / "a.parquet", model=model, image=tmp_path / "a.tif")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    pipeline.localize(place.movie, tmp_path / "a.parquet", model=model, image=tmp_path / "a.tif", roi_px=(0, 0, 16, 16))


def test_an_image_is_not_added_to_a_run_without(place, model, tmp_path):
    out, asked = tmp_path / "a.parquet", iter((0, 15))
    with pytest.raises(Interrupted):
        pipeline.localize(place.movie, out, model=model, block_frames=5, stop=lambda: next(asked))
    with pytest.raises(OutputError, match="left by a run with another movie, model or setting"):
        pipeline.localize(place.movie, out, model=model, image=tmp_path / "a.tif", resume=True)


def test_what_gives_no_image_says_so(place, tmp_path):
    with pytest.raises(ModelError, match="method 'decode' gives a table and no image of its own; leave the image") as caught:
        pipeline.localize(place.movie, tmp_path / "a.parquet", model=place.model, image=tmp_path / "a.tif")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_impossible_images(place, model, tmp_path):
    for name, words in (("a.png", "suffix '.png' is not that of a TIFF"), ("no/a.tif", "does not exist")):
        with pytest.raises(OutputError, match=words):
            pipeline.localize(place.movie, tmp_path / "a.parquet", model=model, image=tmp_path / name)
    with pytest.raises(OutputError, match="this is the movie"):
        pipeline.localize(place.movie, tmp_path / "a.parquet", model=model, image=place.movie)


def test_images_that_cannot_be_drawn(tmp_path):
    image = tmp_path / "a.tif"
    tifffile.imwrite(image, np.ones((8, 9), np.float32))
    with pytest.raises(OutputError, match="does not say its pixel size in nm; give it"):
        verbs.render(image)
    assert verbs.render(image, pixel_size_nm=20).pixel_size_nm == (20, 20)
    with pytest.raises(OutputError, match="an image is drawn as it is; leave mode"):
        verbs.render(image, mode="histogram", pixel_size_nm=20)
    tifffile.imwrite(image, np.ones((4, 8, 9), np.float32))
    with pytest.raises(OutputError, match="4 x 8 x 9 values; expected an image of one plane"):
        verbs.render(image)
    image.write_text("no image")
    with pytest.raises(OutputError, match="not a readable TIFF"):
        verbs.render(image)


def test_a_finished_table_says_that_its_image_is_there_too(place, model, tmp_path, monkeypatch):
    """A run that dies between both files must not leave the image of an earlier run beside a table that is called finished."""
    out, image = tmp_path / "a.parquet", tmp_path / "a.tif"
    pipeline.localize(place.movie, out, model=model, image=image, frames=(0, 20))
    earlier = tifffile.imread(image)
    write = PictureSum.write

    def dies(*_):
        raise KeyboardInterrupt

    for place_of_death in ("write_table", "PictureSum.write"):
        with monkeypatch.context() as patch:
            patch.setattr(f"denseloc.pipeline.{place_of_death}", dies)
            with pytest.raises(KeyboardInterrupt):
                pipeline.localize(place.movie, out, model=model, image=image, frames=(0, 40), resume=True)
    assert PictureSum.write is write
    pipeline.localize(place.movie, out, model=model, image=image, frames=(0, 40), resume=True)
    pipeline.localize(place.movie, tmp_path / "b.parquet", model=model, image=tmp_path / "b.tif", frames=(0, 40))
    np.testing.assert_array_equal(tifffile.imread(image), tifffile.imread(tmp_path / "b.tif"))
    assert not np.array_equal(tifffile.imread(image), earlier)
