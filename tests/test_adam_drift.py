"""Adam's drift: its judge on tables that obey, break and under-decide it; growth laws on distances of known law."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from repro.claims.adam_drift import experiment as plan
from repro.claims.adam_drift import figures, growth
from repro.claims.adam_drift import judgement as drift
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


def drift_table(published=5.7, tuned=1.0, cosine=0.12, tuned_cosine=0.9, behind=0.0, power=1.0, sgd_power=0.4,
                seeds=5, sd=0.01, best=(1e-2, 1e-3), jitter=1e-3, near=False):  # fmt: skip
    """Adam's weight norm in SGD's, as published and tuned; its accuracy behind SGD's (fraction); powers of growth, of
    distances that `jitter`. `near`: one rate of Adam beside its best is as good on held-out images, and tests worse by
    two points."""
    rng = np.random.default_rng(5)
    base = Trial(dataset="mnist", epochs=30)
    out = []

    def noisy(value):
        return value * np.exp(rng.normal(0, sd))

    for arm, norm, cos, grows in (
        (plan.PUBLISHED_SGD, 45.0, 0.98, sgd_power),
        (plan.PUBLISHED_ADAM, 45.0 * published, cosine, power),
    ):
        for seed in range(seeds):
            scale = noisy(6.0)
            for epoch in EPOCHS:
                distance = scale * (2 * (epoch > 0) + epoch**grows) * np.exp(rng.normal(0, jitter))
                measures = {"epoch": epoch, "weight_distance": distance, "weight_norm": noisy(norm)}
                out.append(row(arm, base, seed, epoch == 30, cosine_1=noisy(cos), **measures))
    for arm, norm, cos, lost, at in (
        ("SGD, tuned", 45.0, 0.95, 0, best[0]),
        ("Adam, tuned", 45 * tuned, tuned_cosine, behind, best[1]),
    ):
        for lr in RATES:
            for seed in range(seeds):
                beside = near and arm == "Adam, tuned" and lr == at * 10
                off = 0.0 if lr == at or beside else 0.05
                accuracy = 0.98 - lost - off + rng.normal(0, sd / 20)
                measures = {
                    "epoch": 10.0,
                    "weight_norm": noisy(norm),
                    "weight_distance": noisy(norm / 5),
                    **dict.fromkeys(("cosine_1", "cosine_2", "cosine_3"), noisy(cos)),
                    "validation_accuracy": accuracy + 0.002 * beside * (1 if seed % 2 else -1),
                    "test_accuracy": accuracy - 0.02 * beside,
                }
                out.append(row(arm, dataclasses.replace(base, lr=lr), seed, **measures))
    return pd.DataFrame(out)


@pytest.mark.parametrize(
    ("table", "outcome"),
    [
        (lambda: drift_table(tuned=3.0, tuned_cosine=0.2), Outcome.REPRODUCED),  # obeys, tuned too
        (lambda: drift_table(), Outcome.CONDITIONAL),  # the control sinks it: tuned, no drift
        (lambda: drift_table(tuned=3.0, tuned_cosine=0.8), Outcome.CONDITIONAL),  # larger, but the start is still seen
        (lambda: drift_table(published=1.2), Outcome.NOT_REPRODUCED),  # breaks
        (lambda: drift_table(cosine=0.9), Outcome.NOT_REPRODUCED),  # breaks: the start is still seen
        (lambda: drift_table(seeds=1), Outcome.INCONCLUSIVE),  # too small
        (lambda: drift_table(published=2.05, seeds=3, sd=0.1), Outcome.INCONCLUSIVE),  # too noisy
        (lambda: drift_table(best=(1e-1, 1e-3)), Outcome.INCONCLUSIVE),  # SGD's best lies on the edge
        (lambda: drift_table(best=(1e-2, 1e-4)), Outcome.INCONCLUSIVE),  # Adam's
        (lambda: drift_table().query("arm != 'Adam, tuned'"), Outcome.INCONCLUSIVE),
        (lambda: drift_table().query("arm != 'Adam, as published'"), Outcome.INCONCLUSIVE),
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
        ({"power": 0.7}, "Distance grows", Outcome.CONDITIONAL),  # straighter than SGD's, and bent
        ({"power": 0.3}, "Distance grows", Outcome.NOT_REPRODUCED),  # the more bent
        ({"sgd_power": 1.0}, "Distance grows", Outcome.NOT_REPRODUCED),  # SGD's is a line too
        ({"power": 0.75, "sgd_power": 0.75, "jitter": 0.05}, "Distance grows", Outcome.INCONCLUSIVE),
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
            r"^Yes\. At ten times its usual rate it goes 5\.\d times .* and tuned (3\.00|2\.99) times",
        ),
        (
            lambda: drift_table(),
            r"Tuned, no: the start is still seen, and it goes (1\.0|0\.99|1\.00) times .* as tuned SGD\.$",
        ),
        (lambda: drift_table(best=(1e-2, 1e-2)), r"Tuned, no: .*; at its usual rate (1\.0|0\.99|1\.00) times"),
        (
            lambda: drift_table(tuned=1.2, tuned_cosine=0.2),
            "Tuned, no: its weights are not much larger; it goes 1.20 times",
        ),
        (lambda: drift_table(published=1.2), r"^No\. At ten times its usual rate .*cosine .* is 0\.1[12]"),
        (lambda: drift_table(seeds=1), "^Not settled: too few seeds"),
        (lambda: drift_table(published=2.05, seeds=3, sd=0.1), r"^Not settled\. At ten times .* is too uncertain\.$"),
        (lambda: drift_table(best=(1e-1, 1e-3)), "yes: it goes .* at its best learning rate is not settled"),
        (lambda: drift_table().query("arm != 'Adam, as published'"), "^Not settled: too few seeds"),
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
    table.loc[(table["arm"] == plan.PUBLISHED_ADAM) & (table["init_seed"] < 2), "status"] = "diverged"
    assert next(iter(part(table, "Drift as published").effects.values())).n == 3


GROWTH = {
    "linear": lambda t: 2 + 3 * t,
    "√t": lambda t: 1 + np.sqrt(t),
    "log t": lambda t: 3 + np.log(t),
    growth.POWER: lambda t: 4 * t**0.7,
}


@pytest.mark.parametrize(("law", "grow"), GROWTH.items(), ids=GROWTH)
def test_the_law_that_distances_follow_extrapolates_best(law, grow):
    table = drift_table()
    known = table["arm"].str.endswith("published") & (table["epoch"] > 0)
    table.loc[known, "weight_distance"] = grow(table.loc[known, "epoch"])
    errors = growth.growth(table)
    for _, rows in errors.groupby("series"):
        assert rows.loc[rows["mean"].idxmin(), "name"] == law
        assert rows["mean"].min() < 1e-6 < rows["mean"].nsmallest(2).max()


def test_what_a_law_leaves_unexplained():
    """A path that follows a law leaves it nothing; of one that is drawn at every epoch, the same as numpy's."""
    table = drift_table()
    arm = table["arm"] == plan.PUBLISHED_SGD
    known = arm & (table["epoch"] > 0)
    table.loc[known, "weight_distance"] = 7 + 2 * np.sqrt(table.loc[known, "epoch"])
    assert growth.left_unexplained(table, plan.PUBLISHED_SGD, "√t") == pytest.approx([0] * 5, abs=1e-9)
    every = pd.concat([table[arm & (table["init_seed"] == 0) & (table["epoch"] == 1)]] * 30, ignore_index=True)
    t = np.arange(1.0, 31)
    every = every.assign(epoch=t, weight_distance=np.log(t), status="finished")
    assert growth.left_unexplained(every, plan.PUBLISHED_SGD, "linear") == pytest.approx(
        [1 - np.corrcoef(t, np.log(t))[0, 1] ** 2],
        rel=0.01,  # the last epoch counts as half
    )


def test_a_checkpoint_counts_as_the_epochs_it_stands_for():
    """Left out of a straight path, the checkpoints between change nothing; of a bent one, hardly anything."""
    t = np.arange(1.0, 31)
    rows = pd.concat([drift_table().query("arm == @plan.PUBLISHED_SGD and init_seed == 0 and epoch == 1")] * 30)
    every = rows.assign(epoch=t, weight_distance=t**0.5, status="finished")
    few = every[every["epoch"].isin([1.0, 2.0, 5.0, 10.0, 20.0, 30.0])]
    all_of_them, some = (growth.left_unexplained(x, plan.PUBLISHED_SGD, "linear")[0] for x in (every, few))
    assert some == pytest.approx(all_of_them, rel=0.35)


def test_the_luck_of_choosing_a_rate_counts():
    """Where two rates do equally well on held-out images and not on test images, the interval holds both."""
    sure, lucky = (
        part(drift_table(sd=0.002, near=near), "Adam generalises").effects.popitem()[1] for near in (False, True)
    )
    assert sure.high - sure.low < 0.5 < 1.5 < lucky.high - lucky.low


def test_distance_a_weight_counts_weights_without_biases():
    effect = drift.judge(drift_table()).parts[drift.AS_PUBLISHED].effects["Adam, as published"]
    adam = drift_table().query("arm == @plan.PUBLISHED_ADAM and final")
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
    table = table.assign(arm=table["arm"].str.removesuffix(", tuned"))
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


def test_drift_design():
    """The published cell; the two that are compared, tuned as long; every optimizer over decades."""
    arms = {s.name: s.trials() for s in plan.design(plan.SETTINGS[Scale.PAPER][0])}
    cells = {(t.optimizer, t.lr, t.batch_size, t.epochs, t.drop_last) for a in list(arms)[:2] for t in arms[a]}
    assert cells == {("sgd", 0.01, 64, 30, False), ("adam", 0.01, 64, 30, False)}
    for name, rates in (("SGD, tuned", (0.0316, 0.1, 0.316, 1)), ("Adam, tuned", (3.16e-5, 1e-4, 3.16e-4, 1e-3))):
        assert {t.lr for t in arms[name]} == set(rates)
        assert {(t.epochs, t.evaluate_on, t.drop_last) for t in arms[name]} == {(30, "both", True)}
        assert {t.init_seed for t in arms[name]} == set(range(5))
    for name in plan.OPTIMIZERS:
        steps, seeds = (11, 3) if name in plan.COMPARED else (6, 1)  # steps of half a decade, or of one
        assert np.log10(sorted({t.lr for t in arms[name]})) == pytest.approx(np.linspace(-5, 0, steps), abs=0.03)
        assert {t.init_seed for t in arms[name]} == set(range(seeds))


def test_any_arm_alone_and_the_whole_without_it_is_answered():
    whole = drift_table(best=(1e-2, 1e-2))
    for arm in whole["arm"].unique():
        for part in (whole[whole["arm"] == arm], whole[whole["arm"] != arm]):
            told = drift.answer(part, drift.judge(part))
            assert told.endswith(".") and len(told) <= 230 and "nan" not in told and "inf" not in told, told
