"""Sharp minima: how it is judged, and the reader's answer."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from repro.claims.sharp_minima.candidates import judge_candidates
from repro.claims.sharp_minima.experiment import (
    EQUAL_FREE,
    EQUAL_NORMS,
    EQUAL_NORMS_ON,
    EQUAL_STEPS,
    LARGE,
    LARGE_KEPT,
    LARGE_ON,
    LARGE_ON_KEPT,
    LARGE_RATES,
    MATCHED,
    OTHER_EPOCHS,
    PUBLISHED_SEARCH,
    RESCALED,
    SCALE_FREE,
    SEARCHED,
    SMALL,
    SMALL_KEPT,
    SMALL_ON,
    SMALL_ON_KEPT,
    SMALL_RATES,
    SMALL_STEPS,
    TRAINED_ON,
    TUNED,
    decades,
    prepared,
)
from repro.evidence.intervals import (
    Estimate,
    Unit,
    geometric,
    mean_interval,
    mean_rank_correlation,
    paired_difference,
    paired_values,
)
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.tables import by_seed, final, select
from repro.evidence.tuning import tune
from repro.evidence.words import bracketed, value

SAME_FACTOR = 2.0  # sharpnesses within this factor count as the same, training losses as matched
WEAK = 0.3  # a rank correlation below this predicts too little to be of use
MIN_PAIRS = 3

# What numbers of the verdict count

ALIKE = (1 / SAME_FACTOR, SAME_FACTOR)
SHARPER = Unit(
    "times", "Sharpness, large batch over small, times", 1.0, ("large batch flatter", "sharper"), ALIKE, log=True
)
WORSE = Unit("points", "Test error, large batch minus small, percentage points", 0.0, ("large batch better", "worse"))
RANKED = Unit("", "Rank correlation of φ and test error (Spearman's ρ)", 0.0, ("sharper tests better", "worse"))
FOUND = Unit("times", "φ, scale-free search over the published one, times", 1.0, ("less", "more"), ALIKE, log=True)
RESIZED = Unit("times", "φ, after rescaling over before, times", 1.0, ("smaller", "larger"), ALIKE, log=True)


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


def prediction(rows: pd.DataFrame, column: str = "test_error", within: bool = False) -> Estimate:
    """Spearman's ρ between φ and the test error, or another `column`, over the runs of one seed, averaged over seeds;
    `within`: over those of one arm, averaged over arms first."""
    seeds = []
    for _, runs in rows.astype({column: float}).groupby("init_seed"):
        arms = [arm for _, arm in runs.groupby("arm")] if within else [runs]
        seeds.append([(arm["decades"], arm[column]) for arm in arms])
    return mean_rank_correlation(seeds)


def grid_runs(table: pd.DataFrame) -> pd.DataFrame:
    """The runs of both batch sizes at every learning rate, of the seeds of which all have finished."""
    rows = prepared(table)
    rows = rows[rows["arm"].isin([SMALL_RATES, LARGE_RATES])]
    runs = rows.groupby("init_seed")["key"].transform("count")
    return rows[runs == runs.max()]


def judge_prediction(table: pd.DataFrame) -> Verdict:
    rows = grid_runs(table)
    across, within = prediction(rows).of(RANKED), prediction(rows, within=True).of(RANKED)
    effects = {ACROSS: across, "within a batch size": within}
    if rows["arm"].nunique() < 2 or across.n < MIN_PAIRS:
        return Verdict(Outcome.INCONCLUSIVE, "Too few runs at several learning rates.", effects)
    told = (
        f"Over {len(rows)} runs at {rows['lr'].nunique()} learning rates ρ is {bracketed(across)}, and "
        f"{bracketed(within)} within a batch size"
    )
    if across.low > 0 and within.low > 0:
        return Verdict(Outcome.REPRODUCED, f"{told}: sharper runs err more.", effects)
    if across.low > 0:
        reason = f"{told}: φ tells batch sizes apart, and among runs of one says nothing that can be seen."
        return Verdict(Outcome.CONDITIONAL, reason, effects)
    if across.high < WEAK:
        return Verdict(Outcome.NOT_REPRODUCED, f"{told}: sharper runs do not err more.", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{told}: too uncertain to say.", effects)


def judge_rescaling(table: pd.DataFrame) -> Verdict:
    needed = {"sharpness_rescaled", "rescaling_difference"}
    rows = select(prepared(table, PUBLISHED_SEARCH), arm=RESCALED)
    if rows.empty or not needed <= set(rows.columns):
        return Verdict(Outcome.INCONCLUSIVE, "The rescaled networks have not been run.")
    change = mean_interval((decades(rows["sharpness_rescaled"]) - rows["decades"]).tolist())
    outputs = rows["rescaling_difference"].max()
    effects = {"a network without batch norm, rescaled": times(change, RESIZED)}
    if change.n < MIN_PAIRS:
        return Verdict(Outcome.INCONCLUSIVE, "Too few rescaled networks.", effects)
    same = f"outputs that differ by {outputs:.0g} at most" if outputs else "the same outputs"
    told = f"With {same}, φ becomes {bracketed(times(change, RESIZED), 'times')} what it was"
    if not outputs < 1e-10:
        return Verdict(Outcome.INCONCLUSIVE, f"{told}: the functions are not the same.", effects)
    margin = math.log10(SAME_FACTOR)
    if change.within(margin):
        return Verdict(Outcome.REPRODUCED, f"{told}.", effects)
    if change.low > margin or change.high < -margin:
        return Verdict(Outcome.NOT_REPRODUCED, f"{told}: φ is a property of the parameters.", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{told}: too uncertain to say.", effects)


OTHER_MEASURES = {  # by name: the column, and the two arms
    "φ at half the ε": ("sharpness_half", LARGE, SMALL),
    "φ, 100 random dimensions, unit columns": ("sharpness_manifold", LARGE, SMALL),
    "φ, 100 random dimensions, entries of unit variance": ("sharpness_manifold_wide", LARGE, SMALL),
    "largest eigenvalue of the Hessian": ("largest_eigenvalue", LARGE, SMALL),
    "φ, statistics kept": (PUBLISHED_SEARCH, LARGE_KEPT, SMALL_KEPT),
    "φ, statistics kept, scale-free search": (SCALE_FREE, LARGE_KEPT, SMALL_KEPT),
    "φ, statistics kept, trained on, scale-free search": (SCALE_FREE, LARGE_ON_KEPT, SMALL_ON_KEPT),
}


def judge_published(table: pd.DataFrame) -> Verdict:
    """The comparison as published: equal epochs, one learning rate, ten iterations from y = 0."""
    rows = prepared(table, PUBLISHED_SEARCH)
    small, large = (select(rows, arm=arm) for arm in (SMALL, LARGE))
    sharper = difference(large, small)
    effects = {PHI: times(sharper)}
    for name, (column, one, other) in OTHER_MEASURES.items():
        if column in table:
            known = prepared(table, column)
            effects[name] = times(difference(select(known, arm=one), select(known, arm=other)))
    worse = difference(large, small, "test_error").of(WORSE)
    effects["test error"] = worse
    if sharper.n < MIN_PAIRS:
        return Verdict(Outcome.INCONCLUSIVE, f"Too few pairs of seeds that finished: {sharper.n}.", effects)
    told = (
        f"At equal epochs and one learning rate the large batch ends {bracketed(effects[PHI], 'times')} as sharp as "
        f"the small one. Test error, large minus small: {bracketed(worse, 'points')}."
    )
    flatter = [
        f"{name} ({value(effects[name])} times)"
        for name in OTHER_MEASURES
        if name in effects and effects[name].high < 1
    ]
    if sharper.low > 0:
        but = f" It is flatter by {'; '.join(flatter)}." if flatter else ""
        return Verdict(Outcome.REPRODUCED, told + but, effects)
    if sharper.high < 0 or sharper.within(math.log10(SAME_FACTOR)):
        return Verdict(Outcome.NOT_REPRODUCED, told, effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{told} Whether it is sharper is too uncertain to say.", effects)


def judge_fair(table: pd.DataFrame) -> Verdict:
    """Whether the large batch is sharper by the scale-free search, and by it at every fair budget, whatever the size
    of the layers."""
    found = budgets(table)
    effects = {}
    for budget in found:
        effects[f"φ, {budget.name}"] = times(budget.sharper)
        if budget.name not in (SEARCHED, EQUAL_NORMS, EQUAL_NORMS_ON):  # whose runs are those of others
            effects[f"test error, {budget.name}"] = difference(budget.large, budget.small, "test_error").of(WORSE)
    told = f"Large over small: {'; '.join(b.told for b in found)}."
    states = {b.state for b in found}
    if states == {"stays"}:
        return Verdict(Outcome.REPRODUCED, f"The large batch stays sharper in every comparison. {told}", effects)
    if "goes" in states:
        return Verdict(Outcome.NOT_REPRODUCED, f"The large batch is not sharper {gone(table)}. {told}", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"Not every comparison is settled. {told}", effects)


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


def judge_search(table: pd.DataFrame) -> Verdict:
    """Whether the published search finds the maximum that φ is defined by, or at least that of the scale-free one."""
    rows = prepared(table, PUBLISHED_SEARCH)
    shortfalls = {}
    if SCALE_FREE in rows:
        rows = rows.dropna(subset=[SCALE_FREE])
        rows = rows.assign(shortfall=decades(rows[SCALE_FREE]) - rows["decades"])
        shortfalls = {str(arm): mean_interval(group["shortfall"].tolist()) for arm, group in rows.groupby("arm")}
    effects = {arm: times(e, FOUND) for arm, e in shortfalls.items()}
    if not shortfalls or min(e.n for e in shortfalls.values()) < MIN_PAIRS:
        return Verdict(Outcome.INCONCLUSIVE, "Too few networks searched both ways.", effects)
    margin = math.log10(SAME_FACTOR)
    sure = [arm for arm, e in shortfalls.items() if e.value > margin and e.low > 0]
    worst = max(sure or shortfalls, key=lambda arm: shortfalls[arm].value)
    told = bracketed(effects[worst], "times")
    told = f"A search that fills the box finds {told} the φ of the published one for the {worst}"
    if sure:
        return Verdict(Outcome.NOT_REPRODUCED, f"{told}, where it differs most.", effects)
    if all(e.high < margin for e in shortfalls.values()):
        return Verdict(Outcome.REPRODUCED, f"{told}, where it differs most.", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{told}: too uncertain to say.", effects)


SETUP_FOUND = "The numbers printed for F1, by the set-up that its accuracies choose"
AS_PUBLISHED = "“large-batch methods tend to converge to sharp minimizers”, as published"
AT_FAIR_BUDGETS = "The same by a scale-free search, and at fair budgets"
PREDICTS = "“sharp minima lead to poorer generalization”, at fair budgets"
SEARCH = "Ten iterations of L-BFGS-B find the maximum"
FUNCTION = "φ is a property of the function that was learnt"
PHI, ACROSS = "φ", "over both batch sizes and every learning rate"  # effects


def judge(table: pd.DataFrame) -> Verdict:
    if "arm" not in table or table.empty:
        return Verdict(Outcome.INCONCLUSIVE, "No trial has been run.")
    published, fair = judge_published(table), judge_fair(table)
    parts = {
        SETUP_FOUND: judge_candidates(table),
        AS_PUBLISHED: published,
        AT_FAIR_BUDGETS: fair,
        PREDICTS: judge_prediction(table),
        SEARCH: judge_search(table),
        FUNCTION: judge_rescaling(table),
    }
    if published.outcome != Outcome.REPRODUCED:
        return Verdict(published.outcome, published.reason, parts=parts)
    if fair.outcome == Outcome.NOT_REPRODUCED:
        reason = f"{published.reason} By a scale-free search it is not sharper {gone(table)}."
        return Verdict(Outcome.CONDITIONAL, reason, parts=parts)
    if fair.outcome == Outcome.REPRODUCED:
        reason = f"{published.reason} By a scale-free search it is sharper too, in all {len(IN_WORDS)} comparisons."
        return Verdict(Outcome.REPRODUCED, reason, parts=parts)
    reason = f"{published.reason} By a scale-free search and at fair budgets it is not settled."
    return Verdict(fair.outcome, reason, parts=parts)


# The reader's answer


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    published, predicts = (verdict.parts.get(name) for name in (AS_PUBLISHED, PREDICTS))
    if not published or not predicts or published.effects[PHI].n < MIN_PAIRS:
        return "Not settled: too few pairs of a small and a large batch have been run."
    sharper = published.effects[PHI]
    small, large = (select(final(table), arm=arm)["batch_size"].iloc[0] for arm in (SMALL, LARGE))
    ends = f"B = {large} ends {bracketed(sharper, 'times')} as sharp as B = {small}"
    then = foretold(predicts)
    if verdict.outcome == Outcome.REPRODUCED:
        return f"Yes: {ends}, and is sharper in every other comparison. {then}"
    if verdict.outcome == Outcome.CONDITIONAL:
        return f"As published, yes: {ends}. By a scale-free search, not {gone(table)}. {then}"
    if verdict.outcome == Outcome.NOT_REPRODUCED:
        return f"No: {ends}. {then}"
    if published.outcome == Outcome.REPRODUCED:
        return f"As published, yes: {ends}. At fair budgets it is not settled. {then}"
    return f"Not settled: {ends}. {then}"


def foretold(predicts: Verdict) -> str:
    """Whether sharp means worse, in a sentence."""
    across = predicts.effects[ACROSS]
    told = f"ρ = {bracketed(across)}"
    if predicts.outcome == Outcome.REPRODUCED:
        return f"Sharper runs test worse: {told}."
    if predicts.outcome == Outcome.CONDITIONAL:
        return f"Sharper runs test worse, but not among those of one batch size: {told}."
    if predicts.outcome == Outcome.NOT_REPRODUCED:
        return f"Sharper runs do not test worse: {told}."
    if across.n < MIN_PAIRS:
        return "There are too few runs to say whether sharp means worse."
    return f"Whether sharp means worse is not settled: {told}."
