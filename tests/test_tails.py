"""Tail estimators on samples whose answer is known, and on those that fool them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from repro.measure import tails


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_gaussian_values_have_known_answers_at_any_scale(rng, scale):
    values = scale * rng.standard_normal((1000, 200))
    assert tails.excess_kurtosis(values).mean() == pytest.approx(0, abs=0.05)
    assert 1 / tails.inverse_stable_index(values).mean() == pytest.approx(2, abs=0.05)
    # the mean of log(x/x₉₅) beyond the 95 % quantile of |N(0, 1)|, by integration
    q = stats.norm.isf(0.025)
    beyond = stats.norm.expect(lambda x: np.log(x / q), lb=q) / 0.025
    assert tails.hill_index(values).mean() == pytest.approx(beyond, rel=0.03)


@pytest.mark.parametrize("alpha", [1.2, 1.5, 1.8])
def test_stable_values_have_their_index(alpha):
    values = stats.levy_stable.rvs(alpha, 0, size=(10_000, 30), random_state=np.random.default_rng(1))
    assert 1 / tails.inverse_stable_index(values).mean() == pytest.approx(alpha, abs=0.05)


@pytest.mark.parametrize("alpha", [1.0, 2.0, 4.0])
def test_hill_finds_the_exponent_of_a_power_law(rng, alpha):
    values = rng.pareto(alpha, (10_000, 50)) + 1
    assert tails.hill_index(values).mean() == pytest.approx(1 / alpha, rel=0.02)
    assert tails.hill_index(-values).mean() == pytest.approx(1 / alpha, rel=0.02)


def test_kurtosis_of_known_distributions(rng):
    assert tails.excess_kurtosis(rng.uniform(size=100_000)) == pytest.approx(-1.2, abs=0.02)
    assert tails.excess_kurtosis(rng.laplace(size=400_000)) == pytest.approx(3, abs=0.2)
    assert tails.excess_kurtosis(rng.standard_t(10, 400_000)) == pytest.approx(1, abs=0.15)


def test_kurtosis_is_scipys(rng):
    values = rng.standard_t(5, (40, 7))
    assert tails.excess_kurtosis(values) == pytest.approx(stats.kurtosis(values, bias=False))
    assert np.isnan(tails.excess_kurtosis(np.ones(10)))


def test_student_t_is_heavier_than_gaussian_by_every_estimate(rng):
    normal, t3 = rng.standard_normal((2000, 50)), rng.standard_t(3, (2000, 50))
    for name, estimate in tails.ESTIMATORS.items():
        assert estimate(t3).mean() > estimate(normal).mean(), name


GOLDEN = {  # α̂ of the null controls, as derived for this book
    "Gaussian": 2.00,
    "Gaussian, scales lognormal with sd 1": 1.53,
    "Gaussian, scales lognormal with sd 2": 0.95,
    "Gaussian, 10 % exact zeros": 0.98,
    "Student t, 3 degrees of freedom": 1.80,
}


def test_null_controls_look_stable_and_are_not(rng):
    found = {name: float(tails.stable_index(values)) for name, values in tails.null_controls(rng).items()}
    assert found == pytest.approx(GOLDEN, abs=0.06)


def test_unequal_scales_look_heavy_tailed_and_their_surrogate_says_so(rng):
    """Across coordinates; within each, all is Gaussian."""
    sd = np.exp(rng.standard_normal(10_000))
    values = rng.standard_normal((20, 10_000)) * sd
    surrogate = tails.gaussian_surrogate(sd, 20, rng)
    for name, estimate in tails.ESTIMATORS.items():
        pooled, same = estimate(values.T).mean(), estimate(surrogate.T).mean()
        assert pooled == pytest.approx(same, rel=0.2 if name == "kurtosis" else 0.05), name
        assert pooled > 1.2 * estimate(rng.standard_normal((10_000, 20))).mean(), name
        if name == "kurtosis":
            assert abs(estimate(values).mean()) < 0.1


def test_surrogate_has_the_scales_it_is_given(rng):
    sd = np.array([0.0, 1.0, 1e-8, 1e8])
    values = tails.gaussian_surrogate(sd, 20_000, rng)
    assert values.shape == (20_000, 4)
    assert values.std(0) == pytest.approx(sd, rel=0.03)


@given(st.integers(0, 2**32), st.floats(1e-3, 1e3))
def test_estimates_do_not_depend_on_scale(seed, scale):
    values = np.random.default_rng(seed).standard_t(4, 200)
    for estimate in tails.ESTIMATORS.values():
        assert estimate(scale * values) == pytest.approx(float(estimate(values)), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("values", [[1.0, 2.0], [1.0, np.nan, 2.0, 3.0], 3.0, [np.inf] * 9])
def test_what_cannot_be_estimated_is_one_clear_line(values):
    for estimate in tails.ESTIMATORS.values():
        with pytest.raises(ValueError, match="finite values"):
            estimate(np.asarray(values))
