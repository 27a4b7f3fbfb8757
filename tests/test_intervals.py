"""Intervals and tests: against scipy, statsmodels, hand formulas, and their promised coverage."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats as reference
from statsmodels.api import OLS, add_constant
from statsmodels.stats.weightstats import ttost_paired

from repro.evidence import intervals
from repro.evidence.intervals import Estimate

A = [0.981, 0.979, 0.984, 0.976, 0.982]
B = [0.951, 0.957, 0.950, 0.949, 0.955]


@pytest.mark.parametrize(
    ("interval", "quantity"),
    [
        (intervals.mean_interval, lambda rng: 3.0),
        (intervals.prediction_interval, lambda rng: rng.normal(3, 2)),
    ],
    ids=["the mean", "one more run"],
)
@pytest.mark.parametrize(("n", "level"), [(2, 0.95), (5, 0.95), (10, 0.8)])
def test_t_intervals_hold_their_level(interval, quantity, n, level):
    rng = np.random.default_rng(1)
    runs = 1500
    hits = sum(not interval(rng.normal(3, 2, n), level).excludes(quantity(rng)) for _ in range(runs))
    assert abs(hits / runs - level) < 4 * math.sqrt(level * (1 - level) / runs)


def test_mean_interval_against_scipy():
    got = intervals.mean_interval(A)
    low, high = reference.t.interval(0.95, len(A) - 1, np.mean(A), reference.sem(A))
    assert (got.value, got.low, got.high) == pytest.approx((np.mean(A), low, high), rel=1e-12)
    assert (got.n, got.values) == (5, tuple(A))


def test_prediction_interval_by_hand():
    """x̄ = 2, s = 1, t₀.₉₇₅,₂ = 4.302653: half-width t·√(4/3)."""
    got = intervals.prediction_interval([1, 2, 3])
    assert (got.low, got.high) == pytest.approx((2 - 4.968275, 2 + 4.968275), abs=1e-5)


def test_paired_difference_against_scipy():
    got = intervals.paired_difference(A, B)
    expected = reference.ttest_rel(A, B).confidence_interval(0.95)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), rel=1e-10)
    assert got.value == pytest.approx(np.mean(A) - np.mean(B))
    assert got.values == pytest.approx(np.subtract(A, B))
    back = intervals.paired_difference(B, A)
    assert (back.low, back.high) == pytest.approx((-got.high, -got.low))


def test_pairing_takes_out_what_pairs_share():
    shared = np.array([0, 10, 20, 30, 40.0])
    got = intervals.paired_difference(shared + np.array([1, 1.1, 0.9, 1, 1]), shared)
    assert got.excludes(0) and got.high - got.low < 0.5


@pytest.mark.parametrize("interval", [intervals.mean_interval, intervals.prediction_interval])
def test_below_two_values_an_interval_is_unbounded(interval):
    one, none = interval([0.5]), interval([])
    assert (one.value, one.low, one.high, one.n) == (0.5, -math.inf, math.inf, 1)
    assert math.isnan(none.value) and (none.low, none.high, none.n) == (-math.inf, math.inf, 0)
    assert not one.excludes(1e9) and not one.within(1e9)


@pytest.mark.parametrize("margin", [0.02, 0.03, 0.0286, 0.04])
def test_equivalence_against_statsmodels_and_by_hand(margin):
    difference = np.subtract(A, B)
    got = intervals.equivalence_p(difference, margin)
    assert got == pytest.approx(ttost_paired(np.asarray(A), np.asarray(B), -margin, margin)[0], rel=1e-9)
    assert intervals.paired_difference(A, B).equivalent(margin) == (got < 0.05)
    error = reference.sem(difference)
    by_hand = max(
        reference.t.sf((difference.mean() + margin) / error, 4),
        reference.t.cdf((difference.mean() - margin) / error, 4),
    )
    assert got == pytest.approx(by_hand, rel=1e-9)


def test_equivalence_is_found_within_the_margin_only():
    assert intervals.equivalence_p([1e-4, -1e-4, 0, 2e-4, -2e-4], 0.003) < 0.001
    assert intervals.equivalence_p(np.subtract(A, B), 0.003) > 0.999


def test_equivalence_errs_no_more_than_it_says():
    """At a true difference of exactly the margin, p < 0.05 in 5 % of runs."""
    rng = np.random.default_rng(2)
    runs = 600
    false = sum(intervals.mean_interval(rng.normal(0.3, 0.05, 6)).equivalent(0.3) for _ in range(runs))
    assert 0.02 < false / runs < 0.09


@pytest.mark.parametrize(
    ("a", "b", "p"),
    [
        ([], [], 1.0),
        ([1.0], [1.0], 1.0),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 0.0),
        ([1.1, 2.1, 3.1], [1.0, 2.0, 3.0], 0.0),
        ([1.5, 2.5, 3.5], [1.0, 2.0, 3.0], 1.0),  # at the margin is not inside it
        ([0.5, 1.5, 2.5], [1.0, 2.0, 3.0], 1.0),
    ],
    ids=["none", "one pair", "equal", "inside", "at the margin", "below"],
)
def test_equivalence_without_spread_is_decided_by_value(a, b, p):
    assert intervals.equivalence_p(np.subtract(a, b), 0.5) == p


@pytest.mark.parametrize(("mean", "sd"), [(0.1, 0.5), (0.3, 0.3), (0.0, 0.2), (5.0, 0.1)])
def test_as_many_values_as_are_said_to_decide_do_so(mean, sd):
    x = np.random.default_rng(0).standard_normal(7)
    have = intervals.mean_interval(mean + sd * (x - x.mean()) / x.std(ddof=1))
    needed = intervals.values_to_decide(have, 0.3)

    def decided(n, seed):
        e = intervals.mean_interval(np.random.default_rng([n, seed]).normal(mean, sd, n))
        return e.excludes(0) or e.equivalent(0.3)

    assert 0.76 <= np.mean([decided(needed, seed) for seed in range(400)]) <= (0.84 if needed > 20 else 1)
    if needed > 2:
        assert np.mean([decided(needed // 2, seed) for seed in range(400)]) < 0.76


def test_a_spread_that_no_number_of_values_would_decide():
    assert intervals.values_to_decide(intervals.mean_interval([-90.0, 10.0, 80.5]), 0.3) == math.inf


def bootstrap(values, statistic=np.mean, seed=0, **options):
    return intervals.bootstrap_interval(values, statistic, np.random.default_rng(seed), **{"resamples": 500, **options})


SKEWED = np.random.default_rng(3).lognormal(size=20)


def test_bootstrap_against_scipy():
    got = bootstrap(SKEWED, np.median, seed=5)
    expected = reference.bootstrap(
        (SKEWED,), np.median, n_resamples=500, method="BCa", rng=np.random.default_rng(5)
    ).confidence_interval
    assert (got.low, got.high) == (expected.low, expected.high)
    assert got.value == np.median(SKEWED)
    assert "BCa" in got.method and "500" in got.method


def test_the_bootstrap_seed_steers():
    first, again, other = (bootstrap(SKEWED, seed=s) for s in (1, 1, 2))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)


def test_bootstrap_ignores_the_global_generator():
    np.random.seed(1)
    first = bootstrap(SKEWED)
    np.random.seed(2)
    assert bootstrap(SKEWED) == first


def test_bootstrap_covers_about_its_level():
    rng = np.random.default_rng(4)
    hits = sum(not bootstrap(rng.normal(1, 1, 20), seed=i, resamples=200).excludes(1) for i in range(150))
    assert 0.87 <= hits / 150 <= 0.99


def test_bootstrap_corrects_for_skew():
    """Of a right-skewed sample's mean, the interval reaches further up than down."""
    got = bootstrap(SKEWED, resamples=2000)
    assert got.high - got.value > 1.2 * (got.value - got.low)


def test_bootstrap_of_no_spread_is_a_point_and_of_one_value_unbounded():
    flat = bootstrap([2.0, 2.0, 2.0])
    assert (flat.value, flat.low, flat.high) == (2, 2, 2)
    assert (bootstrap([2.0]).low, bootstrap([2.0]).high) == (-math.inf, math.inf)


def test_bootstrap_where_bca_is_undefined_gives_the_percentile_interval_and_says_so():
    """Ties: leaving any one value out leaves the median at 1, so BCa's acceleration is 0/0."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = bootstrap([1, 1, 1, 1, 2.0], np.median)
    assert got.low == 1 and got.high in (1, 2)
    assert "percentile" in got.method


@pytest.mark.parametrize("n", [2, 3, 9])
def test_slope_of_a_line_is_exact(n):
    x = np.arange(n) * 0.5
    got = intervals.slope_interval(x, 3 - 2 * x)
    assert got.value == pytest.approx(-2, abs=1e-12)
    if n > 2:
        assert (got.low, got.high) == pytest.approx((-2, -2), abs=1e-6)
    else:
        assert (got.low, got.high) == (-math.inf, math.inf)


def test_slope_interval_against_statsmodels():
    x, y = np.log2([16, 64, 256, 1024]), np.array([0.1, 0.9, 2.2, 2.9])
    low, high = OLS(y, add_constant(x)).fit().conf_int()[1]
    got = intervals.slope_interval(x, y)
    assert (got.low, got.high) == pytest.approx((low, high), rel=1e-9)


def test_slope_interval_holds_its_level():
    rng = np.random.default_rng(6)
    x = np.arange(6.0)
    runs = 600
    hits = sum(not intervals.slope_interval(x, 2 * x + rng.normal(0, 1, 6)).excludes(2) for _ in range(runs))
    assert abs(hits / runs - 0.95) < 4 * math.sqrt(0.95 * 0.05 / runs)


def test_most_misses_is_the_binomial_quantile():
    """Of 20 intervals at 95 %, P(≤ 2 miss) = 0.925 and P(≤ 3 miss) = 0.984."""
    assert intervals.most_misses_by_chance(20) == 3
    assert intervals.most_misses_by_chance(0) == 0
    for n in (3, 10, 47):
        k = intervals.most_misses_by_chance(n)
        chance = [math.comb(n, i) * 0.05**i * 0.95 ** (n - i) for i in range(n + 1)]
        assert sum(chance[: k + 1]) >= 0.95 > sum(chance[:k])


def test_most_misses_grows_with_the_count_and_the_rate():
    counts = [intervals.most_misses_by_chance(n) for n in range(200)]
    assert counts == sorted(counts) and counts[-1] > counts[1]
    assert intervals.most_misses_by_chance(20, miss_rate=0.5) > intervals.most_misses_by_chance(20)
    assert intervals.most_misses_by_chance(20, level=0.999) > intervals.most_misses_by_chance(20)


def test_paired_values_keeps_the_seeds_that_both_arms_have():
    a, b = intervals.paired_values({3: 0.3, 1: 0.1, 2: 0.2}, {2: 0.9, 3: 0.8, 7: 0.7})
    assert (a.tolist(), b.tolist()) == ([0.2, 0.3], [0.9, 0.8])
    assert [len(v) for v in intervals.paired_values({1: 0.1}, {2: 0.2})] == [0, 0]


@pytest.mark.parametrize(
    ("low", "high", "excludes_zero", "within_one"),
    [
        (0.1, 0.5, True, True),
        (-0.5, -0.1, True, True),
        (-0.5, 0.5, False, True),
        (0.0, 0.5, False, True),
        (0.5, 1.0, True, False),
        (-2.0, 2.0, False, False),
        (math.nan, math.nan, False, False),
    ],
)
def test_estimate_answers(low, high, excludes_zero, within_one):
    estimate = Estimate(0.2, low, high, 5, "given")
    assert (estimate.excludes(0), estimate.within(1)) == (excludes_zero, within_one)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: intervals.mean_interval([1, math.nan]), "finite"),
        (lambda: intervals.prediction_interval([1, math.inf]), "finite"),
        (lambda: intervals.mean_interval([[1, 2], [3, 4]]), "one-dimensional"),
        (lambda: intervals.mean_interval([1, 2], level=95), "between 0 and 1.*95"),
        (lambda: intervals.prediction_interval([1, 2], level=0), "between 0 and 1"),
        (lambda: intervals.paired_difference([1, 2], [1, 2, 3]), "one length, got 2 and 3"),
        (lambda: intervals.paired_difference([1, 2], [1, math.nan]), "^b: .*finite"),
        (lambda: intervals.equivalence_p([1, math.nan], 0.5), "^differences: .*finite"),
        (lambda: intervals.equivalence_p([1, 2], 0), "margin must be above 0, got 0"),
        (lambda: intervals.equivalence_p([1, 2], math.nan), "margin must be above 0"),
        (lambda: intervals.slope_interval([1, 1], [1, 2]), "two different x"),
        (lambda: intervals.slope_interval([1], [2]), "two different x"),
        (lambda: intervals.slope_interval([1, 2], [1, 2, 3]), "one length"),
        (lambda: intervals.slope_interval([1, 2, 3], [1, 2, 3], level=95), "between 0 and 1"),
        (lambda: bootstrap([1, math.nan]), "finite"),
        (lambda: bootstrap([1, 2, 3], level=1), "between 0 and 1"),
    ],
)
def test_bad_input_is_a_value_error(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_mean_rank_correlation_is_spearmans_and_counts_a_group_once():
    rng = np.random.default_rng(5)
    x, noise = rng.standard_normal((2, 3, 40))
    y = x + noise
    rho = [float(reference.spearmanr(a, b).statistic) for a, b in zip(x, y, strict=True)]
    one = intervals.mean_rank_correlation([(x[0], np.exp(y[0]))])
    assert one.value == pytest.approx(rho[0]) and one.n == 1 and one.excludes(2) and not one.excludes(0)
    found = intervals.mean_rank_correlation(list(zip(x, y, strict=True)))
    z = intervals.mean_interval(np.arctanh(rho))
    assert [found.value, found.low, found.high] == pytest.approx(np.tanh([z.value, z.low, z.high])) and found.n == 3
    assert intervals.mean_rank_correlation([(x[0], x[0] ** 3)]).value == pytest.approx(1, abs=2e-3)
    assert intervals.mean_rank_correlation([(x[0], np.ones(40))]).value == 0
    assert intervals.mean_rank_correlation([]).n == 0


def test_mean_rank_correlation_covers_none_where_runs_of_a_group_share_their_luck():
    """Which a correlation over all runs would not: the luck of a group is in both of its columns."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        luck = rng.standard_normal((5, 1))
        x, y = (3 * luck + rng.standard_normal((5, 12)) for _ in range(2))
        covered += not intervals.mean_rank_correlation(list(zip(x, y, strict=True))).excludes(0)
    assert 0.9 <= covered / 300 <= 0.99
