"""Write the generated pages and the generated blocks of other pages; ``--check`` only says which are out of date.

A block stands between ``<!-- begin:NAME -->`` and ``<!-- end:NAME -->``. The block ``benchmarks`` of README.md is made of the files in
benchmarks/results: each JSON object there with a list ``summary`` gives one row for each of its entries, see benchmarks/LOG.md.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import document_page
import torch

import denseloc
from denseloc.data import COLUMNS, CONVENTIONS
from denseloc.formats import FOLDER_FORMAT, MOVIE_FORMATS, TABLE_FORMATS
from denseloc.formats.psf_files import PSF_FORMATS, WritablePSFFormat
from denseloc.localize import LOCALIZERS, DecodeSettings, InputConditions, Scales
from denseloc.train.design_settings import DesignSettings, ModulatorSettings

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
ROW_KEYS = ("what", "result", "machine", "date", "seed")
DESIGN_SECTIONS = {"design": DesignSettings, "design.modulator": ModulatorSettings}
HEADLINES = (
    "movie AS_N1_LD, networks and fits",
    "movie AS_N1_HD, networks and fits",
    "movie AS_N1_LD, small preset, 4",
    "movie AS_N1_HD, small preset, 4",
    "general 2D model, d1_n1000",
    "frames/s at 64x64",
    "localize, 20000 frames",
    "beads simulated AS, spline",
    "width, movie alone",
)
"""What the README shows of the measurements: rows that hold one of these words, in this order."""


class StaleError(Exception):
    """A page or a result file that the pages cannot be made from."""


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def about(thing: object) -> str:
    """Give the first paragraph of the module that a thing stands in, without the word and colon that it begins with."""
    text = " ".join((sys.modules[type(thing).__module__].__doc__ or "").split("\n\n")[0].split()).partition(": ")[2]
    return text[:1].upper() + text[1:]


def movies() -> str:
    """Lay out the movie formats."""
    rows = []
    for one in MOVIE_FORMATS:
        words = f"{about(one)} {document_page.summary(type(one))}"
        rows.append([", ".join(f"`{s}`" for s in one.suffixes), one.name, words])
    rows.append(["a folder", FOLDER_FORMAT.name, document_page.summary(type(FOLDER_FORMAT))])
    return markdown_table(("suffix", "what it is", "what is read"), rows)


def tables() -> str:
    """Lay out the table formats, the default first."""
    rows = [[", ".join(f"`{s}`" for s in one.suffixes), one.name, about(one)] for one in TABLE_FORMATS]
    return markdown_table(("suffix", "what it is", "how it is written"), rows)


def design_keys() -> str:
    """Lay out the keys of the section ``[design]`` and of ``[design.modulator]``."""
    parts = [f"Keys of `[{name}]`:\n\n{document_page.key_table(section)}" for name, section in DESIGN_SECTIONS.items()]
    return "\n".join(parts).rstrip()


def psf_files() -> str:
    """Lay out the PSF files."""
    rows = []
    for one in PSF_FORMATS:
        how = "read, written" if isinstance(one, WritablePSFFormat) else "read"
        rows.append([", ".join(f"`{s}`" for s in one.suffixes), one.name, how, about(one)])
    return markdown_table(("suffix", "what it is", "", "what it holds"), rows)


def columns() -> str:
    """Lay out the column dictionary."""
    rows = ([f"`{c.name}`", c.dtype, c.unit, c.meaning] for c in COLUMNS.values())
    return markdown_table(("column", "type", "unit", "meaning"), rows)


def conventions() -> str:
    """Lay out the conventions that every file carries."""
    return markdown_table(("convention", "value"), ([f"`{name}`", str(value)] for name, value in CONVENTIONS.items()))


def methods() -> str:
    """Lay out the localizers."""
    rows = []
    for section in LOCALIZERS.sections.values():
        text = sys.modules[section.__module__].__doc__ or ""
        source = re.search(r"Source: (.*?)(?:\n\n|\Z)", text, re.DOTALL)
        name = f"`{section.model_fields['kind'].default}`"
        rows.append([name, " ".join(text.split("\n\n")[0].split()), " ".join(source[1].split()) if source else ""])
    return markdown_table(("method", "what it is", "source"), rows)


def formats() -> str:
    """Lay out all formats by suffix."""
    read = ", ".join(f"`{s}`" for one in MOVIE_FORMATS for s in one.suffixes)
    both = ", ".join(f"`{s}` ({one.name})" for one in TABLE_FORMATS for s in one.suffixes)
    rows = [("movies, read", f"{read}, folders of single frames"), ("tables, read and written", both)]
    psfs = dict.fromkeys(f"`{s}` ({one.name})" for one in PSF_FORMATS for s in one.suffixes)
    rows.append(("PSFs", ", ".join(psfs)))
    rows.append(("models, documents", "`.safetensors`; `.toml`, `.json`"))
    return markdown_table(("file", "formats"), rows)


def presets() -> str:
    """Lay out the sizes of the DECODE networks, counted on the networks themselves at 64 x 64 pixels."""
    scales = Scales((100.0, 100.0), 700.0, 1000.0, 1, InputConditions(10.0))
    rows = []
    for preset in DecodeSettings.model_json_schema()["properties"]["preset"]["enum"]:
        network = DecodeSettings(preset=preset).build(scales).net
        count = sum(weight.numel() for weight in network.parameters())
        kind = "half resolution" if type(network).__name__ == "HalfResolutionNet" else "full resolution, as in the paper"
        rows.append((f"`{preset}`", kind, f"{count / 1e6:.2f} million", f"{multiplications_per_px(network) / 1e3:.0f} thousand"))
    return markdown_table(("preset", "network", "weights", "multiplications per pixel and frame"), rows)


@torch.inference_mode()
def multiplications_per_px(network: Any) -> float:
    """Count the multiplications of all convolutions for one pixel of one frame, when each frame's features are computed once."""
    counted = []

    def count(layer: torch.nn.Conv2d, _: Any, output: torch.Tensor) -> None:
        counted.append(output[0].numel() * layer.weight[0].numel())

    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(count)
    features = network.frame_features(torch.zeros(1, 1, 64, 64), None)
    network.fuse((features, features, features), None)
    return sum(counted) / 64**2


def verbs() -> str:
    """Lay out the functions that the package offers, with the names of their arguments."""
    rows = []
    for name in denseloc.__all__:
        thing = getattr(denseloc, name)
        if name.startswith("_") or isinstance(thing, type):
            continue
        arguments = ", ".join(key if p.default is p.empty else f"{key}=" for key, p in inspect.signature(thing).parameters.items())
        verb = inspect.unwrap(getattr(sys.modules[f"denseloc{denseloc._VERBS[name]}"], name))
        rows.append([f"`{name}({arguments})`", document_page.summary(verb)])
    return markdown_table(("verb", "what it does"), rows)


def measured(folder: Path = RESULTS) -> list[list[str]]:
    """Give the summaries of the result files as rows, in the order of the files' names.

    Raises:
        StaleError: a file is not JSON, or an entry of a summary lacks a key.
    """
    rows = []
    for path in sorted(folder.glob("*.json")):
        try:
            result: Any = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise StaleError(f"{path.name} is not JSON ({error}); run its benchmark again") from None
        for entry in result.get("summary", ()) if isinstance(result, dict) else ():
            row = {**result, **entry}
            missing = [key for key in ROW_KEYS if key not in row]
            if missing:
                raise StaleError(f"{path.name}: an entry of 'summary' has no {', '.join(missing)}; see benchmarks/LOG.md")
            rows.append([str(row[key]) for key in ROW_KEYS])
    return rows


def benchmarks(folder: Path = RESULTS) -> str:
    """Lay out all that was measured."""
    rows = measured(folder)
    return markdown_table(ROW_KEYS, rows) if rows else "No benchmark has been recorded yet."


def headlines(folder: Path = RESULTS) -> str:
    """Lay out the measurements that the README shows."""
    rows = measured(folder)
    return markdown_table(ROW_KEYS, [row for words in HEADLINES for row in rows if words in row[0]])


def inspection(folder: Path = RESULTS) -> str:
    """Lay out what the inspection of simulated movies found, by seed."""
    rows = [row for row in measured(folder) if ", movie " in row[0]]
    return markdown_table(("what", "result", "seed"), [(row[0], row[1], row[4]) for row in rows])


def costs(folder: Path = RESULTS) -> str:
    """Lay out weights and speed of the methods."""
    path = folder / "methods.json"
    if not path.exists():
        return "Not measured yet."
    result = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        (f"`{kind}`", f"{found['weights'] / 1e6:.2f} million" if found["weights"] else "none", f"{found['frames_per_second']:.3g}")
        for kind, found in result["results"].items()
    ]
    return markdown_table(("method", "weights", "frames per second"), rows) + f"\n\n{result['machine']}, {result['date']}."


def claims(folder: Path = RESULTS / "reproduction") -> str:
    """Lay out the papers' claims, one row each."""
    rows = []
    for _, result in experiments(folder):
        for row in result["claims"]:
            found = f"{row['number']}" + (f" ({row['why']})" if row["why"] else "")
            rows.append((row["paper"], row["claim"], row["experiment"], found, f"**{row['holds']}**"))
    return markdown_table(("paper", "claim", "our experiment", "what we found", "holds here"), rows) if rows else "Nothing yet."


def plates(folder: Path = RESULTS / "reproduction") -> str:
    """Show the figures of each experiment, with date, machine and seed."""
    parts = []
    for name, result in experiments(folder):
        parts.append(f"### {result['title']}\n")
        parts += [f"![{caption}](img/reproduction/{file}.png)\n\n{caption}\n" for file, caption in result["figures"].items()]
        parts.append(f"`{name}.py`, {result['date']}, {result['machine']}, seed {result['seed']}.\n")
    return "\n".join(parts).strip() or "Nothing yet."


def experiments(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Read the results of the experiments, in the order in which they are run."""
    names = re.search(r"EXPERIMENTS = \((.*?)\)", (ROOT / "benchmarks/reproduction/run.py").read_text(encoding="utf-8"), re.DOTALL)
    order = re.findall(r'"(\w+)"', names[1]) if names else []
    files = [(name, folder / f"{name}.json") for name in order]
    return [(name, json.loads(path.read_text(encoding="utf-8"))) for name, path in files if path.exists()]


WHOLE: dict[str, Callable[[], str]] = {
    "docs/experiment.md": document_page.page,
    "docs/experiment.schema.json": document_page.schema_text,
}
BLOCKS: dict[str, tuple[Callable[[], str], ...]] = {
    "README.md": (methods, formats, headlines),
    "docs/design.md": (presets,),
    "docs/design-optics.md": (design_keys,),
    "docs/inspect.md": (inspection,),
    "docs/measured.md": (benchmarks,),
    "docs/python.md": (verbs,),
    "docs/methods.md": (costs,),
    "docs/reproduction.md": (claims, plates),
    "docs/formats.md": (movies, tables, psf_files, columns, conventions),
}


def filled(text: str, name: str, content: str, page: str = "page") -> str:
    """Replace what stands in the block ``name``.

    Raises:
        StaleError: the page does not have exactly one such block.
    """
    pattern = re.compile(rf"(<!-- begin:{name} -->\n).*?(<!-- end:{name} -->)", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise StaleError(f"{page} needs one block <!-- begin:{name} --> ... <!-- end:{name} -->")
    return pattern.sub(lambda found: f"{found[1]}{content}\n{found[2]}", text)


def generated() -> dict[Path, str]:
    """Make the contents of all pages that are generated in whole or in part."""
    pages = {ROOT / name: make() for name, make in WHOLE.items()}
    for name, blocks in BLOCKS.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        for block in blocks:
            text = filled(text, block.__name__, block(), name)
        pages[ROOT / name] = text
    return pages


def main() -> int:
    """Write what has changed; with ``--check`` write nothing and give 1 if something would change."""
    changed = [(path, text) for path, text in generated().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path, text in changed:
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
    return int(bool(changed) and "--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
