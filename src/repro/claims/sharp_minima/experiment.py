"""Sharp minima: what is run, and how it is judged."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from repro.evidence.intervals import Estimate, mean_interval, paired_difference, paired_values, rank_correlation
from repro.evidence.spec import Outcome, Scale, Settings, Verdict
from repro.evidence.tables import by_seed, final, select
from repro.evidence.tuning import tune
from repro.trial import SEEDS, Sweep, Trial, paired_seeds

SMALL, LARGE = "small batch", "large batch"
SMALL_SPLIT, LEARNING_RATES = "small batch, validation held out", "large batch, learning rates"
OTHER_EPOCHS, STEPS = "large batch, other epochs", "large batch, equal steps"
SMALL_ON, LARGE_ON = "small batch, trained on", "large batch, trained on"
SMALL_ANEW, LARGE_ANEW = "small batch, statistics anew", "large batch, statistics anew"
SMALL_ON_ANEW, LARGE_ON_ANEW = "small batch, trained on, statistics anew", "large batch, trained on, statistics anew"
RESCALED = "no batch norm, rescaled"
SEARCHED, TRAINED_ON, TUNED, MATCHED, EQUAL_STEPS = (
    "equal epochs",
    "trained on",
    "tuned learning rate",
    "matched training loss",
    "equal steps",
)

SAME_FACTOR = 2.0  # sharpnesses within this factor count as the same, training losses as matched
WEAK = 0.3  # a rank correlation below this predicts too little to be of use
MIN_PAIRS = 3
FREE_PROBE, ANEW_PROBE = "scale-free sharpness", "sharpness, statistics anew"
PUBLISHED_SEARCH, SCALE_FREE = "sharpness", "sharpness_scale_free"  # columns: φ by either search
ANEW, ANEW_FREE = "sharpness_anew", "sharpness_anew_scale_free"  # the same, statistics of batch norm taken anew
FLOOR = 1e-6  # per cent: a smaller sharpness is rounding

PAPER = {
    "dataset": "mnist",
    "train_size": 0,  # all of it
    "widths": (512,) * 5,  # F1
    "batch_sizes": (256, 6000),
    "lr": 0.001,  # Adam's default
    "lr_steps": 6,  # of the grid: half of lr, lr, and so on, each twice the last
    "epochs": 10,
    "epochs_on": 100,  # of both, trained on: as many as the paper's other experiments have
    "other_epochs": (60, 80, 120, 150),  # of the large batch, per cent of the epochs
    "seeds": 5,
    "few_seeds": 3,  # for the fair budgets and the control
    "all_measures": 1,  # 0: sharpness and λ_max alone
}

MNIST5K = {
    **PAPER,
    "dataset": "mnist5k",
    "train_size": 1000,
    "widths": (64, 64, 64),
    "batch_sizes": (10, 100),
    "epochs": 20,
    "epochs_on": 60,
    "other_epochs": (150, 200),
}

SETTINGS = {
    Scale.SMOKE: (
        {
            **MNIST5K,
            "train_size": 400,
            "batch_sizes": (10, 40),
            "widths": (8, 8),
            "lr_steps": 2,
            "epochs": 2,
            "epochs_on": 6,
            "other_epochs": (200,),
            "seeds": 1,
            "few_seeds": 1,
        },
    ),
    Scale.LAPTOP: ({**MNIST5K, "seeds": 3},),
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist", "seeds": 3, "all_measures": 0}),
}

Axes = dict[str | tuple[str, ...], Any]


def design(settings: Settings) -> list[Sweep]:
    """The two batch sizes as published, and trained on; then the large one at every learning rate of a grid, chosen
    among on a validation split, beside the small one on the same split; for fewer and for more epochs, of which one
    number comes nearest to the small one's training loss; and for the small one's steps. Then the small one without
    batch norm; and the first four with the statistics of batch norm taken anew."""
    small, large = min(settings["batch_sizes"]), max(settings["batch_sizes"])
    epochs, widths = settings["epochs"], settings["widths"]
    model: dict[str, Any] = {"model": "mlp", "widths": widths, "batch_norm": True}
    if widths == (512,) * 5:
        model = {"model": "f1"}
    base = Trial(
        dataset=settings["dataset"],
        train_size=settings["train_size"] or None,
        **model,
        optimizer="adam",
        lr=settings["lr"],
        batch_size=small,
        epochs=epochs,
        final_probes=(FREE_PROBE,),
    )
    many, few = (Axes({SEEDS: paired_seeds(min(settings["seeds"], settings[name]))}) for name in ("seeds", "few_seeds"))
    both: tuple[str, ...] = ("sharpness", FREE_PROBE)
    measures = (*both, "curvature", *(("sharpness variants", "landscape") if settings["all_measures"] else ()))
    between = ("interpolation",) if settings["all_measures"] else ()
    held_out = dataclasses.replace(base, evaluate_on="both")
    big = dataclasses.replace(base, batch_size=large)
    base_on, big_on = (dataclasses.replace(t, epochs=settings["epochs_on"]) for t in (base, big))
    grid = [round(settings["lr"] * 2 ** (k - 1), 10) for k in range(settings["lr_steps"])]
    plain = dataclasses.replace(
        base, model="mlp", widths=widths, batch_norm=False, precision="float32", final_probes=("rescaled",)
    )
    measured = dataclasses.replace(
        base, final_probes=(*measures, *between), partner_batch_size=large if between else None
    )
    sweeps = [
        Sweep(SMALL, measured, many),
        Sweep(LARGE, dataclasses.replace(big, final_probes=measures), many),
        Sweep(SMALL_ON, dataclasses.replace(base_on, final_probes=both), few),
        Sweep(LARGE_ON, dataclasses.replace(big_on, final_probes=both), few),
        Sweep(SMALL_SPLIT, held_out, few),
        Sweep(LEARNING_RATES, dataclasses.replace(held_out, batch_size=large), {"lr": grid, **few}),
        Sweep(OTHER_EPOCHS, big, {"epochs": [epochs * share / 100 for share in settings["other_epochs"]], **few}),
        Sweep(STEPS, dataclasses.replace(big, epochs=None, steps=base.num_steps, final_probes=both), few),
        Sweep(RESCALED, plain, few),
    ]
    if settings["all_measures"]:
        firsts = {SMALL_ANEW: base, LARGE_ANEW: big, SMALL_ON_ANEW: base_on, LARGE_ON_ANEW: big_on}
        sweeps += [Sweep(arm, dataclasses.replace(t, final_probes=(ANEW_PROBE,)), few) for arm, t in firsts.items()]
    return sweeps


def prepared(table: pd.DataFrame, column: str = SCALE_FREE) -> pd.DataFrame:
    """The last rows of finished trials that φ is known of, with its decimal logarithm and the test error in per cent.
    `column`: by which search."""
    if not {"arm", column, "test_accuracy", "train_loss"} <= set(table.columns):
        known = ("arm", "key", "init_seed", "epochs", "lr", "batch_size", "train_loss", column)
        return pd.DataFrame(columns=[*known, "decades", "test_error"])
    rows = final(table).dropna(subset=[column])
    return rows.assign(decades=decades(rows[column]), test_error=100 * (1 - rows["test_accuracy"]))


def decades(values: pd.Series) -> pd.Series:
    return np.log10(values.clip(lower=FLOOR))


def difference(large: pd.DataFrame, small: pd.DataFrame, column: str = "decades") -> Estimate:
    """Paired difference over seeds, large minus small."""
    return paired_difference(*paired_values(by_seed(large, column), by_seed(small, column)))


def factor(estimate: Estimate) -> str:
    return f"{float(f'{10**estimate.value:.2g}'):g} times"


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
        return f"{self.name}{self.chosen}: {factor(e)} as sharp{flaw}"


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
    across, within = prediction(rows), prediction(rows, within=True)
    effects = {
        "rank correlation of φ and test error, runs at fair budgets": across,
        "rank correlation of φ and test error, within arms": within,
        "rank correlation of φ and test error, every run at any budget": prediction(prepared(table)),
    }
    told = f"Spearman's ρ over {len(rows)} runs at fair budgets is {across.value:+.2f}, within arms {within.value:+.2f}"
    if len(rows) < 3 * MIN_PAIRS or rows["group"].nunique() < 3:
        return Verdict(Outcome.INCONCLUSIVE, "Too few runs at fair budgets.", effects)
    if across.low > 0 and within.low > 0:
        return Verdict(Outcome.REPRODUCED, f"{told}: sharper runs err more.", effects)
    if across.low > 0:
        reason = f"{told}: φ tells arms apart, and among runs of one arm says nothing that can be seen."
        return Verdict(Outcome.CONDITIONAL, reason, effects)
    if across.high < WEAK:
        return Verdict(Outcome.NOT_REPRODUCED, f"{told}: sharper runs do not err more.", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{told}, too uncertain to say.", effects)


def judge_rescaling(table: pd.DataFrame) -> Verdict:
    needed = {"sharpness_rescaled", "rescaling_difference"}
    rows = select(prepared(table, PUBLISHED_SEARCH), arm=RESCALED)
    if rows.empty or not needed <= set(rows.columns):
        return Verdict(Outcome.INCONCLUSIVE, "The rescaled networks have not been run.")
    change = mean_interval((decades(rows["sharpness_rescaled"]) - rows["decades"]).tolist())
    outputs = rows["rescaling_difference"].max()
    effects = {"φ after rescaling, against before (log₁₀ of the ratio)": change}
    if change.n < MIN_PAIRS:
        return Verdict(Outcome.INCONCLUSIVE, "Too few rescaled networks.", effects)
    same = f"outputs that differ by {outputs:.0g} at most" if outputs else "the same outputs"
    told = f"With {same}, φ becomes {factor(change)} what it was"
    if not outputs < 1e-10:
        return Verdict(Outcome.INCONCLUSIVE, f"{told}: the functions are not the same.", effects)
    margin = math.log10(SAME_FACTOR)
    if change.within(margin):
        return Verdict(Outcome.REPRODUCED, f"{told}.", effects)
    if change.low > margin or change.high < -margin:
        return Verdict(Outcome.NOT_REPRODUCED, f"{told}: φ is a property of the parameters.", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{told}, too uncertain to say.", effects)


OTHER_MEASURES = {  # by name: the column, and the two arms
    "φ at half the ε": ("sharpness_half", LARGE, SMALL),
    "φ on 100 random dimensions, unit columns": ("sharpness_manifold", LARGE, SMALL),
    "φ on 100 random dimensions, entries of unit variance": ("sharpness_manifold_wide", LARGE, SMALL),
    "φ, scale-free search": (SCALE_FREE, LARGE, SMALL),
    "λ_max, the largest eigenvalue of the Hessian": ("largest_eigenvalue", LARGE, SMALL),
    "φ, statistics of batch norm taken anew": (ANEW, LARGE_ANEW, SMALL_ANEW),
    "φ, statistics of batch norm taken anew, scale-free search": (ANEW_FREE, LARGE_ANEW, SMALL_ANEW),
}


def judge_published(table: pd.DataFrame) -> Verdict:
    """The comparison as published: equal epochs, one learning rate, ten iterations from y = 0."""
    rows = prepared(table, PUBLISHED_SEARCH)
    small, large = (select(rows, arm=arm) for arm in (SMALL, LARGE))
    sharper = difference(large, small)
    effects = {"φ, large against small batch (log₁₀ of the ratio)": sharper}
    for name, (column, one, other) in OTHER_MEASURES.items():
        if column in table:
            known = prepared(table, column)
            effects[f"{name} (log₁₀ of the ratio)"] = difference(select(known, arm=one), select(known, arm=other))
    worse = difference(large, small, "test_error")
    effects["test error, large minus small batch (pp)"] = worse
    if sharper.n < MIN_PAIRS:
        return Verdict(Outcome.INCONCLUSIVE, f"Too few pairs of seeds that finished: {sharper.n}.", effects)
    told = f"At equal epochs and one learning rate the large batch ends {factor(sharper)} as sharp as the small one"
    told += f", with {abs(worse.value):.2f} pp {'more' if worse.value > 0 else 'less'} test error"
    told += f" [{worse.low:+.2f}, {worse.high:+.2f}]"
    if sharper.low > 0:
        return Verdict(Outcome.REPRODUCED, f"{told}.", effects)
    if sharper.high < 0 or sharper.within(math.log10(SAME_FACTOR)):
        return Verdict(Outcome.NOT_REPRODUCED, f"{told}.", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{told}, with an interval that holds no difference.", effects)


def judge_fair(table: pd.DataFrame) -> Verdict:
    """Whether the large batch is sharper with the scale-free search, and with it at every fair budget."""
    found = budgets(table)
    effects = {}
    for budget in found:
        effects[f"φ, {budget.name} (log₁₀ of the ratio)"] = budget.sharper
        effects[f"test error, {budget.name} (pp)"] = difference(budget.large, budget.small, "test_error")
    told = "; ".join(b.told for b in found)
    states = {b.state for b in found}
    if states == {"stays"}:
        return Verdict(Outcome.REPRODUCED, f"By a scale-free search the large batch stays sharper: {told}.", effects)
    if "goes" in states:
        gone = ", ".join(b.name for b in found if b.state == "goes")
        reason = f"By a scale-free search the large batch is not sharper at {gone}. {told[0].upper()}{told[1:]}."
        return Verdict(Outcome.NOT_REPRODUCED, reason, effects)
    return Verdict(Outcome.INCONCLUSIVE, f"By a scale-free search it is not settled: {told}.", effects)


def judge_search(table: pd.DataFrame) -> Verdict:
    """Whether the published search finds the maximum that φ is defined by, or at least that of the scale-free one."""
    rows = prepared(table, PUBLISHED_SEARCH)
    shortfalls = {}
    if SCALE_FREE in rows:
        rows = rows.dropna(subset=[SCALE_FREE])
        rows = rows.assign(shortfall=decades(rows[SCALE_FREE]) - rows["decades"])
        shortfalls = {str(arm): mean_interval(group["shortfall"].tolist()) for arm, group in rows.groupby("arm")}
    effects = {
        f"φ, scale-free search against published, {arm} (log₁₀ of the ratio)": e for arm, e in shortfalls.items()
    }
    if not shortfalls or min(e.n for e in shortfalls.values()) < MIN_PAIRS:
        return Verdict(Outcome.INCONCLUSIVE, "Too few networks searched both ways.", effects)
    margin = math.log10(SAME_FACTOR)
    sure = [arm for arm, e in shortfalls.items() if e.value > margin and e.low > 0]
    worst = max(sure or shortfalls, key=lambda arm: shortfalls[arm].value)
    told = f"A search that fills the box finds {factor(shortfalls[worst])} the φ of the published one in {worst}"
    if sure:
        return Verdict(Outcome.NOT_REPRODUCED, f"{told}, where it differs most.", effects)
    if all(e.high < margin for e in shortfalls.values()):
        return Verdict(Outcome.REPRODUCED, f"{told}, where it differs most.", effects)
    return Verdict(Outcome.INCONCLUSIVE, f"{told}, too uncertain to say.", effects)


AS_PUBLISHED = "“large-batch methods tend to converge to sharp minimizers”, as published"
AT_FAIR_BUDGETS = "the same by a scale-free search, and at fair budgets"
PREDICTS = "sharp minimizers generalise worse, at fair budgets"
SEARCH = "ten iterations of L-BFGS-B find the maximum"
FUNCTION = "φ is a property of the function that was learnt"


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
    outcome = Outcome.CONDITIONAL if fair.outcome == Outcome.NOT_REPRODUCED else fair.outcome
    return Verdict(outcome, f"{published.reason} {fair.reason}", parts=parts)
