"""What the installation is and has: models, doctor, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from . import options
from .analysis import Watch
from .screen import Screen
from .signals import ended, orderly_stop
from .words import console, duration, number, pairs, say

MODELS_EXAMPLES = ("denseloc models",)


def models() -> None:
    """List the models that come with the package."""
    from ..model_file import load_model, shipped_models

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "for", "method", "size", "steps", "on simulations like those it learned from"):
        table.add_column(heading, justify="right" if heading in ("size", "steps") else "left", overflow="fold")
    shipped = shipped_models()
    for name, path in shipped.items():
        model = load_model(path)
        localizer, record = model.experiment.localizer, model.record
        method = " ".join(filter(None, (localizer.kind, getattr(localizer, "preset", None))))
        table.add_row(
            name,
            model.experiment.description or model.experiment.name,
            method,
            f"{path.stat().st_size / 1e6:.1f} MB",
            number(record.get("steps", 0)),
            _score(record.get("history") or []) + _believed(model.uncertainty),
        )
    if shipped:
        console().print(table)
    else:
        say("no model comes with this installation; train one with 'denseloc train' and give it as --model FILE")


def _score(history: list[dict[str, float]]) -> str:
    """Say the last score of a training in plain words."""
    if not history or "jaccard" not in history[-1]:
        return "not recorded"
    last = history[-1]
    axial = f", {last['rmse_axial_nm']:.0f} nm in depth" if last.get("rmse_axial_nm") else ""
    return (
        f"{last['jaccard']:.0f} of 100 right, missed and false ones counted (Jaccard); "
        f"these lie {last['rmse_lateral_nm']:.0f} nm off sideways{axial} (RMSE)"
    )


def _believed(known: dict[str, Any] | None) -> str:
    """Say how true a model's sigmas are; nothing where that is not known."""
    from ..evaluate import in_words, read_pulls

    pulls = read_pulls((known or {}).get("pulls"))
    return f"; {in_words(pulls)}" if pulls else ""


DOCTOR_EXAMPLES = ("denseloc doctor",)


def doctor() -> None:
    """Look at device, memory, versions and models, estimate the speed, and say what to mend."""
    with Screen("examining", "examining"):
        from .examination import examine

        facts, fixes = examine()
    console().print(pairs(facts))
    for fix in fixes:
        say(f"fix: {fix}", "yellow")
    if not fixes:
        say("nothing to mend", "green")


DEMO_EXAMPLES = ("denseloc demo", "denseloc demo --out somewhere")


def demo(out: options.DemoOut = Path("demo-out")) -> None:
    """Run the main job on the small dense movie that comes with the package."""
    with Screen("looking at the movie", "localizing") as screen:
        from .. import verbs

        watch = Watch(screen)
        with orderly_stop(screen.say, "the present block") as stop:
            done = verbs.demo(out, prepared=watch.prepared, progress=watch.report, stop=stop)
            late = stop()
    run = done.run
    if late:
        raise ended(late, f"{run.table}, picture and report are whole")
    say(f"table    {run.table}   {number(run.localizations)} localizations in {number(run.frames)} frames, {duration(run.seconds)}")
    say(f"picture  {done.picture}")
    say(f"report   {done.report.page}")
    best = done.assessments.get("3d_all") or done.assessments["2d_all"]
    axial = f", {best.rmse_axial_nm:.1f} nm in z" if "E_axial" in best.efficiency_from_formula else ""
    say(f"against the truth: Jaccard {best.jaccard_percent:.1f} %, RMSE {best.rmse_lateral_nm:.1f} nm{axial}")
