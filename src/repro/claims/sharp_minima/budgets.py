"""Sharp minima: the budgets at which the two batch sizes are compared."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from repro.claims.sharp_minima.experiment import (
    EQUAL_FREE,
    EQUAL_NORMS,
    EQUAL_NORMS_ON,
    EQUAL_STEPS,
    LARGE,
    LARGE_ON,
    LARGE_RATES,
    MATCHED,
    OTHER_EPOCHS,
    SEARCHED,
    SMALL,
    SMALL_ON,
    SMALL_RATES,
    SMALL_STEPS,
    TRAINED_ON,
    TUNED,
    prepared,
)
from repro.evidence.intervals import (
    Estimate,
    Unit,
    geometric,
    paired_difference,
    paired_values,
)
from repro.evidence.tables import by_seed, select
from repro.evidence.tuning import tune
from repro.evidence.words import bracketed

SAME_FACTOR = 2.0  # sharpnesses within this factor count as the same, training losses as matched
MIN_PAIRS = 3
ALIKE = (1 / SAME_FACTOR, SAME_FACTOR)
SHARPER = Unit(
    "times", "Sharpness, large batch over small, times", 1.0, ("large batch flatter", "sharper"), ALIKE, log=True
)


def times(difference: Estimate, unit: Unit = SHARPER) -> Estimate:
    """A difference of decimal logarithms as a ratio."""
    ten = math.log(10)
    natural = dataclasses.replace(
        difference,
        value=difference.value * ten,
        low=difference.low * ten,
        high=difference.high * ten,
        values=tuple(v * ten for v in difference.values),
    )
    return geometric(natural).of(unit)


def difference(large: pd.DataFrame, small: pd.DataFrame, column: str = "decades") -> Estimate:
    """Paired difference over seeds, large minus small."""
    return paired_difference(*paired_values(by_seed(large, column), by_seed(small, column)))


@dataclass(frozen=True)
class Budget:
    """A budget at which the two batch sizes are compared: the runs, what was chosen, and why it may not count."""

    name: str
    large: pd.DataFrame
    small: pd.DataFrame
    chosen: str = ""
    flaw: str = ""

    @property
    def sharper(self) -> Estimate:
        return difference(self.large, self.small)

    @property
    def state(self) -> str:
        """Whether the large batch is sharper here: "stays", "goes", or "open"."""
        e = self.sharper
        if self.flaw or e.n < MIN_PAIRS:
            return "open"
        if e.low > 0:
            return "stays"
        return "goes" if e.high < 0 or e.within(math.log10(SAME_FACTOR)) else "open"

    @property
    def told(self) -> str:
        e = self.sharper
        if not e.n:
            return f"{self.name}: {self.flaw or 'not run'}"
        flaw = f", but {self.flaw}" if self.flaw else ""
        return f"{self.name}{self.chosen}: {bracketed(times(e), 'times')}{flaw}"


def tuned_budget(table: pd.DataFrame, rows: pd.DataFrame) -> Budget:
    """Either batch size at its learning rate of highest validation accuracy, on one grid and one split."""
    chosen, rates, edges = [], [], []
    for size, arm in (("large", LARGE_RATES), ("small", SMALL_RATES)):
        best = None
        if {"final", "validation_accuracy"} <= set(table.columns):
            best = tune(select(table, arm=arm, final=True), "validation_accuracy", largest=True)
        if best is None:
            return Budget(TUNED, rows.iloc[:0], rows.iloc[:0], flaw="too few learning rates have been run")
        chosen.append(select(rows, arm=arm, lr=best.lr))
        rates.append(f"{best.lr:g}")
        edges += [f"the {size} one's is the {best.edge} of the grid"] if best.edge else []
    return Budget(TUNED, chosen[0], chosen[1], f" (lr {rates[0]}, small {rates[1]})", "; ".join(edges))


def matched_budget(rows: pd.DataFrame) -> Budget:
    """The large batch for the number of epochs at which its training loss is nearest to the small batch's."""
    small = select(rows, arm=SMALL)
    candidates = rows[rows["arm"].isin([OTHER_EPOCHS, LARGE])].drop_duplicates(["epochs", "init_seed"])
    if small.empty or candidates.empty:
        return Budget(MATCHED, candidates.iloc[:0], small, flaw="not run")
    target = np.log(small["train_loss"]).mean()
    groups = {float(e): group for e, group in candidates.groupby("epochs")}  # type: ignore[arg-type]
    off = {e: float(np.log(group["train_loss"]).mean() - target) for e, group in groups.items()}
    nearest = min(off, key=lambda e: abs(off[e]))
    matched = abs(off[nearest]) < math.log(SAME_FACTOR)
    flaw = "" if matched else f"its training loss is {math.exp(off[nearest]):.2g} times the small one's"
    return Budget(MATCHED, groups[nearest], small, f" (after {nearest:g} epochs)", flaw)


def budgets(table: pd.DataFrame) -> list[Budget]:
    """The comparisons by the scale-free search: as published, with every layer as long as at the start, and at four
    fair budgets, of which trained on is compared with layers of equal norms, too."""
    rows, equal = prepared(table), prepared(table, EQUAL_FREE)

    def pair(name: str, rows: pd.DataFrame, large: str, small: str) -> Budget:
        ours = select(rows, arm=large)
        chosen = f" ({ours['epochs'].iloc[0]:g} epochs)" if large == LARGE_ON and len(ours) else ""
        return Budget(name, ours, select(rows, arm=small), chosen)

    return [
        pair(SEARCHED, rows, LARGE, SMALL),
        pair(EQUAL_NORMS, equal, LARGE, SMALL),
        pair(TRAINED_ON, rows, LARGE_ON, SMALL_ON),
        pair(EQUAL_NORMS_ON, equal, LARGE_ON, SMALL_ON),
        tuned_budget(table, rows),
        matched_budget(rows),
        pair(EQUAL_STEPS, rows, LARGE_ON, SMALL_STEPS),
    ]


IN_WORDS = {
    SEARCHED: "at equal epochs",
    EQUAL_NORMS: "with layers of equal norms",
    TRAINED_ON: "with both trained on",
    EQUAL_NORMS_ON: "with both trained on and layers of equal norms",
    TUNED: "with both learning rates tuned",
    MATCHED: "at matched training loss",
    EQUAL_STEPS: "at equal steps",
}


def gone(table: pd.DataFrame) -> str:
    """At which budgets the large batch is not sharper by the scale-free search, for a sentence."""
    names = [IN_WORDS[b.name] for b in budgets(table) if b.state == "goes"]
    return names[0] if len(names) == 1 else f"in {len(names)} of {len(IN_WORDS)} comparisons"
