"""A training as people see it: a bar with its loss and its last errors, one line for each evaluation, JSON at the end."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from workflows.terminal.show import console, error_text, print_json

# Errors that rose by this factor after the best model are worth a word.
MUCH = 1.2


def show_training(
    run: Callable[[Mapping[str, Callable[..., None]]], Any], folder: Path, as_json: bool, *, shown: bool = True
) -> None:
    """Run a training under a bar with its errors, with one line for each evaluation; JSON of the evaluations at the end."""
    if not shown:
        run(dict.fromkeys(("prepared", "watch", "report"), lambda *_: None))
        return
    found: list[dict[str, Any]] = []
    err = Console(stderr=True)
    out = Console(stderr=True, highlight=False) if as_json else console()
    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=1.0)

        def prepared(model: Any, training: int, validation: int) -> None:
            if model.network is None:
                out.print("an overlap needs no training: it is fitted in closed form", soft_wrap=True)
                return
            weights = sum(weight.numel() for weight in model.network.parameters())
            each = " in a network each" if model.blueprint.network.kind == "apart" else ""
            learned = ", ".join(model.blueprint.learned) + each
            checked = f"checked on {validation}" if validation else "checked on the same ones"
            out.print(f"learning {learned} from {training} frames, {checked}; {weights} weights", soft_wrap=True)
            for note in notes_of(model):
                out.print(f"note: {note}", soft_wrap=True)

        def watch(progress: Any, part: float, loss: float) -> None:
            speed = progress.step / max(progress.seconds, 1e-9)
            parts = [f"step {progress.step}", f"loss {loss:.3g}", f"{speed:.1f} steps/s"]
            if found:
                parts.append(error_text({key: found[-1][key] for key in ("H", "bands") if key in found[-1]}))
            bar.update(task, completed=part, description=", ".join(filter(None, parts)))

        def report(one: Any) -> None:
            found.append({"step": one.step, "seconds": one.seconds, "loss": one.loss, "best": one.best, **one.errors})
            star = " *" if one.best else ""
            out.print(
                f"{one.part:4.0%}  step {one.step:6d}  loss {one.loss:8.4f}  {error_text(one.errors)}{star}",
                soft_wrap=True,
            )

        run({"prepared": prepared, "watch": watch, "report": report})
    out.print(*rise_since_best(found), soft_wrap=True, end="")
    if as_json:
        print_json({"model": str(folder), "evaluations": found})
    else:
        out.print(
            f"the best model is {folder / 'best.safetensors'}; slem-eval {folder} DATA shows its errors", soft_wrap=True
        )


# By what of spinors breaks time reversal, as models say it.
NOTES_OF_MOMENTS = {
    "along an axis": "moments point along one axis in each run, and their sizes are learned: a prediction has them along z, a start where the input of its run turns them",
    "in any direction": "the data breaks time reversal, and not by moments along one axis: no structure says where such moments or a field point, "
    "so predictions have them too small, or none (docs/training.md)",
}


def notes_of(model: Any) -> list[str]:
    """What a user should know of a model before it learns."""
    notes = []
    if missing := model.history.get("in some frames alone"):
        frames = len(model.history["data"]["training"])
        notes += [
            f"{name} is not learned: {count} of {frames} frames have it; slem-convert says why it left out the others"
            for name, count in missing.items()
        ]
    if began := model.history.get("began with"):
        notes.append(
            f"this begins with what a model of {began['frames']} frames of {began['data']} knows; baselines are of {began['frames of baselines']} frames"
        )
    if mesh := model.blueprint.mesh:
        folded = "x".join(map(str, mesh))
        notes.append(f"the blocks are folded over the k mesh {folded}; the model is for this mesh alone")
    if unreached := model.blueprint.unreached:
        notes.append(f"{unreached} of the components keep their baseline; their m is beyond the channels")
    if names := model.history.get("names of both signs"):
        notes.append(
            f"atoms named {', '.join(names)} have moments of both signs, which the network cannot tell apart where their surroundings "
            "are alike; give those of opposite moments names of their own in the runs (docs/training.md)"
        )
    if said := NOTES_OF_MOMENTS.get(model.history.get("moments", "")):
        notes.append(said)
    if cells := model.history.get("DM repeated at"):
        notes.append(
            f"DM between an atom and its image in cell {tuple(cells)} is that of the atom itself: the k mesh is so coarse that images add to DM, "
            "and no local model can learn them; convert with --dm-mesh auto (docs/training.md)"
        )
    if copies := model.history.get("validated and learned"):
        notes.append(
            f"{len(copies)} of the validation frames are also among those that are learned (the first is frame {copies[0]}): "
            "their errors say nothing about new structures"
        )
    return notes


def rise_since_best(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """What to say where the errors rose after the evaluation whose model is kept, while the loss fell."""
    kept = [one for one in found if one["best"]]  # none where a training went on and its best model is from before
    if not kept or found[-1]["loss"] > kept[-1]["loss"]:
        return []
    risen = [name for name in ("H", "DM") if found[-1].get(name, 0.0) > MUCH * kept[-1].get(name, 0.0)]
    if not risen:
        return []
    before, after = (error_text({name: one[name] for name in risen}) for one in (kept[-1], found[-1]))
    return [
        f"note: the validation frames were met best at step {kept[-1]['step']} ({before}), and that model is kept; the loss fell on, and "
        f"their error rose ({after}). More frames help, more time does not\n"
    ]
