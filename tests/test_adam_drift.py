"""Adam's drift: its judge on tables that obey, break and under-decide it; growth laws on distances of known law."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from repro.claims.adam_drift import experiment as drift
from repro.claims.adam_drift import figures
from repro.evidence.spec import Outcome, Scale
from repro.trial import Trial

RATES = (1e-4, 1e-3, 1e-2, 1e-1)
EPOCHS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)


def row(arm, trial, seed, final=True, status="finished", **measures):
    own = dataclasses.replace(trial, init_seed=seed, data_seed=seed)
    fields = {name: getattr(own, name) for name in ("dataset", "batch_size", "lr", "init_seed")}
    return {
        "arm": arm, "key": own.key, "trial": own.to_json(), "status": status, "final": final, **fields, **measures
    }  # fmt: skip


def drift_table(published=5.7, tuned=1.0, cosine=0.12, tuned_cosine=0.9, behind=0.0, power=0.9, sgd_power=0.4,
                seeds=5, sd=0.01, best=(1e-2, 1e-3)):  # fmt: skip
    """Adam's weight norm in SGD's, as published and tuned; its accuracy behind SGD's (fraction); powers of growth."""
    rng = np.random.default_rng(5)
    base = Trial(dataset="mnist", epochs=30)
    out = []

    def noisy(value):
        return value * np.exp(rng.normal(0, sd))

    for arm, norm, cos, grows in (
        (drift.PUBLISHED_SGD, 45.0, 0.98, sgd_power),
        (drift.PUBLISHED_ADAM, 45.0 * published, cosine, power),
    ):
        for seed in range(seeds):
            scale = noisy(6.0)
            for epoch in EPOCHS:
                measures = {"epoch": epoch, "weight_distance": scale * epoch**grows, "weight_norm": noisy(norm)}
                out.append(row(arm, base, seed, epoch == 30, cosine_1=noisy(cos), **measures))
    for arm, norm, cos, lost, at in (
        ("SGD", 45.0, 0.95, 0, best[0]),
        ("Adam", 45 * tuned, tuned_cosine, behind, best[1]),
    ):
        for lr in RATES:
            for seed in range(seeds):
                off = 0.0 if lr == at else 0.05
                accuracy = 0.98 - lost - off + rng.normal(0, sd / 20)
                measures = {
                    "epoch": 10.0,
                    "weight_norm": noisy(norm),
                    "weight_distance": noisy(norm / 5),
                    **dict.fromkeys(("cosine_1", "cosine_2", "cosine_3"), noisy(cos)),
                    "validation_accuracy": accuracy,
                    "test_accuracy": accuracy,
                }
                out.append(row(arm, dataclasses.replace(base, lr=lr), seed, **measures))
    return pd.DataFrame(out)


@pytest.mark.parametrize(
    ("table", "outcome"),
    [
        (drift_table(tuned=3.0, tuned_cosine=0.2), Outcome.REPRODUCED),  # obeys, tuned too
        (drift_table(), Outcome.CONDITIONAL),  # the control sinks it: tuned, no drift
        (drift_table(tuned=3.0, tuned_cosine=0.8), Outcome.CONDITIONAL),  # larger, but the start is still seen
        (drift_table(published=1.2), Outcome.NOT_REPRODUCED),  # breaks
        (drift_table(cosine=0.9), Outcome.NOT_REPRODUCED),  # breaks: the start is still seen
        (drift_table(seeds=1), Outcome.INCONCLUSIVE),  # too small
        (drift_table(published=2.05, seeds=3, sd=0.1), Outcome.INCONCLUSIVE),  # too noisy
        (drift_table(best=(1e-1, 1e-3)), Outcome.INCONCLUSIVE),  # SGD's best lies on the edge
        (drift_table(best=(1e-2, 1e-4)), Outcome.INCONCLUSIVE),  # Adam's
        (drift_table().query("arm != 'Adam'"), Outcome.INCONCLUSIVE),
        (drift_table().query("arm != 'Adam, as published'"), Outcome.INCONCLUSIVE),
        (pd.DataFrame({"key": [], "arm": []}), Outcome.INCONCLUSIVE),
        (pd.DataFrame({"key": []}), Outcome.INCONCLUSIVE),
    ],
)
def test_drift_judge(table, outcome):
    verdict = drift.judge(table)
    assert verdict.outcome == outcome, verdict


def part(table, start):
    return next(v for name, v in drift.judge(table).parts.items() if name.startswith(start))


@pytest.mark.parametrize(
    ("fields", "name", "outcome"),
    [
        ({"behind": 0.01}, "Adam generalises", Outcome.REPRODUCED),
        ({"behind": 0.0}, "Adam generalises", Outcome.NOT_REPRODUCED),
        ({"behind": -0.01}, "Adam generalises", Outcome.NOT_REPRODUCED),
        ({"behind": 0.003, "sd": 0.1, "seeds": 3}, "Adam generalises", Outcome.INCONCLUSIVE),
        ({"seeds": 1}, "Adam generalises", Outcome.INCONCLUSIVE),
        ({}, "Distance grows", Outcome.REPRODUCED),
        ({"power": 0.5}, "Distance grows", Outcome.NOT_REPRODUCED),
        ({"sgd_power": 1.2}, "Distance grows", Outcome.NOT_REPRODUCED),
        ({"seeds": 1}, "Distance grows", Outcome.INCONCLUSIVE),
    ],
)
def test_drift_parts(fields, name, outcome):
    verdict = part(drift_table(**fields), name)
    assert verdict.outcome == outcome, verdict


def test_signs_are_adam_minus_sgd():
    ahead = part(drift_table(behind=0.01), "Adam generalises").effects["test accuracy, Adam minus SGD, both tuned"]
    assert ahead.value == pytest.approx(-1, abs=0.1) and ahead.unit.symbol == "points"
    farther = part(drift_table(), "Drift as published").effects[drift.DISTANCE]
    assert farther.value > 1 and farther.unit.log


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (
            drift_table(tuned=3.0, tuned_cosine=0.2),
            r"^Yes\. At ten times its usual rate it goes 5\.\d times .* and tuned 3\.00 times",
        ),
        (drift_table(), r"Tuned, no: the start is still seen, and it goes (1\.0|0\.99|1\.00) times .* as tuned SGD\.$"),
        (drift_table(best=(1e-2, 1e-2)), r"Tuned, no: .*; at its usual rate (1\.0|0\.99|1\.00) times"),
        (drift_table(tuned=1.2, tuned_cosine=0.2), "Tuned, no: its weights are not much larger; it goes 1.20 times"),
        (drift_table(published=1.2), r"^No\. At ten times its usual rate .*cosine .* is 0\.12"),
        (drift_table(seeds=1), "^Not settled: too few seeds"),
        (drift_table(published=2.05, seeds=3, sd=0.1), r"^Not settled\. At ten times .* is too uncertain\.$"),
        (drift_table(best=(1e-1, 1e-3)), "yes: it goes .* at its best learning rate is not settled"),
        (drift_table().query("arm != 'Adam, as published'"), "^Not settled: too few seeds"),
        (pd.DataFrame({"key": []}), "^Not settled"),
    ],
)
def test_drift_answer(table, says):
    told = drift.answer(table, drift.judge(table))
    assert re.search(says, told) and len(told) <= 230, told


def test_the_first_figure_is_adams_distance_over_sgds_three_times():
    dots = figures.ratio_dots(drift_table(best=(1e-2, 1e-2), tuned=1.5))
    assert dots["name"].tolist() == ["at 0.01, as published", "at its default 0.001", "tuned, at 0.01"]
    assert dots["mean"].tolist()[1:] == pytest.approx([1.5, 1.5], rel=0.05) and (dots["none"] == 1).all()
    same = figures.ratio_dots(drift_table())  # where its default is its best
    assert same["name"].tolist() == ["at 0.01, as published", "tuned, at 0.001, its default"]
    assert figures.ratio_dots(pd.DataFrame({"key": [], "arm": []})).empty


def test_the_edge_is_named():
    assert "is the grid's highest" in part(drift_table(best=(1e-1, 1e-3)), "Drift at tuned").reason


def test_a_diverged_seed_is_no_pair():
    table = drift_table()
    table.loc[(table["arm"] == drift.PUBLISHED_ADAM) & (table["init_seed"] < 2), "status"] = "diverged"
    assert next(iter(part(table, "Drift as published").effects.values())).n == 3


GROWTH = {
    "linear": lambda t: 2 + 3 * t,
    "√t": lambda t: 1 + np.sqrt(t),
    "log t": lambda t: 3 + np.log(t),
    drift.POWER: lambda t: 4 * t**0.7,
}


@pytest.mark.parametrize(("law", "grow"), GROWTH.items(), ids=GROWTH)
def test_the_law_that_distances_follow_extrapolates_best(law, grow):
    table = drift_table()
    known = table["arm"].str.endswith("published") & (table["epoch"] > 0)
    table.loc[known, "weight_distance"] = grow(table.loc[known, "epoch"])
    errors = drift.growth(table)
    for _, rows in errors.groupby("series"):
        assert rows.loc[rows["mean"].idxmin(), "name"] == law
        assert rows["mean"].min() < 1e-6 < rows["mean"].nsmallest(2).max()


def test_the_exponent_is_found():
    powers = [drift.exponent(drift_table(), arm).value for arm in (drift.PUBLISHED_SGD, drift.PUBLISHED_ADAM)]
    assert powers == pytest.approx([0.4, 0.9])


def test_the_exponent_is_counted_from_any_epoch():
    """√t is a straight line in the logarithms from the start, and steeper counted from its first epoch."""
    table = drift_table()
    later = drift.exponent(table, drift.PUBLISHED_SGD, 1.0)
    t = np.array(sorted({e for e in table["epoch"] if e > 1}))
    assert later.value == pytest.approx(np.polyfit(np.log(t - 1), np.log(t**0.4 - 1), 1)[0], rel=1e-6)
    assert drift.exponent(table, drift.PUBLISHED_SGD, 0.123).n == 0  # never measured there


def test_distance_a_weight_counts_weights_without_biases():
    effect = drift.judge(drift_table()).parts[drift.AS_PUBLISHED].effects["Adam, as published"]
    adam = drift_table().query("arm == @drift.PUBLISHED_ADAM and final")
    root = (784 * 1024 + 1024 * 1024 + 1024 * 10) ** 0.5
    assert effect.value == pytest.approx(adam["weight_distance"].mean() / root)


def test_drift_at_adams_default_is_told_beside_that_at_its_best():
    def told(best):
        effects = drift.judge(drift_table(tuned=1.5, best=best)).parts["Drift at tuned learning rates"].effects
        return {name: e.value for name, e in effects.items() if "0.001" in name}

    norm, _, cosine, behind = told((1e-2, 1e-2)).values()
    assert behind == pytest.approx(-5, abs=0.2) and norm == pytest.approx(1.5, rel=0.03) and 0.8 < cosine < 1
    assert not told((1e-2, 1e-3)), "where the default is the best there is nothing to add"


def test_the_grid_shows_every_optimizer_at_every_rate_and_marks_what_diverged():
    table = drift_table(tuned=1.5)
    lost = (table["arm"] == "SGD") & (table["lr"] == 0.1) & (table["init_seed"] == 3)
    cells = figures.grid(table.assign(status=table["status"].mask(lost, "diverged"))).set_index(["y", "lr"])
    assert [*dict.fromkeys(cells.index.get_level_values("y"))] == ["SGD", "Adam"]
    assert cells.loc[("SGD", 0.1), "text"] == "×" and np.isnan(cells.loc[("SGD", 0.1), "value"])
    distance, cosine, accuracy = cells.loc[("Adam", 0.01), "text"].split()
    assert float(distance) == pytest.approx(1.5 * 9, rel=0.02) and float(accuracy) == pytest.approx(93, abs=0.2)
    assert float(cosine) == pytest.approx(0.9, abs=0.02)
    assert "SGD at no rate, Adam at no rate" in figures.grid_title(table)
    assert "SGD at no rate, Adam from lr 0.0001 on" in figures.grid_title(
        table.assign(cosine_1=table["cosine_1"].where(table["arm"] != "Adam", 0.2))
    )


def test_drift_design_runs_the_published_cell_and_torch_optimizers_over_decades():
    arms = {s.name: s.trials() for s in drift.design(drift.SETTINGS[Scale.PAPER][0])}
    cells = {(t.optimizer, t.lr, t.batch_size, t.epochs) for a in list(arms)[:2] for t in arms[a]}
    assert cells == {("sgd", 0.01, 64, 30), ("adam", 0.01, 64, 30)}
    tuned = {name: trials for name, trials in arms.items() if not name.endswith("published")}
    assert {"SGD", "momentum", "Nesterov", "AdaGrad", "RMSProp", "Adam", "AdamW"} <= set(tuned)
    for name, trials in tuned.items():
        steps = 11 if name in drift.COMPARED else 6  # steps of half a decade, or of one
        assert np.log10(sorted({t.lr for t in trials})) == pytest.approx(np.linspace(-5, 0, steps), abs=0.03)
        assert {t.evaluate_on for t in trials} == {"both"}


def test_any_arm_alone_and_the_whole_without_it_is_answered():
    whole = drift_table(best=(1e-2, 1e-2))
    for arm in whole["arm"].unique():
        for part in (whole[whole["arm"] == arm], whole[whole["arm"] != arm]):
            told = drift.answer(part, drift.judge(part))
            assert told.endswith(".") and len(told) <= 230 and "nan" not in told and "inf" not in told, told
