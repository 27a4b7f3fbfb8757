"""The claim that the ratio of learning rate to batch size is what matters: judged on tables that obey and break it."""

import json

import independent
import independent_statistics
import numpy as np
import pandas as pd
import pytest

from repro import claims
from repro.claims import noise_collapse
from repro.claims.noise_collapse import experiment, groups, judgement
from repro.evidence.intervals import luck_of
from repro.evidence.spec import Outcome
from repro.names import SpecError

CLAIM = claims.get("noise-collapse")
TRIALS = [(s.name, trial) for s in CLAIM.sweeps("paper") for trial in s.trials()]
BEST = 3.0  # log2 of the noise scale at which accuracy is highest


def hump(x):
    """Accuracy in points by log2 of the noise scale: a hump of one point, and far beyond it a fall."""
    return 90.0 + np.exp(-((x - BEST) ** 2) / 2) - 5.0 * max(x - 4.5, 0.0)


def noise_table(
    *,
    exponent=1.0,
    by_size=1.0,
    momentum=0.0,
    whole=0.0,
    knob=0.0,
    seeds=10,
    sd=0.03,
    apart=0.0,
    tuned=0.0,
    epochs=0.0,
    high=0.0,
):
    """Accuracy is a function of ηN/B, but for what is told: of (ηN/B) with B to the power `exponent`, N to the power
    `by_size`. Points more: `momentum`, with it; `whole`, of batches of half of all images or more; `tuned`, of any
    large batch; `apart`, for each octave of η; `high`, for each octave of η above 1/8; `knob`, for each
    octave of weight decay over B. A share of `epochs` of it all goes by epochs, not by noise."""
    rows, rng = [], np.random.default_rng(0)
    for arm, t in TRIALS:
        if t.init_seed >= seeds:
            continue
        size = t.train_size / 1000
        x = np.log2(t.lr * 1000 / (1 - t.momentum)) + by_size * np.log2(size) - exponent * np.log2(t.batch_size)
        x -= (1 - exponent) * 4  # so that the hump stays among the batch sizes
        x -= epochs * np.log2(t.steps * t.lr / (1 - t.momentum) / 256)
        accuracy = hump(x) + apart * np.log2(t.lr / (1 - t.momentum)) + rng.normal(0, sd)
        accuracy += momentum * (t.momentum > 0) + whole * (t.batch_size * 2 >= t.train_size)
        accuracy += tuned * (t.batch_size >= 500)
        accuracy += high * max(np.log2(t.lr / (1 - t.momentum)) + 3, 0)
        if arm == experiment.DECAY:
            accuracy = knob * np.log2(t.weight_decay / t.batch_size) + hump(x) + rng.normal(0, sd)
        fields = json.loads(t.to_json())
        told = {name: json.dumps(v) if isinstance(v, list) else v for name, v in fields.items()} | {"arm": arm}
        told |= {"key": t.key, "final": True, "status": "finished", "step": t.num_steps, "epoch": 1.0}
        told |= {"test_accuracy": accuracy / 100, "validation_accuracy": accuracy / 100}
        rows.append(told | {"train_accuracy": 1.0 if x < 4.5 else 0.9})
    return pd.DataFrame(rows)


TABLES = [
    (lambda: noise_table(), Outcome.REPRODUCED),  # obeys
    (lambda: noise_table(exponent=0.0), Outcome.NOT_REPRODUCED),  # breaks: the batch size is all the same
    (lambda: noise_table(apart=0.5), Outcome.CONDITIONAL),  # only those that do not fit collapse
    (lambda: noise_table(high=-0.7), Outcome.CONDITIONAL),  # only low learning rates
    (lambda: noise_table(sd=3.0), Outcome.INCONCLUSIVE),  # noisy
    (lambda: noise_table(seeds=1), Outcome.INCONCLUSIVE),  # too small
    (lambda: noise_table(knob=100.0), Outcome.INCONCLUSIVE),  # the control collapses, too
    (lambda: noise_table(epochs=1.0), Outcome.INCONCLUSIVE),  # it is epochs that count
    (lambda: noise_table(apart=0.5, epochs=1.0), Outcome.INCONCLUSIVE),  # also among those that do not fit
]


@pytest.mark.parametrize(("table", "outcome"), TABLES)
def test_the_judge(table, outcome):
    verdict = noise_collapse.judge(table)
    assert verdict.outcome == outcome, verdict
    told = CLAIM.answer(table, verdict)
    assert 0 < len(told) <= 260
    again = independent.noise_collapse(
        independent_statistics.filled(table.drop_duplicates("key").drop(columns="arm")), "mnist", []
    )
    assert again.outcome == outcome
    for phrase in again.phrases or ["Not settled"]:
        assert phrase in told


PARTS = [
    ({}, "The best batch size goes as the learning rate", Outcome.REPRODUCED),
    ({"exponent": 2.0}, "The best batch size goes as the learning rate", Outcome.NOT_REPRODUCED),
    ({}, "The best batch size goes as the number", Outcome.REPRODUCED),
    ({"by_size": 0.5}, "The best batch size goes as the number", Outcome.NOT_REPRODUCED),
    ({}, "With momentum", Outcome.REPRODUCED),
    ({"momentum": -1.0}, "With momentum", Outcome.NOT_REPRODUCED),
    ({"momentum": 0.25, "sd": 0.3}, "With momentum", Outcome.INCONCLUSIVE),
    ({}, "It vanishes", Outcome.NOT_REPRODUCED),
    ({"whole": -2.0}, "It vanishes", Outcome.REPRODUCED),
    ({"high": 2.0}, "It vanishes", Outcome.INCONCLUSIVE),  # apart where small batches are, too
    ({}, "Each tuned", Outcome.REPRODUCED),
    ({"tuned": 5.0}, "Each tuned", Outcome.NOT_REPRODUCED),
    ({}, "It does at low learning rates", Outcome.REPRODUCED),
    ({"high": -0.7}, "It does at low learning rates", Outcome.REPRODUCED),
    ({"exponent": 0.0}, "It does at low learning rates", Outcome.NOT_REPRODUCED),
    ({"epochs": 1.0}, "It does at low learning rates", Outcome.INCONCLUSIVE),
]


@pytest.mark.parametrize(("fields", "part", "outcome"), PARTS)
def test_parts(fields, part, outcome):
    verdict = next(v for k, v in noise_collapse.judge(noise_table(**fields)).parts.items() if k.startswith(part))
    assert verdict.outcome == outcome, verdict


@pytest.mark.parametrize("table", [pd.DataFrame({"key": []}), pd.DataFrame({"key": [], "arm": []})])
def test_nothing_is_judged_of_nothing(table):
    verdict = noise_collapse.judge(table)
    assert verdict.outcome == Outcome.INCONCLUSIVE and CLAIM.answer(table, verdict).startswith("Not settled")
    assert all(figure.data(table).empty and figure.title(table) for figure in CLAIM.figures)


@pytest.mark.parametrize("figure", CLAIM.figures, ids=lambda f: f.id)
def test_figures_draw_what_there_is(figure):
    table = noise_table()
    assert len(figure.data(table)) and figure.title(table)


def test_figures_draw_errors_with_their_intervals_the_right_way_round():
    rows = CLAIM.figures[0].data(noise_table())
    assert (
        (rows["low"] < rows["mean"]).all() and (rows["mean"] < rows["high"]).all() and rows["mean"].between(5, 15).all()
    )


def test_the_share_is_that_of_the_components_of_variance():
    """Drawn from the model: standard deviations of 1 within groups and 2 between them; luck is taken off."""
    rng, labels = np.random.default_rng(1), np.repeat(np.arange(400.0), np.tile([3, 4, 5], 134)[:400])
    of_group = rng.normal(0, 2, 400)[labels.astype(int)]
    y = of_group + rng.normal(0, 1, len(labels))
    assert groups.share_of(labels)(y) == pytest.approx(0.2, rel=0.2)
    lucky = y + rng.normal(0, 0.7, len(labels))
    assert groups.share_of(labels)(lucky, 0.49) == pytest.approx(0.2, rel=0.2)
    share = groups.share_of(np.array([0, 0, 0, 1, 1, 1]))
    assert share(np.array([1.0, 1, 1, 2, 2, 2])) == 0 and share(np.array([1.0, 2, 3, 1, 2, 3])) == 1.25


def test_one_setting_that_carries_the_share_is_found():
    found = groups.trained(groups.small(noise_table(sd=0.0), experiment.GRID))
    assert groups.without_one(found, "noise") == pytest.approx(0, abs=0.01)
    found.values[0] += 2.0
    share = groups.spread(found, "noise").value
    assert share > 0.4 and groups.without_one(found, "noise") == pytest.approx(0, abs=0.01)


def test_luck_is_the_variance_of_a_mean_over_seeds_and_not_what_a_seed_does_to_all():
    rng = np.random.default_rng(3)
    values = rng.normal(0, 1, (500, 10)) + 100 * rng.normal(size=10)
    assert luck_of(values) == pytest.approx(0.1, rel=0.05)
    assert np.isnan(luck_of(values[:, :1])).all()


def test_the_permutation_test_is_fair():
    """Where labels mean nothing, p is below one tenth about one time in ten."""
    rng, found = np.random.default_rng(2), []
    for _ in range(60):
        about = pd.DataFrame({"noise": np.repeat(np.arange(5.0), 4)})
        found.append(groups.chance(groups.Cells(about, rng.normal(size=(20, 3))), "noise"))
    assert 1 <= sum(p < 0.1 for p in found) <= 14
    assert abs(np.mean(found) - 0.5) < 0.15


def test_a_peak_lies_between_batch_sizes():
    found = judgement.peaks(groups.small(noise_table(sd=0.0), experiment.LONGER), "lr")
    assert found.log2_best == pytest.approx(np.log2(1000) - BEST + found.at, abs=0.1)


def test_runs_take_as_much_rate_times_steps():
    longer = (experiment.LONGER, experiment.SIZES)
    for arm, t in TRIALS:
        time = 4 * 256 if arm in longer else 256
        assert t.lr / (1 - t.momentum) * t.steps == pytest.approx(time, abs=t.lr)


def test_large_batches_are_held_against_small_ones_of_as_little_noise():
    """Seven of the eight settings below the highest rate: the eighth has less noise than any small batch."""
    found = groups.cells(noise_table(sd=0.0), experiment.GRID)
    large = found.where((found.about["batch_size"] >= 500) & (found.about["lr"] < 0.5))
    known = groups.trained(groups.small(noise_table(sd=0.0), experiment.GRID, experiment.SLOW))
    left = judgement.residuals(large, known)
    assert (len(large.about), left.shape) == (8, (7, 10)) and np.abs(left).max() < 0.01  # a straight line's error


@pytest.mark.parametrize("given", [{"batch_sizes": [64, 2048]}, {"batch_sizes": [512]}])
def test_a_design_that_makes_no_sense_is_refused(given):
    with pytest.raises(SpecError, match="must be no larger than the 1000 training examples"):
        CLAIM.sweeps("paper", **given)
