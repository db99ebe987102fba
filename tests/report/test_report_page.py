"""The page: whole, self-contained, and there for every kind of table."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import PIL.Image
import pytest

from denseloc.data import Image, Localizations, Provenance
from denseloc.errors import OutputError
from denseloc.evaluate.coverage import NOMINAL
from denseloc.report import FrameSample, judge, plots, summary, views, write_report
from denseloc.suitability import Suitability

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Checks that tags are balanced; collects images, ids, links and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open_tags, self.images, self.ids, self.links, self.text, self.tags = [], [], set(), [], "", set()
        self.feed(html)
        self.close()
        assert self.open_tags == []

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.tags.add(tag)
        if tag == "img":
            self.images.append(named)
        if "id" in named:
            self.ids.add(named["id"])
        if tag == "a":
            self.links.append(named["href"])
        if tag not in VOID:
            self.open_tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open_tags.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open_tags:
            self.text += " ".join(data.split()) + " "


def write(run, path, **changes) -> Page:
    arguments = {
        "table": run.table,
        "image": run.image,
        "movie": run.movie,
        "sample": run.samples[:1],
        "warnings": judge(run.table, run.samples, ranges=run.ranges),
        "run": {"command": "denseloc localize <fibres>.tif", "model": "test"},
        "title": "Fibres & haze",
        "ranges": run.ranges,
    }
    write_report(path, **(arguments | changes))
    html = path.read_text(encoding="utf-8")
    # nothing is loaded from elsewhere, nothing runs
    assert not re.findall(r"https?://", re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", html))
    assert not re.search(r"url\(|@import|<script|\son\w+=", html)
    page = Page(html)
    for image in page.images:
        assert image["alt"]
        assert image["src"].startswith("data:image/png;base64,")
        picture = PIL.Image.open(io.BytesIO(base64.b64decode(image["src"].split(",", 1)[1])))
        assert picture.width / picture.height == pytest.approx(int(image["width"]) / int(image["height"]), rel=0.01)
    assert all(link[1:] in page.ids for link in page.links)
    return page


@pytest.fixture(scope="module")
def full(simulator, tmp_path_factory):
    """A page of a sound run, and the run."""
    folder = tmp_path_factory.mktemp("full")
    run = simulator()
    page = write(run, folder / "report.html", sample=run.samples)
    assert list(folder.iterdir()) == [folder / "report.html"]
    return page, run


def test_a_full_run_shows_everything(full):
    page, _ = full
    for word in ("Nothing suspicious was found", "denseloc localize <fibres>.tif", "Fibres & haze", "0 to 299", "100 nm"):
        assert word in page.text
    for title in ("Photons", "Lateral uncertainty", "Axial uncertainty", "Axial position", "Background", "Probability"):
        assert title in page.text
    assert {"picture", "frames", "model", "distributions", "columns", "run", "conventions", "experiment"} <= page.ids
    assert len(page.images) == 1 + 3 + 9 + 1 + 9  # picture, overlays, triptychs, residuals, plots
    assert page.text.count("describes this frame to within its noise") == 3
    assert "column position from the outer corner of pixel (0, 0)" in page.text


def test_packed_arrays_of_the_experiment_are_cut_short(full):
    page, _ = full
    assert "(4004 characters)" in page.text
    assert "details" in page.tags


def test_the_median_in_the_page_is_that_of_the_table(full):
    page, run = full
    assert summary.number(float(np.median(run.table.photons.astype(float)))).replace("\u2009", " ") in page.text


def test_warnings_stand_on_top_and_are_escaped(run, tmp_path):
    page = write(run, tmp_path / "report.html", warnings=["<b>odd</b> & even", "second"], sample=[], movie=None)
    assert "2 things to look at" in page.text
    assert page.text.index("<b>odd</b> & even") < page.text.index("Super-resolved picture")
    assert "Nothing suspicious" not in page.text


def test_an_empty_table(run, tmp_path):
    empty = Localizations.empty(tuple(run.table.columns), run.table.provenance)
    blank = Image(np.zeros((48, 48), np.float32), (100.0, 100.0))
    page = write(run, tmp_path / "r.html", table=empty, image=blank, warnings=judge(empty))
    assert "The table is empty" in page.text
    assert "distributions" not in page.ids
    assert len(page.images) == 1 + 1 + 3 + 1
    page = write(
        run,
        tmp_path / "r.html",
        table=Localizations.empty(),
        image=blank,
        movie=None,
        sample=[],
        warnings=judge(Localizations.empty()),
    )
    assert len(page.images) == 1


def test_a_table_of_two_dimensions_without_sigma(run, tmp_path):
    names = ("frame", "x_nm", "y_nm", "photons")
    table = Localizations({name: run.table.columns[name] for name in names}, run.table.provenance)
    page = write(run, tmp_path / "r.html", table=table, warnings=judge(table, run.samples))
    assert "two-dimensional" in page.text
    assert "no uncertainties" in page.text
    assert "Axial position" not in page.text
    assert "sigma is not known" in page.text


def test_a_table_with_sigma_in_x_alone_and_missing_values(run, tmp_path):
    sigma = run.table.sigma_x_nm.copy()
    sigma[::3] = np.nan
    table = Localizations({"frame": run.table.frame, "x_nm": run.table.x_nm, "y_nm": run.table.y_nm, "sigma_x_nm": sigma})
    page = write(run, tmp_path / "r.html", table=table, warnings=judge(table))
    assert "sigma_x_nm (" in page.text


def test_one_frame_and_one_row(simulator, tmp_path):
    run = simulator(n_frames=1)
    page = write(run, tmp_path / "r.html")
    assert len(page.images) == 1 + 1 + 3 + 1 + 9
    one = run.table.select(np.array([0]))
    page = write(run, tmp_path / "r.html", table=one, warnings=judge(one), movie=None)
    assert "1 localization in this frame" in page.text


def test_no_movie_and_no_samples(run, tmp_path):
    page = write(run, tmp_path / "r.html", movie=None, sample=[])
    assert "were not compared with raw frames (the movie is not at hand): this page cannot say" in page.text
    assert "frames" not in page.ids
    assert "fibres.tif" in page.text
    columns = {name: values for name, values in run.table.columns.items() if name != "photons"}
    assert "the table tells no photons" not in page.text
    bare = replace(run, table=Localizations(columns, run.table.provenance))
    assert "raw frames (the table tells no photons" in write(bare, tmp_path / "b.html", sample=[]).text


@pytest.mark.parametrize("checked", [False, True])
def test_a_table_of_positions_alone_is_not_spoken_of_as_if_it_knew_more(run, tmp_path, checked):
    pulls = {"x_nm": {"n": 4000, "median": 0.0, "robust_sd": 1.04, "inside": list(NOMINAL)}}
    settings = {"uncertainty": {"simulated_frames": 1600, "pulls": pulls}}
    names = ("frame", "x_nm", "y_nm")
    bare = Localizations({name: run.table.columns[name] for name in names}, run.table.provenance).with_provenance(settings=settings)
    suits = Suitability((), quick=True) if checked else None
    page = write(run, tmp_path / "r.html", table=bare, sample=[], warnings=[], suits=suits)
    assert ("The model suits this movie, as far as a few frames show" in page.text) == checked
    assert ("cannot say whether the model describes the movie" in page.text) != checked
    assert ("but the model was not compared with the movie" in page.text) != checked
    assert ("as far as the table and a few frames show" in page.text) == checked
    assert "Light blue lies behind" not in page.text, "nothing that has a range is drawn"
    assert "sigma can be believed" not in page.text, "there is no sigma"
    unknown = write(run, tmp_path / "u.html", table=bare, sample=[], warnings=[], ranges=None)
    assert "limits are judged" not in unknown.text


def test_frames_of_the_movie_stand_in_for_samples(run, tmp_path):
    page = write(run, tmp_path / "r.html", sample=[], warnings=[])
    assert {"Frame 0", "Frame 149", "Frame 299"} <= {
        f"Frame {i['alt'].split()[2]}" for i in page.images if i["alt"].startswith("Raw")
    }
    assert "Nothing suspicious was found, but the model was not compared" in page.text


def test_samples_without_a_model_picture(run, tmp_path):
    bare = [replace(sample, expected=None, variance=None) for sample in run.samples[:1]]
    page = write(run, tmp_path / "r.html", sample=bare)
    assert "model" not in page.ids
    assert "frames" in page.ids


def test_samples_without_variance_are_measured_against_photon_noise(run, tmp_path):
    page = write(run, tmp_path / "r.html", sample=[replace(sample, variance=None) for sample in run.samples[:1]])
    assert "photon noise alone" in page.text


def test_a_big_table_is_thinned_and_the_page_says_so(run, tmp_path, monkeypatch):
    monkeypatch.setattr("denseloc.report.page.thin", lambda table: summary.thin(table, 1000))
    page = write(run, tmp_path / "r.html", sample=[], movie=None)
    assert re.search(r"use \d{3} random rows of 3 \d{3}", page.text)


def test_a_colour_picture_and_a_region_of_the_field(simulator, tmp_path):
    run = simulator(n_frames=40)
    table = run.table.shifted(dx_nm=6400.0, dy_nm=3200.0).with_provenance(shape_px=(256, 256))
    samples = [replace(s, origin_px=(32, 64)) for s in run.samples[:1]]
    colour = Image(np.random.default_rng(0).random((60, 90, 3)).astype(np.float32), (50.0, 50.0), (3200.0, 6400.0), (-500.0, 500.0))
    page = write(run, tmp_path / "r.html", table=table, image=colour, sample=samples)
    assert "Colour shows z" in page.text


def test_an_experiment_document_is_escaped(run, tmp_path):
    table = replace(
        run.table, provenance=Provenance(experiment={"note": "</pre><script>alert(1)</script>"}, settings={"threshold": 0.5})
    )
    page = write(run, tmp_path / "r.html", table=table, sample=[], movie=None)
    assert "alert(1)" in page.text
    assert '"threshold": 0.5' in page.text


def test_a_missing_folder_is_one_line(run, tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        write(run, tmp_path / "nowhere" / "r.html")


def test_the_same_run_gives_the_same_page(simulator, tmp_path):
    run = simulator(n_frames=20)
    write(run, tmp_path / "a.html")
    write(run, tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_binning_keeps_counts_and_place():
    image = Image(np.arange(35, dtype=np.float32).reshape(5, 7), (10.0, 20.0), (3.0, 4.0))
    small = views.binned(image, 4)
    assert small.pixels.shape == (3, 4)
    assert small.pixels.sum() == image.pixels.sum()
    assert small.pixels[0, 0] == 0 + 1 + 7 + 8
    assert (small.pixel_size_nm, small.origin_nm) == ((20.0, 40.0), (3.0, 4.0))
    assert views.binned(image, 7) is image


def test_the_busiest_window_holds_the_points():
    sample = FrameSample(0, np.zeros((300, 500)), origin_px=(10, 20))
    rows, columns = views.busiest(sample, np.array([420.0, 430.0, 30.0]), np.array([15.0, 20.0, 300.0]), 64)
    assert columns.start <= 400 < 410 < columns.stop
    assert columns.stop - columns.start == rows.stop - rows.start == 64
    assert rows.start == 0 or rows.start <= 5
    small = FrameSample(0, np.zeros((40, 90)))
    assert views.busiest(small, np.empty(0), np.empty(0), 64) == (slice(0, 40), slice(0, 90))


def test_crosses_sit_on_the_light(simulator, monkeypatch):
    """A localization over the only bright pixel is drawn at that pixel's place in the drawing."""
    photons = np.zeros((20, 30))
    photons[7, 12] = 100.0
    sample = FrameSample(4, photons, pixel_size_nm=(120.0, 100.0), origin_px=(50, 60))
    table = Localizations({"frame": [4, 5], "x_nm": [(60 + 12.5) * 100.0, 0.0], "y_nm": [(50 + 7.5) * 120.0, 0.0]})
    drawn = []
    monkeypatch.setattr(views, "plate_of_figure", lambda figure, *words: drawn.append((figure, words)))
    views.overlay(sample, table, "photons", 0)
    figure, words = drawn[0]
    axes = figure.axes[0]
    (cross,) = axes.lines
    assert np.allclose(cross.get_xydata(), [[72.5, 57.5]])
    picture = axes.images[0]
    left, right, bottom, top = picture.get_extent()
    row, column = np.unravel_index(np.argmax(picture.get_array()), photons.shape)
    assert left + (column + 0.5) * (right - left) / 30 == 72.5
    assert top + (row + 0.5) * (bottom - top) / 20 == 57.5
    assert "1 localization in" in words[-1]
    assert cross.get_markersize() == views.cross_points((slice(0, 20), slice(0, 30)))
    assert cross.get_path_effects(), "a dark rim, to be seen on bright spots"


def test_crosses_are_some_pixels_wide_and_never_tiny():
    sizes = [views.cross_points((slice(0, 9), slice(0, columns))) for columns in (20, 64, 96, 500)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[1] == pytest.approx(2.2 * 72 * 2.98 / 64)
    assert sizes[0] == 10
    assert sizes[-1] == 6


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (0, "0"), (0.0005, "0.0005"), (250, "250"), (2500, "2.5k"), (-0.2, "−0.2"), (3e6, "3M"), (2e10, "20G")],
)
def test_ticks_are_plain_numbers(value, text):
    assert plots.tick_label(value) == text


def test_half_a_localization_is_not_500_milli(monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "plate_of_figure", lambda figure, *words: drawn.append(figure))
    plots.counts_over_time(np.array([0, 1, 1, 0, 1]), 0)
    drawn[0].draw_without_rendering()
    labels = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert "0.5" in labels
    assert not any("m" in label for label in labels)
