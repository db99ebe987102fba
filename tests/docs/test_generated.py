"""The committed pages are those that docs/generate.py makes, and their examples are read by what they explain."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

from denseloc.experiment import Experiment
from denseloc.optics_document import OpticsDocument
from denseloc.verbs.optics_checks import check_modulator, check_sampling
from denseloc.verbs.optics_design import pupils_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "benchmarks" / "LOG.md"]
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(#[^)\s]+)?\)")


@pytest.fixture(scope="module")
def generate():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs"))
        yield importlib.import_module("generate")


@pytest.fixture(scope="module")
def pages(generate):
    return generate.generated()


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "docs/experiment.md",
        "docs/experiment.schema.json",
        "docs/formats.md",
        "docs/design.md",
        "docs/design-optics.md",
        "docs/measured.md",
        "docs/python.md",
    ],
)
def test_committed_page_is_the_generated_one(pages, name):
    assert (ROOT / name).read_text(encoding="utf-8") == pages[ROOT / name], f"{name} is out of date; run 'make docs'"


def test_the_example_document_is_an_experiment(pages, tmp_path):
    example = re.search(r"```toml\n(.*?)```", pages[ROOT / "docs/experiment.md"], re.DOTALL)
    assert example is not None
    (tmp_path / "experiment.toml").write_text(example[1])
    experiment = Experiment.from_file(tmp_path / "experiment.toml")
    assert experiment.pixel_size_nm == (100.0, 100.0)


def test_the_example_of_an_optics_design_is_one(tmp_path):
    example = re.search(r"```toml\n(.*?)```", (ROOT / "docs/design-optics.md").read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    (tmp_path / "optics.toml").write_text(example[1])
    document = OpticsDocument.from_file(tmp_path / "optics.toml")
    assert document.design.modulator is not None
    assert check_modulator(document) is None


def test_the_examples_of_colours_are_documents(tmp_path):
    whole, measured, design = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/colour.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "colours.toml").write_text(whole)
    assert Experiment.from_file(tmp_path / "colours.toml").build_psf().channels == 2
    (tmp_path / "design.toml").write_text(whole + design)
    document = OpticsDocument.from_file(tmp_path / "design.toml")
    assert (document.wavelengths_nm, document.pupil.wavelength_nm) == ((590.0, 680.0), 590.0)
    for pupil in pupils_of(document.build_psf()):
        assert check_sampling(document, pupil) is None
    rest = whole[: whole.index("[psf]")] + whole[whole.index("[camera]") :]
    (tmp_path / "measured.toml").write_text(rest + measured)
    assert Experiment.from_file(tmp_path / "measured.toml").psf.width_in_focus_nm() == 127.5


def test_every_key_is_explained(pages):
    schema = json.loads(pages[ROOT / "docs/experiment.schema.json"])
    sections = {"Experiment": schema, **schema["$defs"]}
    bare = [
        f"{name}.{key}"
        for name, section in sections.items()
        for key, value in section["properties"].items()
        if not value.get("description") and "$ref" not in value and name != "Experiment"
    ]
    assert bare == []
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", pages[ROOT / "docs/experiment.md"], re.MULTILINE)
    assert [key for key, meaning in rows if not meaning.strip()] == []
    assert {key for key, _ in rows} >= {key for section in schema["$defs"].values() for key in section["properties"]} - {"kind"}


def test_schema_asks_for_what_has_no_default_and_for_the_kind(pages):
    schema = json.loads(pages[ROOT / "docs/experiment.schema.json"])
    assert set(schema["required"]) == {"pixel_size_nm", "psf", "camera", "specimen"}
    assert schema["additionalProperties"] is False
    assert "kind" in schema["$defs"]["EMCCDSettings"]["required"]
    assert {"offset_counts", "electrons_per_count", "em_gain"} <= set(schema["$defs"]["EMCCDSettings"]["required"])


def test_benchmark_rows_come_from_the_result_files(generate, tmp_path):
    assert generate.benchmarks(tmp_path) == "No benchmark has been recorded yet."
    shared = {"machine": "2 cores", "date": "2024-05-01", "seed": 3}
    (tmp_path / "b.json").write_text(json.dumps({**shared, "other": [1], "summary": [{"what": "a|b", "result": "5 x"}]}))
    (tmp_path / "a.json").write_text(json.dumps({"summary": [{"what": "c", "result": "7 nm", **shared, "seed": 4}]}))
    (tmp_path / "c.json").write_text(json.dumps([1, 2]))
    lines = generate.benchmarks(tmp_path).splitlines()
    assert lines[0] == "| what | result | machine | date | seed |"
    assert lines[2:] == ["| c | 7 nm | 2 cores | 2024-05-01 | 4 |", "| a\\|b | 5 x | 2 cores | 2024-05-01 | 3 |"]
    (tmp_path / "d.json").write_text(json.dumps({"summary": [{"what": "c", "result": "7 nm"}]}))
    with pytest.raises(generate.StaleError, match=r"d\.json: an entry of 'summary' has no machine, date, seed"):
        generate.benchmarks(tmp_path)


def test_a_page_without_its_block_is_refused(generate):
    assert (
        generate.filled("a\n<!-- begin:x -->\nold\n<!-- end:x -->\nb", "x", "new") == "a\n<!-- begin:x -->\nnew\n<!-- end:x -->\nb"
    )
    with pytest.raises(generate.StaleError, match="page needs one block <!-- begin:y -->"):
        generate.filled("a", "y", "new")


def anchors(page: Path) -> set[str]:
    """Give the anchors of a page's headings as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL), re.MULTILINE)
    return {"#" + re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for name, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / name).resolve() if name else page
        if target.suffix == ".png":
            continue  # drawn by the demo
        assert target.exists(), f"{page.name}: {name}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {name}{anchor}"
