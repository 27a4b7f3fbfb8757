"""Steps to a target: the best of many trials, its interval, and what a curve of them says."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.evidence import steps
from repro.evidence.steps import DIVERGED, MET, OUT_OF_BUDGET


def looks(key, pairs, *, status="finished", batch_size=8, lr=0.1, momentum=0.0, target=0.9, arm="SGD"):
    """The rows of one trial: (step, accuracy) at every look."""
    rows = pd.DataFrame(pairs, columns=["step", "validation_accuracy"])
    told = {"arm": arm, "key": key, "status": status, "batch_size": batch_size, "lr": lr, "momentum": momentum}
    told |= {"init_seed": 0}
    return rows.assign(**told, target_accuracy=target, final=rows.index == len(rows) - 1)


def test_steps_lie_between_the_last_look_before_and_the_one_at_which_it_is_met():
    table = pd.concat(
        [
            looks("between", [(0, 0.1), (100, 0.86), (200, 0.94)]),  # halfway, in the logarithm
            looks("exactly", [(0, 0.1), (100, 0.8), (200, 0.9)]),
            looks("at once", [(0, 0.1), (100, 0.95)]),  # no look before
            looks("never", [(0, 0.1), (100, 0.8), (200, 0.89)]),
            looks("diverged", [(0, 0.1), (100, math.nan)], status="diverged"),
        ]
    )
    found = steps.trials(table).set_index("key")
    assert found["steps"].to_dict() == pytest.approx(
        {"between": 100 * math.sqrt(2), "exactly": 200, "at once": 100, "never": math.inf, "diverged": math.inf}
    )
    assert found["fate"].to_dict() == {
        "between": MET,
        "exactly": MET,
        "at once": MET,
        "never": OUT_OF_BUDGET,
        "diverged": DIVERGED,
    }


@given(st.floats(1, 500), st.integers(2, 10**6), st.floats(1.01, 2))
def test_looks_bound_the_error(first, budget, ratio):
    found = steps.checkpoints(first, budget, ratio)
    assert all(0 < s < budget for s in found) and list(found) == sorted(set(found))
    for now, then in itertools.pairwise((*found, budget)):
        assert then <= max(now * ratio, now + 1) + 1.5  # rounding


def test_quasi_random_points_are_even_and_repeatable():
    points = steps.quasi_random(32, 2, seed=3)
    assert points.shape == (32, 2) and (points == steps.quasi_random(32, 2, seed=3)).all()
    assert (points != steps.quasi_random(32, 2, seed=4)).all()
    for column in points.T:  # one in every thirty-second
        assert sorted((column * 32).astype(int)) == list(range(32))


def made(rng, sizes=(8,), trials=32, sd=0.08, critical=100.0, least=50, momentum=False, off=0.0):
    """Trials whose logarithm of steps rises with the square of the distance, in octaves, from the best learning rate,
    steeper above it, where from 2.2 octaves on they diverge; S goes as 1 + critical/B."""
    rows = []
    for size in sizes:
        points = steps.quasi_random(trials, 1 + momentum, seed=int(rng.integers(2**31)))
        x = 6 * points[:, 0] - 3 + off
        slow = 2.0 ** -(5 * points[:, 1]) if momentum else np.ones(trials)
        away = np.where(x < 0, 0.10, 0.16) * x**2
        if momentum:
            away = away + 0.025 * (np.log2(slow) + 2.5) ** 2
        logs = math.log(least) + np.log1p(critical / size) + away + rng.normal(0, sd, trials)
        for i in range(trials):
            fate = DIVERGED if x[i] > 2.2 else MET if away[i] < 1 else OUT_OF_BUDGET
            rows.append(
                {
                    "batch_size": size,
                    "lr": 2.0 ** x[i] * slow[i],
                    "momentum": 1 - slow[i],
                    "fate": fate,
                    "steps": math.exp(logs[i]) if fate == MET else math.inf,
                    "first_look": False,
                }
            )
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("sd", "momentum"), [(0.05, False), (0.2, False), (0.05, True), (0.1, True)])
def test_the_interval_of_the_least_holds_the_truth(sd, momentum, few_resamples):
    """Of 200 sets of trials; and the best single trial understates it, the more the noisier trials are."""
    rng, held, best, values = np.random.default_rng(1), 0, [], []
    truth = math.log(50) + math.log1p(100 / 8)
    for _ in range(200):
        rows = made(rng, sd=sd, momentum=momentum, off=rng.uniform(-1, 1))
        found = steps.size_of(rows, 8)
        low, high = np.quantile(found.draws, [0.025, 0.975])
        held += low <= truth <= high
        values.append(found.log_steps - truth)
        best.append(math.log(rows["steps"].min()) - truth)
    assert 0.91 * 200 <= held < 200
    assert abs(np.mean(values)) < 0.03
    if sd >= 0.1:
        assert np.mean(best) < -0.07  # what the least of all trials would say


def test_a_budget_cuts_off_nothing_that_counts():
    """Three times the least steps leaves the optimum and its interval as they are with any budget."""
    rng = np.random.default_rng(0)
    for momentum in (False, True):
        rows = made(rng, momentum=momentum)
        whole = steps.size_of(rows, 8)
        cut = rows["steps"] > 3 * rows["steps"].min()
        assert cut.sum() > 3
        short = steps.size_of(
            rows.assign(steps=rows["steps"].mask(cut, np.inf), fate=rows["fate"].mask(cut, OUT_OF_BUDGET)), 8
        )
        assert short.log_steps == pytest.approx(whole.log_steps, abs=1e-12)
        np.testing.assert_allclose(*(np.quantile(s.draws, [0.025, 0.5, 0.975]) for s in (short, whole)), atol=0.02)
        assert short.num_trials == whole.num_trials and short.fates[OUT_OF_BUDGET] > whole.fates[OUT_OF_BUDGET]


@pytest.mark.parametrize(("off", "edge"), [(0.0, ""), (4.5, "lowest learning rate"), (-3.5, "highest learning rate")])
def test_a_best_at_the_end_of_its_range_is_told(off, edge):
    assert steps.size_of(made(np.random.default_rng(0), off=off, sd=0.02), 8).edge == edge


def test_beyond_the_best_all_may_be_infeasible():
    """Where every higher learning rate diverges, the highest that does not may be the best: no edge."""
    rows = made(np.random.default_rng(0), sd=0.02, off=-1.0)
    rows.loc[np.log2(rows["lr"]) > -0.5, ["steps", "fate"]] = [math.inf, DIVERGED]
    assert steps.size_of(rows, 8).edge == ""


def test_a_best_that_was_met_before_the_first_look_is_told():
    rows = made(np.random.default_rng(0))
    assert steps.size_of(rows.assign(first_look=rows["steps"] == rows["steps"].min()), 8).edge == "first look"
    assert steps.size_of(rows.assign(first_look=rows["steps"] > 3 * rows["steps"].min()), 8).edge == ""


def test_no_momentum_is_no_edge_and_much_is():
    rng = np.random.default_rng(0)
    rows = made(rng, momentum=True, sd=0.02)
    octaves = np.log2(1 - rows["momentum"])
    assert steps.size_of(rows, 8).edge == ""
    for towards, edge in ((0.3 * octaves, "highest momentum"), (-0.3 * octaves, "")):
        assert steps.size_of(rows.assign(steps=rows["steps"] * np.exp(towards)), 8).edge == edge


def test_too_few_that_meet_the_target_have_no_best():
    rows = made(np.random.default_rng(0))
    rows = rows.assign(steps=np.inf, fate=OUT_OF_BUDGET)
    assert steps.size_of(rows, 8) is None
    found = steps.study("SGD", rows)
    assert found.sizes == () and found.infeasible == (8,)


SIZES = 2.0 ** np.arange(1, 15)


def test_what_a_hyperbola_says_of_itself():
    """S = 40 (1 + 200/B): where examples, and where steps, are 1.2 times the least of those run."""
    logs = np.log(40 * (1 + 200 / SIZES))
    least, critical = steps.hyperbola(SIZES, logs)
    assert (np.exp(least), np.exp(critical)) == pytest.approx((40, 200), rel=1e-6)
    end = steps.efficient(SIZES, logs)
    assert (1 + end / 200) / (1 + 2 / 200) == pytest.approx(1.2, rel=0.02)  # in proportion between sizes
    end = steps.useful(SIZES, logs)
    assert (1 + 200 / end) / (1 + 200 / SIZES[-1]) == pytest.approx(1.2, rel=0.02)
    assert steps.slope(2, 8)(SIZES, logs) == pytest.approx(-0.98, abs=0.01)
    assert steps.slope(4096, 16384)(SIZES, logs) == pytest.approx(-0.02, abs=0.01)


def test_what_never_bends_has_no_end():
    perfect = 10 - np.log(SIZES)
    assert steps.efficient(SIZES, perfect) == pytest.approx(SIZES[-1])
    assert steps.useful(SIZES, perfect) > SIZES[-2]
    assert steps.slope(2, 16384)(SIZES, perfect) == pytest.approx(-1)
    assert steps.useful(SIZES, np.full(len(SIZES), 3.0)) == pytest.approx(SIZES[0])


def test_of_many_curves_at_once_as_of_one():
    logs = np.log(40 * (1 + 200 / SIZES)) + np.random.default_rng(0).normal(0, 0.1, (5, len(SIZES)))
    for statistic in (steps.efficient, steps.useful, steps.critical, steps.slope(2, 64), steps.steps_at(64)):
        np.testing.assert_allclose(statistic(SIZES, logs), [statistic(SIZES, row) for row in logs], rtol=1e-6)


def test_a_study_has_intervals_that_hold_what_made_it():
    held = 0
    for seed in range(12):
        rows = made(np.random.default_rng(seed), sizes=(2, 8, 32, 128, 512, 2048), sd=0.05)
        found = steps.study("SGD", rows)
        assert found.batch_sizes.tolist() == [2, 8, 32, 128, 512, 2048] and found.infeasible == ()
        critical = found.estimate(steps.critical)
        assert critical.high < 1.5 * critical.low and critical.n == 6 * 32
        held += critical.low < 100 < critical.high
        for size in found.sizes:
            e = found.estimate(steps.steps_at(size.batch_size))
            held += e.low < 50 * (1 + 100 / size.batch_size) < e.high
            assert e.high < 1.15 * e.low
    assert held >= 0.88 * 12 * 7
