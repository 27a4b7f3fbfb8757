"""The networks that are measured, and the sentences of the post with what speaks for each."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from repro.evidence.intervals import Estimate, Unit
from repro.evidence.spec import Scale, Settings
from repro.evidence.tables import over_seeds, records
from repro.probes.readings import AVERAGED, READINGS, Reading, Row, above_slope, below_slope, cv_slope, norm_slope
from repro.trial import SEEDS, Sweep, Trial, paired_seeds

EARLY, LATE = "early", "late"
POINTS = (EARLY, LATE)
PASSES = {arm: f"{arm}, passes" for arm in POINTS}  # the same networks, measured batch after batch
ROOT_LOW, ROOT_HIGH = 0.25, 0.75  # powers of the mean norm that are nearer to √B than to no growth and to proportion
RISE = 0.05  # power of B that counts as growing: the variance doubles over B = 1 … 1024, for 1024^(2 · 0.05) = 2
MIN_SEEDS = 3

PAPER: Settings = {
    "dataset": "mnist",
    "train_size": None,
    "widths": (1024, 1024),
    "batch_size": 1024,
    "lr": 0.01,
    "early_epochs": 2,
    "epochs": 30,
    "draws": 1000,
    "seeds": 3,  # powers and tails differ so little between networks that three decide
}
SMALL: Settings = {**PAPER, "dataset": "mnist5k", "batch_size": 64, "seeds": 5}
SETTINGS = {
    Scale.SMOKE: (
        {**SMALL, "train_size": 600, "widths": (16,), "early_epochs": 2, "epochs": 10, "draws": 40, "seeds": 2},
    ),
    Scale.LAPTOP: ({**SMALL, "widths": (64,), "epochs": 10, "draws": 100, "seeds": 3},),
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist"}),
}


def design(settings: Settings) -> list[Sweep]:
    """One network, measured at the end of a short and of a long training, and trained again for what is measured batch
    after batch. Both gradient claims read these trials."""
    names = ("dataset", "train_size", "widths", "batch_size", "lr", "draws", "epochs")
    fields: dict[str, Any] = {name: settings[name] for name in names}
    base = Trial(**fields, probes=("fit",))
    budgets = {EARLY: settings["early_epochs"], LATE: settings["epochs"]}

    def sweep(name: str, arm: str, *probes: str) -> Sweep:
        trial = dataclasses.replace(base, epochs=budgets[arm], final_probes=probes)
        return Sweep(name, trial, {SEEDS: paired_seeds(settings["seeds"])})

    return [
        *(sweep(arm, arm, "gradient norms", "gradient tails") for arm in POINTS),
        *(sweep(PASSES[arm], arm, "gradient passes") for arm in POINTS),
    ]


def measured(table: pd.DataFrame, arm: str, extent: str = "single") -> list[dict[str, Any]]:
    """The rows that hold a reading of this extent, at a point of training."""
    return records(table, "drawn_batch_size", arm=PASSES[arm] if extent == AVERAGED else arm)


def is_root(slope: Estimate) -> bool | None:
    """Whether the interval lies nearer to √B than to no growth and to proportion; None where it reaches over."""
    if slope.n < MIN_SEEDS:
        return None
    if slope.low >= ROOT_LOW and slope.high <= ROOT_HIGH:
        return True
    return False if slope.high < ROOT_LOW or slope.low > ROOT_HIGH else None


def rises(slope: Estimate) -> bool | None:
    if slope.n < MIN_SEEDS:
        return None
    return True if slope.low > RISE else False if slope.high < RISE else None


NORM_POWER = Unit(
    "power of B",
    "Power of B with which the mean norm goes: ½ is √B, 1 in proportion; green is nearest to √B",
    0.5,
    ("grows less", "more"),
    (ROOT_LOW, ROOT_HIGH),
)
SPREAD_POWER = Unit(
    "power of B",
    "Power of B with which the spread, in units of the mean, goes; green counts as growing",
    0.0,
    ("spread falls", "grows"),
    (RISE, math.inf),
)


@dataclass(frozen=True)
class Sentence:
    """A sentence of the post, the slopes that speak for it, and when they do. Of the norms' spread only the sum-reduced
    readings are looked at: the reduction cannot change it."""

    text: str
    found: str  # what a reading gives that supports it
    decide: Callable[[Estimate], bool | None]
    slopes: Mapping[str, Callable[[Reading, Row], float]]  # by what they are of, where there are several
    of_spread: bool

    def label(self, reading: Reading) -> str:
        return reading.spread_name if self.of_spread else reading.name

    def effects(self, table: pd.DataFrame) -> dict[tuple[str, str], dict[str, Estimate]]:
        """(reading, point of training) -> its slopes over seeds"""
        unit = SPREAD_POWER if self.of_spread else NORM_POWER
        found = {}
        for reading, arm in itertools.product(SUMS if self.of_spread else READINGS, POINTS):
            slopes = {what: functools.partial(slope, reading) for what, slope in self.slopes.items()}
            rows = measured(table, arm, reading.extent)
            found[self.label(reading), arm] = {what: over_seeds(rows, slope).of(unit) for what, slope in slopes.items()}
        return found


SUMS = tuple(r for r in READINGS if r.reduction == "sum")
PLAIN = Reading("sum", "frozen", "single")  # what the post's words say most plainly
ROOT = Sentence("the mean norm grows as √B", "norms that grow as √B", is_root, {"": norm_slope}, False)
SPREAD = Sentence(
    "scaled to equal means, larger batches spread more", "larger batches that spread more", rises, {"": cv_slope}, True
)
BOTH_ENDS = Sentence(
    "scaled so, larger batches have both larger and smaller values",
    "larger batches with both larger and smaller values",
    rises,
    {"larger values": above_slope, "smaller values": below_slope},
    True,
)
SENTENCES = (ROOT, SPREAD, BOTH_ENDS)
Answers = dict[tuple[str, str], bool | None]


def supports(sentence: Sentence, effects: Mapping[tuple[str, str], Mapping[str, Estimate]]) -> Answers:
    """Whether each reading, at each point of training, supports the sentence; None where that is not settled."""
    answers: Answers = {}
    for where, slopes in effects.items():
        each = [sentence.decide(slope) for slope in slopes.values()]
        answers[where] = False if False in each else None if None in each else True
    return answers


def supporting(table: pd.DataFrame, sentence: Sentence) -> list[str]:
    """Readings that support the sentence at both points."""
    answers = supports(sentence, sentence.effects(table))
    names = dict.fromkeys(name for name, _ in answers)
    return [name for name in names if all(answers[name, arm] for arm in POINTS)]


def without_averaging(reading: Reading) -> Reading:
    """The control of norms averaged over a pass: as many of them, one, at every batch size."""
    return dataclasses.replace(reading, reduction="sum", extent="single")


def is_just_root(slope: Estimate) -> bool:
    """Whether the interval holds ½ itself, and nothing far from it."""
    return bool(is_root(slope)) and not slope.excludes(0.5)
