"""Sharp minima: how it is judged, and the reader's answer."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from repro.claims.sharp_minima.experiment import (
    ANEW,
    ANEW_FREE,
    EQUAL_STEPS,
    LARGE,
    LARGE_ANEW,
    LARGE_ON,
    LEARNING_RATES,
    MATCHED,
    OTHER_EPOCHS,
    PUBLISHED_SEARCH,
    RESCALED,
    SCALE_FREE,
    SEARCHED,
    SMALL,
    SMALL_ANEW,
    SMALL_ON,
    SMALL_SPLIT,
    STEPS,
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
    paired_difference,
    paired_values,
    rank_correlation,
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
    """The large batch at the learning rate of highest validation accuracy, beside the small one on the same split."""
    small, large = (select(rows, arm=arm) for arm in (SMALL_SPLIT, LEARNING_RATES))
    best = None
    if {"final", "validation_accuracy"} <= set(table.columns):
        best = tune(select(table, arm=LEARNING_RATES, final=True), "validation_accuracy", largest=True)
    if best is None:
        return Budget(TUNED, large.iloc[:0], small, flaw="too few learning rates have been run")
    edge = f"that is the {best.edge} of the grid" if best.edge else ""
    return Budget(TUNED, select(large, lr=best.lr), small, f" (lr {best.lr:g})", edge)


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
    """The fair comparisons: the published budget with the scale-free search, and four fair budgets with it."""
    rows = prepared(table)
    searched = Budget(SEARCHED, select(rows, arm=LARGE), select(rows, arm=SMALL))
    large_on = select(rows, arm=LARGE_ON)
    chosen = f" ({large_on['epochs'].iloc[0]:g} epochs)" if len(large_on) else ""
    trained_on = Budget(TRAINED_ON, large_on, select(rows, arm=SMALL_ON), chosen)
    steps = Budget(EQUAL_STEPS, select(rows, arm=STEPS), select(rows, arm=SMALL))
    return [searched, trained_on, tuned_budget(table, rows), matched_budget(rows), steps]


def prediction(rows: pd.DataFrame, column: str = "test_error", within: bool = False) -> Estimate:
    """Spearman's ρ between φ and the test error, or another `column`, over runs; `within`: after the mean of its own
    arm has been taken off every run."""
    columns = rows[["decades", column]].astype(float)
    if within:
        columns = columns - columns.groupby(rows["group"]).transform("mean")
    return rank_correlation(columns["decades"], columns[column], np.random.default_rng(0))


def fair_runs(table: pd.DataFrame) -> pd.DataFrame:
    """Every run at a fair budget, and the small-batch runs that it is held against; `group` names its arm."""
    parts = []
    for budget in budgets(table):
        if budget.name != SEARCHED and not budget.flaw:
            parts.append(budget.large.assign(group=f"large batch, {budget.name}"))
            parts.append(budget.small.assign(group=budget.small["arm"]))
    if not parts:
        return prepared(table).iloc[:0].assign(group="")
    return pd.concat(parts, ignore_index=True).drop_duplicates(["group", "key"])


def judge_prediction(table: pd.DataFrame) -> Verdict:
    rows = fair_runs(table)
    across, within = prediction(rows).of(RANKED), prediction(rows, within=True).of(RANKED)
    effects = {
        ACROSS: across,
        "runs at fair budgets, within arms": within,
        "every run at any budget": prediction(prepared(table)).of(RANKED),
    }
    told = f"Over {len(rows)} runs at fair budgets ρ is {bracketed(across)}, and {bracketed(within)} within arms"
    if len(rows) < 3 * MIN_PAIRS or rows["group"].nunique() < 3:
        return Verdict(Outcome.INCONCLUSIVE, "Too few runs at fair budgets.", effects)
    if across.low > 0 and within.low > 0:
        return Verdict(Outcome.REPRODUCED, f"{told}: sharper runs err more.", effects)
    if across.low > 0:
        reason = f"{told}: φ tells arms apart, and among runs of one arm says nothing that can be seen."
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
    "φ, statistics anew": (ANEW, LARGE_ANEW, SMALL_ANEW),
    "φ, statistics anew, scale-free search": (ANEW_FREE, LARGE_ANEW, SMALL_ANEW),
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
    """Whether the large batch is sharper with the scale-free search, and with it at every fair budget."""
    found = budgets(table)
    effects = {}
    for budget in found:
        effects[f"φ, {budget.name}"] = times(budget.sharper)
        if budget.name != SEARCHED:  # its test error is that of the runs as published
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
    TRAINED_ON: "with both trained on",
    TUNED: "with its learning rate tuned",
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


AS_PUBLISHED = "“large-batch methods tend to converge to sharp minimizers”, as published"
AT_FAIR_BUDGETS = "The same by a scale-free search, and at fair budgets"
PREDICTS = "“sharp minima lead to poorer generalization”, at fair budgets"
SEARCH = "Ten iterations of L-BFGS-B find the maximum"
FUNCTION = "φ is a property of the function that was learnt"
PHI, ACROSS = "φ", "runs at fair budgets"  # effects


def judge(table: pd.DataFrame) -> Verdict:
    if "arm" not in table or table.empty:
        return Verdict(Outcome.INCONCLUSIVE, "No trial has been run.")
    published, fair = judge_published(table), judge_fair(table)
    parts = {
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
        reason = f"{published.reason} By a scale-free search it is sharper too, at this budget and at four fair ones."
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
        return f"Yes: {ends}, and is sharper at every fair budget. {then}"
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
    told = f"over {across.n} runs ρ = {bracketed(across)}"
    if predicts.outcome == Outcome.REPRODUCED:
        return f"Sharper runs test worse: {told}."
    if predicts.outcome == Outcome.CONDITIONAL:
        return f"Sharper settings test worse, not sharper runs of one: {told}."
    if predicts.outcome == Outcome.NOT_REPRODUCED:
        return f"Sharper runs do not test worse: {told}."
    if across.n < 3 * MIN_PAIRS:
        return "There are too few runs to say whether sharp means worse."
    return f"Whether sharp means worse is not settled: {told}."
