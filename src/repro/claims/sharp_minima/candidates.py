"""Sharp minima: which of the candidates for the paper's own set-up its printed accuracies choose, and whether the
sharpness that it then gives is what the paper prints."""

from __future__ import annotations

import numpy as np
import pandas as pd

from repro.claims.sharp_minima.experiment import LARGE_ALL, SETUP, SETUPS, SETUPS_PHI, SMALL_ALL
from repro.claims.sharp_minima.published import ACCURACIES, SHARPNESSES
from repro.evidence.spec import Outcome, Published, Verdict
from repro.evidence.tables import MISSED, by_seed, final, hold_against, next_run, select

MIN_RUNS = 3  # of every candidate
MOST_OFF = 2.0  # standard deviations, of the four accuracies: farther off, a candidate is none


def misfits(table: pd.DataFrame) -> pd.DataFrame:
    """How far every candidate is, after each number of epochs, from the four accuracies that the paper prints: a row a
    candidate and number, with columns of SETUP, `epochs`, `misfit` and `seeds`, least misfit first.

    The misfit is the root mean square of four differences, our mean over seeds minus what is printed, each in standard
    deviations: that which is printed with it and that of one of our runs, added in squares. Ours is pooled over the
    candidates, after as many epochs of the same batch size.
    """
    if not {"arm", "epoch", *SETUP, "train_accuracy", "test_accuracy"} <= set(table.columns):
        return pd.DataFrame(columns=[*SETUP, "epochs", "misfit", "seeds"])
    rows = select(table, arm=SETUPS, status="finished")
    rows = rows[rows["epoch"] > 0].assign(epochs=rows["epoch"].round())
    if rows["batch_size"].nunique() < 2:
        return misfits(pd.DataFrame())
    sizes = {SMALL_ALL: rows["batch_size"].min(), LARGE_ALL: rows["batch_size"].max()}
    by = [*SETUP, "epochs"]
    off = []
    for (arm, column), (printed, sd) in ACCURACIES.items():
        cells = 100 * select(rows, batch_size=sizes[arm]).set_index([*by, "init_seed"])[column].unstack("init_seed")
        ours = cells.var(axis=1).groupby("epochs").transform("mean")
        apart = (cells.mean(axis=1) - float(printed)) / np.sqrt(float(sd) ** 2 + ours)
        off.append(pd.DataFrame({"square": apart**2, "seeds": cells.count(axis=1)}))
    both = pd.concat(off).groupby(by)
    known = both["square"].count() == len(ACCURACIES)
    found = pd.DataFrame({"misfit": both["square"].mean().pow(0.5), "seeds": both["seeds"].min()})[known]
    return found.reset_index().sort_values("misfit", kind="stable", ignore_index=True)


def described(candidate: pd.Series) -> str:
    """In words: "pixels / 255, ε = 1e-06, 10 epochs"."""
    pixels = "pixels / 255" if candidate["preprocessing"] == "unit" else "standardised pixels"
    return f"{pixels}, ε = {candidate['norm_eps']:g}, {candidate['epochs']:.0f} epochs"


def _held(number: Published, rows: pd.DataFrame) -> str | None:
    values = list(by_seed(rows, number.column or "", number.factor).values())
    return hold_against(number, next_run(number, values)) if len(values) >= MIN_RUNS else None


def missed_by_each(table: pd.DataFrame) -> list[tuple[int, int]]:
    """Of every candidate whose sharpness was measured: how many of the printed φ in full space it misses, of how many.
    Here φ is over a part of the training images."""
    rows = final(table, arm=SETUPS_PHI)
    sizes = {SMALL_ALL: rows["batch_size"].min(), LARGE_ALL: rows["batch_size"].max()}
    counts = []
    for _, of_one in rows.groupby(list(SETUP)):
        whole = [n for n in SHARPNESSES if n.where["arm"] in sizes]
        held = [h for n in whole if (h := _held(n, select(of_one, batch_size=sizes[n.where["arm"]])))]
        counts.append((held.count(MISSED), len(held)))
    return counts


def _spread(counts: list[int]) -> str:
    return " to ".join(str(n) for n in dict.fromkeys((min(counts), max(counts))))


def judge_candidates(table: pd.DataFrame) -> Verdict:
    found = misfits(table)
    least = found.drop_duplicates(list(SETUP))
    if len(least) < 2 or found["seeds"].min() < MIN_RUNS:
        return Verdict(Outcome.INCONCLUSIVE, "The candidates for the paper's set-up have not been run.")
    best, off = found.iloc[0], int((least["misfit"] > MOST_OFF).sum())
    told = (
        f"Of {len(least)} candidates the printed accuracies choose {described(best)}, off by {best['misfit']:.1f} "
        f"standard deviations (root mean square of four); {off} of the {len(least)} are off by more than "
        f"{MOST_OFF:g}, whatever the number of epochs."
    )
    if best["misfit"] > MOST_OFF:
        return Verdict(Outcome.NOT_REPRODUCED, told)
    held = [h for number in SHARPNESSES if (h := _held(number, final(table, **number.where)))]
    if len(held) < len(SHARPNESSES):
        return Verdict(Outcome.INCONCLUSIVE, f"{told} Its sharpness has not been measured.")
    missed = held.count(MISSED)
    told = f"{told} Of the {len(held)} printed φ it misses {missed}."
    rivals = missed_by_each(table)
    if rivals:
        told = f"{told} Of {rivals[0][1]} in full space the candidates miss {_spread([m for m, _ in rivals])}."
    if missed == len(held):
        return Verdict(Outcome.NOT_REPRODUCED, told)
    return Verdict(Outcome.CONDITIONAL if missed else Outcome.REPRODUCED, told)
