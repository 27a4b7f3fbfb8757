"""Which initialisation and preprocessing did the post use? Its numbers decide between the candidates."""

from __future__ import annotations

import dataclasses
from typing import Any

import pandas as pd

from repro.evidence.intervals import Unit, mean_interval, most_misses_by_chance, prediction_interval
from repro.evidence.spec import (
    Claim,
    Figure,
    Judged,
    Outcome,
    Published,
    Revision,
    Scale,
    Settings,
    Verdict,
    log_checkpoints,
)
from repro.evidence.tables import (
    MET,
    MISSED,
    NOT_RUN,
    TESTED,
    TOO_WIDE,
    Comparison,
    by_seed,
    compare,
    count,
    final,
    select,
)
from repro.names import choose
from repro.trial import SEEDS, Sweep, Trial, paired_seeds

RULE = (
    "A published number is missed when it lies, by more than half a unit of its last printed digit, outside the 95 % "
    "prediction interval for one more run of ours. Reproduced: no more numbers are missed than chance "
    "explains (binomial, 5 % each, at the 95 % quantile), and every rival setup misses more numbers of "
    "the row SGD B=64 than that. Not reproduced: the reference setup misses more. Conditional: it meets them "
    "but some rival does as well. A twin, normal weights of the same variance, is judged apart: it is told from "
    "uniform ones where it misses more of that row than chance explains; where it does not, what is recovered is the "
    "variance alone. Below paper scale only the norm at the start is tested, by the triangle inequality."
)

REFERENCE = "reference setup"
FEW_SEEDS = 3  # for the rivals and for runs longer than the post's 30 epochs
# rows of the post's tables: arm -> what differs from SGD, B=64, lr 0.01, 30 epochs
ROWS: dict[str, dict[str, Any]] = {
    "SGD B=64": {},
    "SGD B=1024": {"batch_size": 1024},
    "SGD B=1024, lr 0.1": {"batch_size": 1024, "lr": 0.1},
    "Adam B=64": {"optimizer": "adam"},
    "SGD B=1024, 480 epochs": {"batch_size": 1024, "epochs": 480},
}
# rivals: setups the post does not rule out in words, on the row SGD B=64
RIVALS: dict[str, dict[str, Any]] = {
    "PyTorch's default initialisation": {"init": "pytorch"},
    "He initialisation": {"init": "he"},
    "pixels not standardised": {"preprocessing": "unit"},
}
# of the same variance: the row may not tell it apart
TWIN = "normal weights of Glorot's variance"
TWINS: dict[str, dict[str, Any]] = {TWIN: {"init": "glorot_normal"}}
TOLD_APART = "The weights are uniform, not normal"

PAPER = {"dataset": "mnist", "widths": (1024, 1024), "epochs": 30, "seeds": 5, "rows": tuple(ROWS)}
SETTINGS = {
    Scale.SMOKE: ({**PAPER, "dataset": "mnist5k", "epochs": 0.1, "seeds": 2, "rows": ("SGD B=64",)},),
    Scale.LAPTOP: ({**PAPER, "dataset": "mnist5k", "epochs": 1, "seeds": 3, "rows": ("SGD B=64",)},),
    Scale.PAPER: (PAPER,),
}


def design(settings: Settings) -> list[Sweep]:
    sweeps = []
    for row in settings["rows"]:
        choose("row", row, ROWS)
    changes: dict[str, dict[str, Any]] = {row: ROWS[row] for row in settings["rows"]} | RIVALS | TWINS
    for arm, change in changes.items():
        epochs: float = change.get("epochs") or settings["epochs"]
        few = arm in RIVALS | TWINS or epochs > settings["epochs"]
        fields = {"dataset": settings["dataset"], "widths": settings["widths"], **change}
        base = Trial(**{**fields, "epochs": epochs, "checkpoints": log_checkpoints(epochs)})
        seeds = min(settings["seeds"], FEW_SEEDS) if few else settings["seeds"]
        sweeps.append(Sweep(arm, base, {SEEDS: paired_seeds(seeds)}))
    return sweeps


MEASURES = {
    "weight distance": "weight_distance",
    "bias distance": "bias_distance",
    "weight norm": "weight_norm",
    "bias norm": "bias_norm",
    "cosine to the start, layer 1": "cosine_1",
    "cosine to the start, layer 2": "cosine_2",
    "cosine to the start, layer 3": "cosine_3",
    "test accuracy": "test_accuracy",
}
# the post's tables, in the order of MEASURES; "-" where it prints nothing
PRINTED = {
    "SGD B=64": "6.71 0.11 44.9 - 0.988 0.993 0.928 98",
    "SGD B=1024": "- - 44.1 0.07 0.998 0.998 0.978 95",
    "SGD B=1024, lr 0.1": "- - 44.7 0.10 0.991 0.994 0.936 98",
    "SGD B=1024, 480 epochs": "6.63 0.11 44.9 - 0.989 0.993 0.930 98",
    "Adam B=64": "254.3 18.3 258 - 0.124 0.359 0.153 95",
}
PUBLISHED = tuple(
    Published(
        f"{name}, {arm}",
        printed,
        {"arm": arm},
        column,
        unit="%" if "accuracy" in name else "",
        factor=100.0 if "accuracy" in name else 1.0,
        most=1.0 if "cosine" in name else None,
    )
    for arm, line in PRINTED.items()
    for (name, column), printed in zip(MEASURES.items(), line.split(), strict=True)
    if printed != "-"
)
# |‖W‖ - ‖W₀‖| ≤ ‖W - W₀‖, with the post's ‖W‖ = 44.9 and distance 6.71, each to its last printed digit
START_NORM_LOW, START_NORM_HIGH = 44.85 - 6.715, 44.95 + 6.715
NORM = Unit("", "Norm of all weights before training", band=(START_NORM_LOW, START_NORM_HIGH))


def start_norms(table: pd.DataFrame) -> dict[str, float]:
    """Mean norm of all weights before training, by arm."""
    start = select(table, step=0) if "step" in table else table
    return {str(arm): float(rows["weight_norm"].mean()) for arm, rows in start.groupby("arm")}


def compare_rival(table: pd.DataFrame, rival: str) -> list[Comparison]:
    """The published row SGD B=64 against a rival setup's runs."""
    numbers = [n for n in PUBLISHED if n.where["arm"] == "SGD B=64"]
    as_rival = tuple(dataclasses.replace(n, where={"arm": rival}) for n in numbers)
    return compare(dataclasses.replace(CLAIM, published=as_rival), table)


def judge(table: pd.DataFrame) -> Verdict:
    if "arm" not in table or table.empty:
        return Verdict(Outcome.INCONCLUSIVE, "No trial has been run.")
    if set(table["dataset"]) != {"mnist"}:
        return _judge_start(table)
    ours = compare(CLAIM, table)
    tested = count(ours, *TESTED)
    rivals = {rival: compare_rival(table, rival) for rival in RIVALS}
    unrun = [name for name, c in rivals.items() if count(c, NOT_RUN)]
    if not tested or unrun:
        lacking = ", ".join(unrun) or "the reference setup"
        return Verdict(Outcome.INCONCLUSIVE, f"Not enough runs of: {lacking}.")
    missed = count(ours, MISSED)
    allowed = most_misses_by_chance(tested)
    rival_missed = {name: count(c, MISSED) for name, c in rivals.items()}
    row = len(next(iter(rivals.values())))
    told = "; ".join(f"{name}: {k} of {row} missed" for name, k in rival_missed.items())
    wide = f", {count(ours, TOO_WIDE)} {TOO_WIDE}" if count(ours, TOO_WIDE) else ""
    score = f"{count(ours, MET)} of {tested} published numbers met, {missed} missed (chance explains {allowed}){wide}. "
    score += f"{told}."
    if tested < len(ours):
        score += f" {len(ours) - tested} numbers are not run yet."
    parts = {TOLD_APART: judge_twin(table)}
    if missed > allowed:
        return Verdict(Outcome.NOT_REPRODUCED, score, parts=parts)
    if min(rival_missed.values()) <= most_misses_by_chance(row):
        return Verdict(Outcome.CONDITIONAL, f"{score} A rival setup meets them as well.", parts=parts)
    return Verdict(Outcome.REPRODUCED, score, parts=parts)


def judge_twin(table: pd.DataFrame) -> Verdict:
    """Whether the published row tells uniform weights from normal ones of the same variance."""
    compared = compare_rival(table, TWIN)
    if count(compared, NOT_RUN):
        return Verdict(Outcome.INCONCLUSIVE, f"Not enough runs of {TWIN}.")
    missed, row = count(compared, MISSED), len(compared)
    told = f"Of {row} numbers {TWIN} miss {missed}; chance explains {most_misses_by_chance(row)}."
    if missed > most_misses_by_chance(row):
        return Verdict(Outcome.REPRODUCED, told)
    return Verdict(Outcome.NOT_REPRODUCED, f"{told} The numbers tell the variance, not the distribution.")


def _judge_start(table: pd.DataFrame) -> Verdict:
    """Without full MNIST only the norm at the start can be held against the published numbers."""
    norms, inits = start_norms(table), {name for name, change in RIVALS.items() if "init" in change}
    inside = {arm for arm, norm in norms.items() if START_NORM_LOW <= norm <= START_NORM_HIGH}
    told = ", ".join(f"{arm}: {norm:.1f}" for arm, norm in sorted(norms.items()))
    bound = (
        f"The published norm and distance leave {START_NORM_LOW:.1f} to {START_NORM_HIGH:.1f} for the norm at the start"
    )
    effects = {arm: mean_interval(select(table, step=0, arm=arm)["weight_norm"].tolist()).of(NORM) for arm in norms}
    if not {"SGD B=64", *inits} <= norms.keys():
        return Verdict(Outcome.INCONCLUSIVE, f"{bound}; the initialisations have not all been run.", effects)
    if "SGD B=64" not in inside:
        return Verdict(Outcome.NOT_REPRODUCED, f"{bound}; the reference setup has {told}.", effects)
    rivals = inside & inits
    if rivals:
        return Verdict(Outcome.INCONCLUSIVE, f"{bound}; that does not rule out {', '.join(rivals)}.", effects)
    reason = f"{bound} ({told}): the variance of the weights is settled, the preprocessing needs full MNIST."
    return Verdict(Outcome.CONDITIONAL, reason, effects)


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    """Which set-up it is, and how many numbers say so."""
    if "arm" not in table or set(table["dataset"]) != {"mnist"}:
        if verdict.outcome == Outcome.CONDITIONAL:
            return "Weights of Glorot's variance: PyTorch's and He's norms at the start do not fit."
        if verdict.outcome == Outcome.NOT_REPRODUCED:
            return "Not ours: its norm at the start does not fit the published numbers."
        return "Not settled: the norm at the start alone does not single out one initialisation."
    ours = compare(CLAIM, table)
    met = f"{count(ours, MET)} of {count(ours, *TESTED)} published numbers"
    if verdict.outcome == Outcome.REPRODUCED:
        apart = verdict.parts[TOLD_APART].outcome
        weights = "Weights of Glorot's variance" if apart == Outcome.NOT_REPRODUCED else "Glorot-uniform weights"
        either = ", be they uniform or normal" if apart == Outcome.NOT_REPRODUCED else ""
        return f"{weights}{either}, zero biases, standardised pixels: so run, {met} are met, and no rival comes near."
    if verdict.outcome == Outcome.CONDITIONAL:
        return f"Perhaps weights of Glorot's variance and standardised pixels: {met} are met, but by a rival too."
    if verdict.outcome == Outcome.NOT_REPRODUCED:
        return f"Not the one recovered here: it meets only {met}, more misses than chance explains."
    return "Not settled: the set-up and its rivals have not all been run."


def norm_dots(table: pd.DataFrame) -> pd.DataFrame:
    """Norm of all weights before training, by setup, with the band that the published numbers allow."""
    norms = {arm: norm for arm, norm in start_norms(table).items() if arm in ("SGD B=64", *RIVALS, *TWINS)}
    if not norms.keys() & RIVALS.keys():
        return pd.DataFrame()  # nothing to compare yet
    rows = [
        {
            "name": REFERENCE if arm == "SGD B=64" else arm,
            "mean": norm,
            "low": norm,
            "high": norm,
            "n": select(table, step=0, arm=arm)["init_seed"].nunique(),
            "series": "norm at the start",
            "band_low": START_NORM_LOW,
            "band_high": START_NORM_HIGH,
        }
        for arm, norm in sorted(norms.items(), key=lambda item: item[1])
    ]
    return pd.DataFrame(rows)


def norm_title(table: pd.DataFrame) -> str:
    points = norm_dots(table)
    outside = points[(points["mean"] < START_NORM_LOW) | (points["mean"] > START_NORM_HIGH)]
    inits = [name for name, change in RIVALS.items() if "init" in change]
    if set(inits) <= set(outside["name"]) and REFERENCE not in set(outside["name"]):
        return "The norm at the start rules out PyTorch's and He's initialisation"
    return "The norm at the start, by initialisation"


def deviation_dots(table: pd.DataFrame) -> pd.DataFrame:
    """Our mean minus the published number, in half-widths of the widened prediction interval: beyond ±1 is missed."""
    rows: list[dict[str, object]] = []
    if set(table["dataset"]) != {"mnist"}:
        return pd.DataFrame(rows)  # the post's numbers are for MNIST
    for setup in ("SGD B=64", *RIVALS, *TWINS):
        for number in (n for n in PUBLISHED if n.where["arm"] == "SGD B=64"):
            values = list(by_seed(final(table, arm=setup), str(number.column), number.factor).values())
            if len(values) < 2:
                continue
            ours = prediction_interval(values)
            deviation = (ours.value - number.value) / ((ours.high - ours.low + number.resolution) / 2)
            rows.append(
                {
                    "name": number.name.removesuffix(", SGD B=64"),
                    "mean": deviation,
                    "low": deviation,
                    "high": deviation,
                    "series": REFERENCE if setup == "SGD B=64" else setup,
                    "published": number.value,
                    "ours": ours.value,
                    "n": ours.n,
                    "band_low": -1.0,
                    "band_high": 1.0,
                }
            )
    return pd.DataFrame(rows)


def deviation_title(table: pd.DataFrame) -> str:
    drawn = deviation_dots(table)
    missed = drawn.assign(missed=drawn["mean"].abs() > 1).groupby("series")["missed"].sum()
    rivals, allowed = missed.drop([REFERENCE, *TWINS], errors="ignore"), most_misses_by_chance(drawn["name"].nunique())
    if len(rivals) and missed.get(REFERENCE, allowed + 1) <= allowed < rivals.min():
        return "The set-up recovered fits the published row; its rivals miss it"
    return "Ours minus published, by set-up"


CLAIM = Claim(
    id="reference-setup",
    question="Which set-up did the post use?",
    statement=(
        "weights of Glorot's variance, zero biases and standardised pixels are the setup that the post's numbers come "
        "from"
    ),
    source="shen2018",
    counter_claim="PyTorch's default initialisation, He initialisation, or raw pixels would give the same numbers",
    counter_sources=("glorot2010", "he2015"),
    rule=RULE,
    history=(
        Revision("2026-11-20T09:17", "Written, before the first run."),
        Revision("2026-11-21T19:51", "The twin was added and is judged apart, before its runs; nothing else changed."),
    ),
    sentences={
        "The best solutions seem to be about ~6": (Judged(words="As one of the numbers by which the set-up is known"),),
    },
    settings=SETTINGS,
    design=design,
    judge=judge,
    answer=answer,
    advice=(
        "State your initialisation and your preprocessing.",
        "Distances and norms depend on them more than on anything that this post varies.",
    ),
    change="Another set-up that meets these numbers, with weights of another variance or other pixels.",
    published=PUBLISHED,
    figures=(
        Figure(
            "deviation",
            "dots",
            deviation_dots,
            deviation_title,
            "ours minus published, in half-widths of the interval",
            "",
            "Row SGD B=64. Green: what one more run of the setup could have printed: the 95 % "
            "prediction interval over seeds, widened by half a unit of the last printed digit. A marker outside "
            "is a number missed. The axis is logarithmic beyond ±1.",
            x_scale="symlog",
        ),
        Figure(
            "norm-at-start",
            "dots",
            norm_dots,
            norm_title,
            "norm of all weights before training",
            "",
            "Green: what the published norm after training (44.9) and distance travelled (6.71) leave "
            "for the norm before it, by the triangle inequality. A dot is the mean over seeds, whose spread is "
            "smaller than the dot.",
        ),
    ),
    instrument=True,
)
