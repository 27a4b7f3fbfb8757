"""Sharp minima: how it is judged, and the reader's answer."""

from __future__ import annotations

import math

import pandas as pd

from repro.claims.sharp_minima.budgets import (
    ALIKE,
    IN_WORDS,
    MIN_PAIRS,
    SAME_FACTOR,
    budgets,
    difference,
    gone,
    times,
)
from repro.claims.sharp_minima.candidates import judge_candidates
from repro.claims.sharp_minima.experiment import (
    EQUAL_FREE,
    EQUAL_NORMS,
    EQUAL_NORMS_ON,
    LARGE,
    LARGE_FLOAT32,
    LARGE_KEPT,
    LARGE_ON_KEPT,
    LARGE_RATES,
    PUBLISHED_SEARCH,
    RESCALED,
    SCALE_FREE,
    SEARCHED,
    SMALL,
    SMALL_FLOAT32,
    SMALL_KEPT,
    SMALL_ON_KEPT,
    SMALL_RATES,
    decades,
    prepared,
)
from repro.evidence.intervals import (
    Estimate,
    Unit,
    mean_interval,
    mean_rank_correlation,
)
from repro.evidence.spec import Outcome, Verdict
from repro.evidence.tables import final, select
from repro.evidence.words import bracketed, value

WEAK = 0.3  # a rank correlation below this predicts too little to be of use

# What numbers of the verdict count

WORSE = Unit("points", "Test error, large batch minus small, percentage points", 0.0, ("large batch better", "worse"))
RANKED = Unit("", "Rank correlation of φ and test error (Spearman's ρ)", 0.0, ("sharper tests better", "worse"))
FOUND = Unit("times", "φ, scale-free search over the published one, times", 1.0, ("less", "more"), ALIKE, log=True)
RESIZED = Unit("times", "φ, after rescaling over before, times", 1.0, ("smaller", "larger"), ALIKE, log=True)


def prediction(rows: pd.DataFrame, column: str = "test_error", by: str = "decades") -> Estimate:
    """Spearman's ρ between φ, or another column `by`, and the test error, or another `column`, over the runs of one
    seed, averaged over seeds."""
    seeds = rows.astype({column: float, by: float}).groupby("init_seed")
    return mean_rank_correlation([(runs[by], runs[column]) for _, runs in seeds])


def grid_runs(table: pd.DataFrame) -> pd.DataFrame:
    """The runs of both batch sizes at every learning rate, of the seeds of which all have finished."""
    rows = prepared(table)
    rows = rows[rows["arm"].isin([SMALL_RATES, LARGE_RATES])]
    runs = rows.groupby("init_seed")["key"].transform("count")
    return rows[runs == runs.max()]


def judge_prediction(table: pd.DataFrame) -> Verdict:
    rows = grid_runs(table)
    across = prediction(rows).of(RANKED)
    within = {f"within B = {size}": prediction(runs).of(RANKED) for size, runs in rows.groupby("batch_size")}
    effects = {ACROSS: across, **within, "training loss instead of φ": prediction(rows, by="train_loss").of(RANKED)}
    if EQUAL_FREE in rows:
        known = rows.dropna(subset=[EQUAL_FREE])
        effects["φ with layers of equal norms"] = prediction(known, by=EQUAL_FREE).of(RANKED)
    if len(within) < 2 or across.n < MIN_PAIRS:
        return Verdict(Outcome.INCONCLUSIVE, "Too few runs at several learning rates.", effects)
    told = (
        f"Over {len(rows)} runs at {rows['lr'].nunique()} learning rates ρ is {bracketed(across)}; "
        f"{', '.join(f'{name} {bracketed(e)}' for name, e in within.items())}"
    )
    if across.low > 0 and all(e.low > 0 for e in within.values()):
        return Verdict(Outcome.REPRODUCED, f"{told}: sharper runs err more.", effects)
    if across.low > 0:
        reason = f"{told}: sharper runs err more, but not surely among those of either batch size."
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
    "φ, trained in float32": (PUBLISHED_SEARCH, LARGE_FLOAT32, SMALL_FLOAT32),
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
PREDICTS = "“sharp minima lead to poorer generalization”, at every learning rate"
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
        return f"Sharper runs test worse, but not surely within either batch size: {told}."
    if predicts.outcome == Outcome.NOT_REPRODUCED:
        return f"Sharper runs do not test worse: {told}."
    if across.n < MIN_PAIRS:
        return "There are too few runs to say whether sharp means worse."
    return f"Whether sharp means worse is not settled: {told}."
