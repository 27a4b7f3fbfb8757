"""Smith et al.: do not decay the learning rate, increase the batch size; is it the same, for fewer steps?"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from repro.evidence.intervals import Estimate, Unit, geometric, mean_interval, paired_difference
from repro.evidence.intervals import paired_values as in_pairs
from repro.evidence.spec import Claim, Figure, Outcome, Published, Revision, Scale, Settings, Verdict
from repro.evidence.tables import by_seed, final, margin_for, paired, point, records, select
from repro.evidence.tuning import Tuned, tune, tuned_difference
from repro.evidence.words import bracketed
from repro.names import SpecError
from repro.trial import SEEDS, Phase, Sweep, Trial, paired_seeds, whole

DECAY, GROW, RAISED, CONSTANT = (
    "the learning rate decays",
    "the batch grows",
    "the batch grows, higher learning rate",
    "neither",
)
TIMED = "step times"
SECONDS = "seconds that its steps take, growing over decaying"
MARGIN = 0.2  # percentage points of 10,000 test images, as close as the paper's own results are
CAP = 10  # the batch grows to one in so many training examples at most; then the learning rate decays after all
PAPER = {
    "dataset": "mnist",
    "label_noise": 0.1,  # without it, MNIST is learnt as well without a schedule
    "widths": (32,),  # so few that it cannot learn wrong labels by heart, which to stop in time would help against
    "batch_size": 64,  # where it begins
    "factor": 4,
    "changes": (9, 18, 24),  # epochs, at the shares of the whole at which the paper has them
    "epochs": 30,
    "warmup_epochs": 1,  # without it the higher learning rate fails at times
    "lr": 0.0125,  # the lowest of the grid
    "lr_steps": 6,  # each twice the last
    "constant_lower": 3,  # learning rates below these, each half the last, where none decays
    "seeds": 10,
    "timings": 3,  # of a step, by batch size
}
MNIST5K = {**PAPER, "dataset": "mnist5k", "batch_size": 16}
SETTINGS = {
    Scale.SMOKE: (
        {**MNIST5K, "changes": (1, 2, 3), "epochs": 4, "lr_steps": 3, "constant_lower": 1, "seeds": 2, "timings": 1},
    ),
    Scale.LAPTOP: ({**MNIST5K, "seeds": 3},),
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist", "label_noise": 0.0}),
}


def phases(trial: Trial, lr: float, size: int, factor: int, changes: Sequence[int], decays: bool) -> list[Phase]:
    """From the start and from each of `changes` on: either the learning rate is divided by `factor`, or the batch is
    multiplied by it, up to one in CAP of the training examples; what it then lacks the learning rate makes up."""
    most = max(trial.num_train // CAP, size)
    found = []
    for k, epoch in enumerate((0, *changes)):
        wanted = size * factor**k
        batch = size if decays else min(wanted, most)
        found.append(Phase(epoch, float(f"{lr * batch / wanted:.8g}"), batch))
    return found


def design(settings: Settings) -> list[Sweep]:
    """The learning rate decays in steps; or the batch grows in as many; or it grows from a batch and a learning rate
    `factor` times as large; or neither, also from lower rates. Each from every learning rate of a grid, evaluated on a
    validation split, which chooses, and on the test set, without the smaller batch at an epoch's end. And what a step
    takes here, by batch size."""
    changes, epochs, size, factor = (settings[name] for name in ("changes", "epochs", "batch_size", "factor"))
    if list(changes) != sorted(set(changes)) or changes[-1] >= epochs:
        raise SpecError(f"changes {list(changes)}: must rise, below the {epochs} epochs")
    ends = {e + 1 for e in changes}
    base = Trial(
        dataset=settings["dataset"],
        label_noise=settings["label_noise"],
        widths=settings["widths"],
        evaluate_on="both",
        drop_last=True,
        warmup_epochs=float(settings["warmup_epochs"]),
        epochs=epochs,
        checkpoints=tuple(float(e) for e in sorted({1, epochs // 10, *changes, *ends} - {0}) if e < epochs),
    )
    rates = [settings["lr"] * 2**k for k in range(whole("lr_steps", settings["lr_steps"]))]
    seeds = paired_seeds(settings["seeds"])

    def arm(name: str, times: int, decays: bool = False, constant: bool = False) -> Sweep:
        points = []
        lower = [settings["lr"] * 0.5**k for k in range(settings["constant_lower"], 0, -1)] if constant else []
        for lr in (*lower, *rates):
            first, *rest = phases(base, lr * times, size * times, factor, changes, decays)
            points.append((first.lr, first.batch_size, () if constant else tuple(rest)))
        return Sweep(name, base, {("lr", "batch_size", "schedule"): points, SEEDS: seeds})

    timed = dataclasses.replace(
        base,
        lr=1e-4,
        batch_size=size,
        epochs=None,
        steps=1,
        checkpoints=(),
        warmup_epochs=0.0,
        final_probes=("step times",),
    )
    timings = Sweep(TIMED, timed, {SEEDS: paired_seeds(settings["timings"])})
    return [arm(DECAY, 1, decays=True), arm(GROW, 1), arm(RAISED, factor), arm(CONSTANT, 1, constant=True), timings]


def chosen(table: pd.DataFrame) -> Tuned | None:
    """The learning rate that decay does best from, by held-out accuracy."""
    return tune(select(table, arm=DECAY, final=True), "validation_accuracy", largest=True)


def arm_at(table: pd.DataFrame, name: str, best: Tuned) -> dict[str, Any]:
    """The rows of an arm at the learning rate that belongs to the chosen one: as many times as high as the batch that
    the arm begins with is as large."""
    own, decay = (select(table, arm=arm)["batch_size"] for arm in (name, DECAY))
    return {"arm": name, "lr": best.lr * own.iloc[0] / decay.iloc[0]} if len(own) else {"arm": ""}


def points(table: pd.DataFrame) -> Unit:
    margin = margin_for(table, MARGIN)
    axis = "Test accuracy, the first named minus the second, percentage points"
    return Unit("points", axis, 0.0, ("worse", "better"), (-margin, margin))


def beside(table: pd.DataFrame, a: str, b: str) -> Estimate:
    """Test accuracy of one arm minus another, from the rate that decay does best from."""
    best = chosen(table)
    if best is None:
        return mean_interval([]).of(points(table))
    return paired(table, arm_at(table, a, best), arm_at(table, b, best), "test_accuracy", 100).of(points(table))


TIMES = Unit("times", "Of the first named over the second, times", 1.0, ("less", "more"), log=True)


def times_over(table: pd.DataFrame, column: str, a: str, b: str) -> Estimate:
    """How many times as much of a positive column one arm ends with as another."""
    best = chosen(table)
    arms: list[Mapping[str, Any]] = [arm_at(table, name, best) if best else {"arm": ""} for name in (a, b)]
    values = (by_seed(final(table, **where), column) for where in arms)
    x, y = in_pairs(*values)
    return geometric(paired_difference(pd.Series(x).transform("log"), pd.Series(y).transform("log"))).of(TIMES)


def updates_by_size(rows: pd.DataFrame) -> dict[int, int]:
    """How many steps one trial took at each batch size; it was measured where the size changed."""
    rows = rows.sort_values("step")
    step_at, first = dict(zip(rows["epoch"], rows["step"], strict=True)), rows.iloc[0]
    phases = [(0.0, int(first["batch_size"])), *((p["epoch"], p["batch_size"]) for p in json.loads(first["schedule"]))]
    ends = [epoch for epoch, _ in phases[1:]] + [rows["epoch"].iloc[-1]]
    found: dict[int, int] = {}
    for (start, size), end in zip(phases, ends, strict=True):
        found[size] = found.get(size, 0) + int(step_at[end] - step_at[start])
    return found


def seconds_over(table: pd.DataFrame, a: str, b: str) -> Estimate:
    """How many times as long the steps of one arm take as those of another, as steps were timed by themselves; between
    the batch sizes that were, seconds go on a line."""
    best = chosen(table)
    arms = [select(table, status="finished", **arm_at(table, name, best)) for name in (a, b)] if best else []
    values = []
    for timed in records(table, "run_step_seconds", arm=TIMED) if arms and all(map(len, arms)) else ():
        each = [updates_by_size(rows[rows["key"] == rows["key"].iloc[0]]) for rows in arms]
        known = timed["timed_batch_size"], timed["run_step_seconds"]
        x, y = (np.dot([*updates.values()], np.interp([*updates], *known)) for updates in each)
        values.append(math.log(x / y))
    return geometric(mean_interval(values)).of(TIMES)


def judge_same(table: pd.DataFrame, name: str, what: str) -> Verdict:
    """Whether an arm tests as decay does, or better."""
    e = beside(table, name, DECAY)
    effects = {f"{name} minus {DECAY}": e}
    best = chosen(table)
    diverged = len(select(table, final=True, status="diverged", **arm_at(table, name, best))) if best else 0
    if e.n < 2:
        told = f"{what} {diverged} runs diverge." if diverged > 1 else "Not run with two seeds."
        return Verdict(Outcome.NOT_REPRODUCED if diverged > 1 else Outcome.INCONCLUSIVE, told, effects)
    reason = f"{what} it tests {bracketed(e, 'points')} beside a learning rate that decays."
    if diverged:
        return Verdict(Outcome.INCONCLUSIVE, f"{reason} Of its runs {diverged} diverged.", effects)
    if e.equivalent(margin_for(table, MARGIN)) or e.low > 0:
        return Verdict(Outcome.REPRODUCED, reason, effects)
    worse = e.high < -margin_for(table, MARGIN)
    return Verdict(Outcome.NOT_REPRODUCED if worse else Outcome.INCONCLUSIVE, reason, effects)


def tuned_beside(table: pd.DataFrame, name: str) -> tuple[Estimate, str, bool]:
    """Test accuracy of an arm minus that of decay, each from its own best rate, the choice of both counted; whether
    one of these is the lowest or highest tried, as a sentence; and whether the arms are the same."""
    arm, decay = (select(table, arm=of, final=True) for of in (name, DECAY))
    e = tuned_difference(arm, decay).of(points(table))
    edge = any(b and b.edge for b in (tune(rows, "validation_accuracy", largest=True) for rows in (arm, decay)))
    alike = e.n > 1 and tuned_difference(arm, decay, 0.9).within(margin_for(table, MARGIN))
    return e, " One of these is the lowest or highest tried." if edge else "", alike


def judge_tuned(table: pd.DataFrame) -> Verdict:
    """Whether it is the same from the best rate of each."""
    e, edge, alike = tuned_beside(table, GROW)
    effects = {f"{GROW} minus {DECAY}, each tuned": e}
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = f"Each from its own best learning rate, it tests {bracketed(e, 'points')} beside decay.{edge}"
    if edge:
        return Verdict(Outcome.INCONCLUSIVE, reason, effects)
    if alike or e.low > 0:
        return Verdict(Outcome.REPRODUCED, reason, effects)
    worse = e.high < -margin_for(table, MARGIN)
    return Verdict(Outcome.NOT_REPRODUCED if worse else Outcome.INCONCLUSIVE, reason, effects)


def judge_without(table: pd.DataFrame) -> Verdict:
    """Whether a schedule is worth anything where a constant learning rate has its own best."""
    e, edge, alike = tuned_beside(table, CONSTANT)
    effects = {f"{CONSTANT} minus {DECAY}, each tuned": e}
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = f"Each from its own best learning rate, neither tests {bracketed(e, 'points')} beside decay.{edge}"
    if edge:
        return Verdict(Outcome.INCONCLUSIVE, reason, effects)
    if e.high < 0:
        return Verdict(Outcome.REPRODUCED, reason, effects)
    return Verdict(Outcome.NOT_REPRODUCED if alike or e.low > 0 else Outcome.INCONCLUSIVE, reason, effects)


def judge_control(table: pd.DataFrame) -> Verdict:
    """Whether the schedule is worth anything: without one, it is surely worse."""
    e = beside(table, CONSTANT, DECAY)
    effects = {f"{CONSTANT} minus {DECAY}": e}
    if e.n < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    reason = f"With neither it tests {bracketed(e, 'points')} beside a learning rate that decays."
    margin = margin_for(table, MARGIN)
    if e.high < -margin:
        return Verdict(Outcome.REPRODUCED, reason, effects)
    return Verdict(Outcome.NOT_REPRODUCED if e.low > -margin else Outcome.INCONCLUSIVE, reason, effects)


def judge(table: pd.DataFrame) -> Verdict:
    if "arm" not in table or table.empty:
        return Verdict(Outcome.INCONCLUSIVE, "No trial has been run.")
    grow, control = judge_same(table, GROW, "Where the batch grows,"), judge_control(table)
    gain = beside(table, GROW, CONSTANT)
    updates = times_over(table, "step", GROW, DECAY)
    parts = {
        "So does a higher learning rate at the start": judge_same(table, RAISED, "From a higher learning rate"),
        "Each tuned, it is the same": judge_tuned(table),
        "Without either, it is worse": control,
        "So it is with a constant learning rate of its own": judge_without(table),
    }
    effects = {
        **grow.effects,
        f"{GROW} minus {CONSTANT}": gain,
        "updates, growing over decaying": updates,
        SECONDS: seconds_over(table, GROW, DECAY),
    }
    best = chosen(table)
    if best and best.edge:
        reason = f"{grow.reason} Decay does best from the {best.edge} learning rate tried, {best.lr:g}."
        return Verdict(Outcome.INCONCLUSIVE, reason, effects, parts)
    reason = f"{grow.reason} {control.reason}"
    if control.outcome != Outcome.REPRODUCED:
        return Verdict(Outcome.INCONCLUSIVE, reason, effects, parts)
    outcome = grow.outcome
    if outcome == Outcome.NOT_REPRODUCED and gain.low > 0:
        outcome = Outcome.CONDITIONAL
    return Verdict(outcome, reason, effects, parts)


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    e = verdict.effects.get(f"{GROW} minus {DECAY}")
    if e is None or e.n < 2:
        return "Not settled: too few seeds have been run of a batch that grows."
    updates, seconds = verdict.effects["updates, growing over decaying"], verdict.effects[SECONDS]
    if verdict.outcome == Outcome.REPRODUCED:
        timed = f", in {bracketed(seconds, 'times')} the seconds of one core" if seconds.n else ""
        wrong = f", where {100 * share:.0f} % of labels are redrawn" if (share := table["label_noise"].max()) else ""
        return (
            f"Yes. A batch that grows tests {bracketed(e, 'points')} beside a learning rate that decays{wrong}, with "
            f"{updates.value:.2f} times the updates{timed}."
        )
    if verdict.outcome == Outcome.CONDITIONAL:
        return f"In part. It is better than neither, but tests {bracketed(e, 'points')} beside a rate that decays."
    if verdict.outcome == Outcome.NOT_REPRODUCED:
        return f"No. A batch that grows tests {bracketed(e, 'points')} beside a learning rate that decays."
    return f"Not settled: a batch that grows tests {bracketed(e, 'points')} beside a learning rate that decays."


def _curve(table: pd.DataFrame, x: str) -> pd.DataFrame:
    """Test error of every arm from the first change on, by epoch or step, at the rate that decay does best from."""
    rows, best = [], chosen(table) if "arm" in table and len(table) else None
    first = json.loads(select(table, arm=DECAY)["schedule"].iloc[0])[0]["epoch"] if best else 0
    for name in (DECAY, GROW, RAISED, CONSTANT) if best else ():
        of_arm = select(table, status="finished", **arm_at(table, name, best))  # type: ignore[arg-type]
        for at, group in of_arm[of_arm["epoch"] >= first].groupby(x):
            errors = [100 - a for a in by_seed(group, "test_accuracy", 100).values()]
            rows.append(point(mean_interval(errors), x=float(str(at)), series=name))
    return pd.DataFrame(rows, columns=["x", "mean", "low", "high", "n", "series"])


def by_epoch(table: pd.DataFrame) -> pd.DataFrame:
    return _curve(table, "epoch")


def by_update(table: pd.DataFrame) -> pd.DataFrame:
    return _curve(table, "step")


def by_epoch_title(table: pd.DataFrame) -> str:
    if judge(table).outcome == Outcome.REPRODUCED:
        return "A batch that grows ends no worse than a learning rate that decays"
    return "Test error by epoch"


def by_update_title(table: pd.DataFrame) -> str:
    if judge(table).outcome == Outcome.REPRODUCED:
        return "A batch that grows ends after fewer updates"
    return "Test error by update"


CAPTION = "From the first change on. Means over seeds, 95 % t intervals."
ELSEWHERE = "a wide residual network on CIFAR-10"
CLAIM = Claim(
    id="grow-the-batch",
    question="Can the batch grow instead of the learning rate decaying?",
    statement="“instead of decaying η, we can increase batch size dynamically”",
    source="banburski",
    counter_claim="what a learning rate that decays is good for is not only less noise",
    counter_sources=("you2019",),
    rule=(
        "Paired differences over seeds of the test accuracy at the end, 95 % t intervals, all from the learning rate "
        "that decay does best from by held-out accuracy. Reproduced: a batch that grows tests the same as a learning "
        f"rate that decays to within ±{MARGIN} points (two one-sided tests, 5 %; the margin is for 10,000 test images)"
        f" or surely better. Conditional: surely more than {MARGIN} points worse, but surely better than neither. Not "
        "reproduced: that much worse, and not surely better than neither. Inconclusive: anything else; if the "
        f"control, with neither, is not surely more than {MARGIN} points worse than decay, for then there is nothing "
        "to reproduce; or if decay does best from the lowest or highest learning rate tried. The parts are judged "
        "likewise: from a batch and a learning rate as many times as large at the start (not reproduced if it "
        "diverges, too); each from its own best learning rate, the choice counted in the interval; and neither, from "
        "its own best, surely worse than decay from its own. The target was made hard before any run: a small network,"
        " and MNIST with a tenth of its labels drawn anew; Fashion-MNIST as it is."
    ),
    history=(
        Revision("2026-11-22T20:58", "Written, before the first run."),
        Revision(
            "2026-11-23T00:14",
            "Still before it, after a pilot on the validation split, one or two seeds. A network of 256 units learns "
            "wrong labels by heart, so that decay did best from the lowest rates, where it stops in time; one of 32 "
            "cannot (best 0.05 on MNIST, 0.1 on Fashion-MNIST, neither 0.5 and 1.1 points worse). Four times the rate"
            " failed without a warm-up, which now all have. New: neither, from its own best rate.",
        ),
        Revision(
            "2026-11-23T13:56",
            "After the run, but for what follows. On MNIST neither did best from the lowest rate tried, so it is tried "
            "from three lower ones. And the seconds of whole runs, which shared a machine with others, give way to "
            "those of steps timed by themselves. The verdict hangs on neither.",
        ),
    ),
    sentences={
        "instead of decaying η, we can increase": (),
    },
    settings=SETTINGS,
    design=design,
    judge=judge,
    answer=answer,
    advice=(
        "Where a schedule would lower the learning rate, raise the batch size instead, as long as memory allows.",
        "Here, on a small network and with plain SGD, it ended alike after fewer updates.",
    ),
    change="A schedule under which a batch that grows ends surely behind a learning rate that decays, by the margin.",
    published=(
        Published("test accuracy, the learning rate decays", "94.3", unit="%", note=ELSEWHERE),
        Published("test accuracy, the batch grows", "94.4", unit="%", note=ELSEWHERE),
        Published("test accuracy, the batch grows, five times the learning rate", "94.5", unit="%", note=ELSEWHERE),
    ),
    figures=(
        Figure("epochs", "curves", by_epoch, by_epoch_title, "epoch", "test error (%)", CAPTION, x_scale="linear"),
        Figure(
            "updates",
            "curves",
            by_update,
            by_update_title,
            "updates",
            "test error (%)",
            f"The same, by how many steps were taken. {CAPTION}",
            x_scale="log",
        ),
    ),
)
