"""Trials and sweeps: what they refuse, how they count, and what makes two of them the same."""

import dataclasses
import itertools
import re

import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repro.evidence.spec import log_checkpoints
from repro.names import DATASETS, SpecError
from repro.trial import SEEDS, Phase, Sweep, Trial, paired_seeds

lean = settings(deadline=None, database=None)  # a slow machine is no failure; no folder left
REFERENCE = Trial(dataset="mnist", epochs=30)
NAN, INF = float("nan"), float("inf")

BAD = [
    # given beside epochs=1, and what the one line must say
    ({"dataset": "mnst"}, ["dataset", "'mnst'", "allowed are", "did you mean 'mnist'"]),
    ({"dataset": "fashion_mnist"}, ["did you mean 'fashion-mnist'"]),
    ({"dataset": "zebra"}, ["unknown dataset 'zebra'", *DATASETS]),
    ({"model": "mpl"}, ["unknown model 'mpl'", "did you mean 'mlp'"]),
    ({"optimizer": "Adam"}, ["unknown optimizer 'Adam'", "did you mean 'adam'"]),
    ({"init": "gloro"}, ["unknown initialisation 'gloro'", "did you mean 'glorot'"]),
    ({"probes": ("fitt",)}, ["unknown probe 'fitt'", "did you mean 'fit'"]),
    ({"final_probes": ("fitt",)}, ["unknown probe 'fitt'", "did you mean 'fit'"]),
    ({"warmup_epochs": -1}, ["warmup_epochs -1", "≥ 0"]),
    ({"draws": 0}, ["draws 0", "≥ 1"]),
    ({"draws": 2.5}, ["draws 2.5", "whole number"]),
    ({"drop_last": 1}, ["drop_last 1", "True or False"]),
    ({"partner_batch_size": 10**6}, ["partner_batch_size 1000000", "from 1 to"]),
    ({"probe_examples": 0}, ["probe_examples 0", "from 1 to"]),
    ({"optimizer": "adam", "beta1": 1.0}, ["beta1 1.0", "below 1"]),
    ({"optimizer": "adam", "eps": 0}, ["eps 0", "above 0"]),
    ({"beta2": 0.99}, ["Adam's", "sgd has none"]),
    ({"probes": "fit"}, ["probes 'fit'", "must be a list"]),
    ({"evaluate_on": "validate"}, ["split", "'validate'", "did you mean 'validation'"]),
    ({"precision": "float16"}, ["unknown precision 'float16'", "did you mean"]),
    ({"preprocessing": "standardise"}, ["'standardise'", "did you mean 'standardize'"]),
    ({"batch_size": 4001}, ["batch_size 4001", "4000 training examples of mnist5k", "1 to 4000"]),
    ({"batch_size": 101, "train_size": 100}, ["batch_size 101", "1 to 100"]),
    ({"batch_size": 3501, "evaluate_on": "validation"}, ["batch_size 3501", "1 to 3500"]),
    ({"batch_size": 1, "batch_norm": True}, ["batch_size 1", "a batch of one example", "choose another"]),
    ({"batch_size": 31, "train_size": 125, "model": "f1"}, ["batch_size 31", "a batch of one example"]),
    ({"batch_size": 0}, ["batch_size 0", "whole number"]),
    ({"batch_size": 64.0}, ["batch_size 64.0", "whole number"]),
    ({"batch_size": "64"}, ["batch_size '64'", "whole number"]),
    ({"batch_size": True}, ["batch_size True", "whole number"]),
    ({"lr": 0}, ["lr 0", "above 0"]),
    ({"lr": -0.1}, ["lr -0.1", "above 0"]),
    ({"lr": NAN}, ["lr nan", "above 0"]),
    ({"lr": INF}, ["lr inf", "above 0"]),
    ({"lr": "0.1"}, ["lr '0.1'", "above 0"]),
    ({"lr": True}, ["lr True", "above 0"]),
    ({"epochs": None}, ["either epochs or steps", "neither"]),
    ({"epochs": 2, "steps": 10}, ["either epochs or steps", "epochs=2", "steps=10"]),
    ({"epochs": "2", "steps": 10}, ["either epochs or steps", "steps=10"]),
    ({"epochs": 0}, ["epochs 0", "above 0"]),
    ({"epochs": -1}, ["epochs -1", "above 0"]),
    ({"epochs": NAN}, ["epochs nan", "above 0"]),
    ({"epochs": INF}, ["epochs inf", "above 0"]),
    ({"epochs": "30"}, ["epochs '30'", "above 0"]),
    ({"epochs": 0.001}, ["epochs 0.001", "less than one step of 64"]),
    ({"epochs": None, "steps": 0}, ["steps 0", "whole number"]),
    ({"epochs": None, "steps": 10.0}, ["steps 10.0", "whole number"]),
    ({"momentum": 1}, ["momentum 1", "below 1"]),
    ({"momentum": -0.5}, ["momentum -0.5", "at least 0"]),
    ({"momentum": "0.9"}, ["momentum '0.9'"]),
    ({"momentum": 0.9, "optimizer": "adam"}, ["momentum 0.9", "adam has none", "0"]),
    ({"optimizer": "nesterov"}, ["nesterov", "momentum above 0"]),
    ({"weight_decay": -1e-4}, ["weight_decay -0.0001"]),
    ({"weight_decay": NAN}, ["weight_decay nan"]),
    ({"batch_norm": 1}, ["batch_norm 1", "True or False"]),
    ({"batch_norm": "no"}, ["batch_norm 'no'", "True or False"]),
    ({"model": "f1", "ghost_size": 1}, ["ghost_size 1", "≥ 2", "128"]),
    ({"ghost_size": 32}, ["ghost_size", "leave it out"]),
    ({"model": "f1", "ghost_size": 32, "norm_statistics": "batch"}, ["ghost_size", "leave it out"]),
    ({"model": "f1", "batch_size": 65, "ghost_size": 32}, ["batch_size 65", "a batch of one example"]),
    ({"max_gradient_norm": 0}, ["max_gradient_norm 0", "above 0"]),
    ({"restart_optimizer": 1}, ["restart_optimizer 1", "True or False"]),
    ({"restart_with_phase": 1}, ["restart_with_phase 1", "True or False"]),
    ({"augmentation": "flip"}, ["augmentation", "flip", "shift and rotate"]),
    ({"dropout": 1}, ["dropout 1", "below 1"]),
    ({"steps_per_batch": 0}, ["steps_per_batch 0", "≥ 1"]),
    ({"proximal": 0.1}, ["proximal", "steps_per_batch"]),
    ({"adversarial": -1}, ["adversarial -1", "≥ 0"]),
    ({"label_noise": 10}, ["label_noise 10", "from 0 to 1", "0.1"]),
    ({"label_noise": -0.1}, ["label_noise -0.1"]),
    ({"label_noise": "all"}, ["label_noise 'all'"]),
    ({"target_accuracy": 97}, ["target_accuracy 97", "at most 1", "0.97"]),
    ({"target_accuracy": 0}, ["target_accuracy 0", "above 0"]),
    ({"target_accuracy": 0.9, "probes": ("travel",)}, ["target_accuracy", "held-out fit"]),
    ({"model": "f1", "norm_eps": 0}, ["norm_eps 0", "above 0"]),
    ({"model": "f1", "norm_statistics": "own"}, ["statistics of batch norm 'own'", "kept, batch"]),
    ({"norm_eps": 1e-3}, ["norm_eps", "this network has none"]),
    ({"norm_statistics": "batch"}, ["norm_statistics", "this network has none"]),
    ({"schedule": (Phase(0, 0.1, 64),)}, ["schedule", "rising from 1", "got 0"]),
    ({"schedule": (Phase(5, 0.1, 64), Phase(5, 0.2, 64))}, ["schedule", "rising", "got 5"]),
    ({"schedule": (Phase(1.5, 0.1, 64),)}, ["schedule", "whole numbers", "got 1.5"]),
    ({"schedule": (Phase(1, 0.0, 64),)}, ["lr 0.0", "above 0"]),
    ({"schedule": (Phase(1, 0.1, 9999),)}, ["batch_size 9999", "1 to 4000"]),
    ({"schedule": ((1, 0.1, 64),)}, ["schedule", "epoch, lr and batch_size", "(1, 0.1, 64)"]),
    ({"schedule": ({"epoch": 1, "rate": 2},)}, ["schedule", "epoch, lr and batch_size", "rate"]),
    ({"schedule": None}, ["schedule None", "must be a list"]),
    ({"checkpoints": (0,)}, ["checkpoints [0.0]", "strictly between 0", "budget of 1"]),
    ({"checkpoints": (1,)}, ["checkpoints [1.0]", "strictly between"]),
    ({"checkpoints": (0.5, 0.5)}, ["checkpoints", "must rise"]),
    ({"checkpoints": (0.5, 0.25)}, ["checkpoints", "must rise"]),
    ({"checkpoints": (NAN,)}, ["checkpoints [nan]"]),
    ({"checkpoints": ("0.5",)}, ["checkpoints ['0.5']"]),
    ({"checkpoints": 0.5}, ["checkpoints 0.5", "must be a list"]),
    ({"widths": ()}, ["widths ()", "(1024, 1024)"]),
    ({"widths": (0,)}, ["widths (0,)"]),
    ({"widths": (16.0,)}, ["widths (16.0,)"]),
    ({"widths": 1024}, ["widths 1024", "must be a list"]),
    ({"train_size": 9}, ["train_size 9", "from 10 to 4000"]),
    ({"train_size": 4001}, ["train_size 4001", "from 10 to 4000 for mnist5k"]),
    ({"train_size": 3501, "evaluate_on": "validation"}, ["train_size 3501", "10 to 3500"]),
    ({"train_size": 100.0}, ["train_size 100.0"]),
    ({"init_seed": -1}, ["init_seed -1", "≥ 0"]),
    ({"data_seed": 0.5}, ["data_seed 0.5", "whole number"]),
    ({"data_seed": True}, ["data_seed True"]),
    ({"init_seed": "0"}, ["init_seed '0'"]),
]


@pytest.mark.parametrize(("fields", "says"), BAD, ids=[str(f) for f, _ in BAD])
def test_bad_trial_is_refused_in_one_line(fields, says):
    with pytest.raises(SpecError) as error:
        Trial(**{"epochs": 1, **fields})
    text = str(error.value)
    assert text and "\n" not in text
    assert [word for word in says if word not in text] == []
    assert error.value._render_traceback_() == [f"SpecError: {text}"]


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Trial)])
def test_nonsense_in_any_field_is_refused(field):
    """Whatever is put into a field, the answer is SpecError and never a bare exception."""
    for value in (object(), "no such thing", -1.5, ["x"], {"a": 1}):
        with pytest.raises(SpecError) as error:
            Trial(**{"epochs": 1, "steps": None, field: value})
        assert "\n" not in str(error.value)


eighths = st.integers(8, 60).map(lambda n: n / 8)


@st.composite
def trials(draw):
    """Small trials of every kind: schedules, ragged batches, fractional epochs, either budget."""
    size = draw(st.integers(10, 200))
    batch = st.integers(1, size)
    lrs = st.floats(1e-6, 1e3)
    starts = sorted(draw(st.sets(st.integers(1, 9), max_size=3)))
    fields = {"epochs": draw(eighths)}
    inner = st.integers(1, int(fields["epochs"] * 8) - 1).map(lambda n: n / 8)
    if draw(st.booleans()):
        fields = {"steps": draw(st.integers(2, 300))}
        inner = st.integers(1, fields["steps"] - 1)
    return Trial(
        dataset=draw(st.sampled_from(sorted(DATASETS))),
        train_size=size,
        evaluate_on=draw(st.sampled_from(["test", "validation"])),
        widths=tuple(draw(st.lists(st.integers(1, 2048), min_size=1, max_size=3))),
        lr=draw(lrs),
        batch_size=draw(batch),
        schedule=tuple(Phase(e, draw(lrs), draw(batch)) for e in starts),
        init_seed=draw(st.integers(0, 2**40)),
        data_seed=draw(st.integers(0, 2**40)),
        checkpoints=tuple(sorted(draw(st.sets(inner, max_size=4)))),
        drop_last=draw(st.booleans()),
        **fields,
    )


@lean
@given(trials())
def test_json_round_trip_keeps_trial_and_key(trial):
    again = Trial.from_json(trial.to_json())
    assert again == trial
    assert hash(again) == hash(trial)
    assert (again.key, again.to_json()) == (trial.key, trial.to_json())


@lean
@given(trials(), trials())
def test_keys_are_equal_just_when_trials_are(a, b):
    assert (a.key == b.key) == (a == b)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"lr": 1}, {"lr": 1.0}),
        ({"epochs": 30}, {"epochs": 30.0}),
        ({"weight_decay": 0}, {"weight_decay": 0.0}),
        ({"weight_decay": -0.0}, {"weight_decay": 0.0}),
        ({"widths": [64, 32]}, {"widths": (64, 32)}),
        ({"probes": ["fit"]}, {"probes": ("fit",)}),
        ({"checkpoints": [1, 2]}, {"checkpoints": (1.0, 2.0)}),
        ({"schedule": [Phase(1, 1, 64)]}, {"schedule": (Phase(1, 1.0, 64),)}),
        (
            {"schedule": [{"epoch": 1, "lr": 1, "batch_size": 64}]},
            {"schedule": (Phase(1, 1.0, 64),)},
        ),
    ],
    ids=str,
)
def test_spelling_does_not_change_the_key(one, other):
    a, b = Trial(**{"epochs": 30, **one}), Trial(**{"epochs": 30, **other})
    assert a == b
    assert (a.key, a.to_json()) == (b.key, b.to_json())


CHANGES = {
    "dataset": "fashion-mnist",
    "train_size": 1000,
    "evaluate_on": "validation",
    "preprocessing": "unit",
    "model": "cnn",
    "widths": (1024, 1023),
    "batch_norm": True,
    "init": "he",
    "optimizer": "adam",
    "lr": 0.010000000000000002,
    "momentum": 0.5,
    "weight_decay": 1e-4,
    "batch_size": 65,
    "schedule": (Phase(1, 0.01, 64),),
    "epochs": 31,
    "steps": 30,
    "init_seed": 1,
    "data_seed": 1,
    "probes": ("fit",),
    "checkpoints": (1,),
    "precision": "float32",
    "beta1": 0.8,
    "beta2": 0.99,
    "eps": 1e-7,
    "warmup_epochs": 2.0,
    "final_probes": ("fit",),
    "draws": 10,
    "partner_batch_size": 128,
    "probe_examples": 50,
    "drop_last": True,
    "norm_statistics": "batch",
    "norm_eps": 1e-3,
    "target_accuracy": 0.97,
    "label_noise": 0.1,
    "ghost_size": 32,
    "max_gradient_norm": 5.0,
    "restart_optimizer": True,
    "restart_with_phase": True,
    "augmentation": "shift and rotate",
    "dropout": 0.5,
    "steps_per_batch": 3,
    "proximal": 0.001,
    "adversarial": 0.1,
}


def test_every_change_gives_its_own_key():
    assert set(CHANGES) == {f.name for f in dataclasses.fields(Trial)}
    keys = [REFERENCE.key]
    for name, value in CHANGES.items():
        extra = {"epochs": None} if name == "steps" else {}
        if name in ("beta1", "beta2", "eps"):
            extra = {"optimizer": "adam"}
        if name.startswith(("norm_", "ghost_")):
            extra = {"batch_norm": True}
        if name == "proximal":
            extra = {"steps_per_batch": 2}
        keys.append(dataclasses.replace(REFERENCE, **{name: value, **extra}).key)
    assert len(set(keys)) == 1 + len(CHANGES)


def test_a_field_added_later_with_a_default_leaves_keys_alone():
    @dataclasses.dataclass(frozen=True)
    class LaterTrial(Trial):
        crop: float = 0.0

    fields = {"dataset": "mnist", "epochs": 30, "lr": 0.1}
    assert LaterTrial(**fields).key == Trial(**fields).key
    assert LaterTrial(**fields, crop=0.1).key != Trial(**fields).key


def test_a_field_told_at_its_default_is_the_same_trial():
    assert Trial(dataset="mnist", epochs=30, lr=0.01, widths=(1024, 1024)).key == REFERENCE.key


def test_the_reference_key_is_pinned():
    """The recorded ledger is looked up by this key: if it moves, every recorded row is orphaned."""
    assert REFERENCE.key == "1c127a6022bd215ecdbb"


def test_the_defaults_behind_the_pinned_key_are_pinned():
    """Defaults stand in no key, so one that changed would silently give old rows a new meaning."""
    assert REFERENCE.to_json() == (
        '{"adversarial":0.0,"augmentation":"none","batch_norm":false,"batch_size":64,"beta1":0.9,"beta2":0.999,"checkpoints":[],"data_seed":0,'
        '"dataset":"mnist","draws":1000,"drop_last":false,"dropout":0.0,"epochs":30.0,"eps":1e-08,"evaluate_on":"test","final_probes":[],"ghost_size":null,"init":"glorot","init_seed":0,"label_noise":0.0,"lr":0.01,"max_gradient_norm":null,"model":"mlp",'
        '"momentum":0.0,"norm_eps":1e-05,"norm_statistics":"kept",'
        '"optimizer":"sgd","partner_batch_size":null,"precision":"auto","preprocessing":"standardize","probe_examples":null,'
        '"probes":["fit","travel"],"proximal":0.0,"restart_optimizer":false,"restart_with_phase":false,"schedule":[],"steps":null,"steps_per_batch":1,"target_accuracy":null,"train_size":null,'
        '"warmup_epochs":0.0,"weight_decay":0.0,"widths":[1024,1024]}'
    )


def test_a_trial_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        REFERENCE.lr = 0.1


@lean
@given(trials(), st.integers(0, 80).map(lambda n: n / 8))
def test_step_at_counts_steps(trial, epochs):
    assert trial.step_at(epochs) == oracles.step_at(trial, epochs)


@lean
@given(trials())
def test_budget_counts_agree_with_counting(trial):
    steps = trial.steps if trial.steps else oracles.step_at(trial, trial.epochs)
    assert trial.num_steps == steps
    assert trial.num_samples == sum(itertools.islice(oracles.all_sizes(trial), steps))
    at = [int(c) if trial.steps else oracles.step_at(trial, c) for c in trial.checkpoints]
    assert trial.checkpoint_steps == tuple(sorted({0, *at, steps}))


@pytest.mark.parametrize(
    ("fields", "steps", "samples"),
    [
        ({"dataset": "mnist", "epochs": 30}, 30 * 938, 30 * 60_000),
        ({"epochs": 2}, 126, 8_000),
        ({"epochs": 0.5}, 32, 32 * 64),
        ({"steps": 1}, 1, 64),
        ({"steps": 64}, 64, 4_000 + 64),
        ({"epochs": 2, "schedule": (Phase(1, 0.1, 4000),)}, 64, 8_000),
        ({"epochs": 1, "evaluate_on": "validation"}, 55, 3_500),
        ({"epochs": 2, "drop_last": True}, 124, 124 * 64),
        ({"epochs": 2, "batch_size": 3000, "drop_last": True}, 2, 6_000),
    ],
    ids=str,
)
def test_counts_by_hand(fields, steps, samples):
    trial = Trial(**fields)
    assert (trial.num_steps, trial.num_samples) == (steps, samples)


def test_nothing_left_to_drop_is_the_same_trial():
    whole = {"dataset": "mnist", "evaluate_on": "validation", "batch_size": 16, "epochs": 1}  # 50,000 examples
    assert Trial(**whole, drop_last=True) == Trial(**whole)
    ragged = Trial(**whole, schedule=(Phase(1, 0.1, 32),), drop_last=True)
    assert ragged.drop_last and ragged.key != dataclasses.replace(ragged, drop_last=False).key


def test_sweep_is_the_product_of_its_axes():
    axes = {"lr": (0.1, 0.2), "batch_size": (32, 64, 128), SEEDS: paired_seeds(2)}
    trials = Sweep("grid", Trial(epochs=1), axes).trials()
    points = [(t.lr, t.batch_size, t.init_seed, t.data_seed) for t in trials]
    grid = itertools.product((0.1, 0.2), (32, 64, 128), ((0, 0), (1, 1)))
    assert points == [(lr, b, *seeds) for lr, b, seeds in grid]
    assert len({t.key for t in trials}) == 12


def test_sweep_moves_joint_fields_together():
    axes = {("batch_size", "epochs", "steps"): [(64, 2, None), (1024, None, 126)]}
    got = [(t.batch_size, t.epochs, t.steps) for t in Sweep("x", Trial(epochs=1), axes).trials()]
    assert got == [(64, 2.0, None), (1024, None, 126)]


def test_sweep_without_axes_is_its_base():
    assert Sweep("one", REFERENCE).trials() == [REFERENCE]


@pytest.mark.parametrize("count", [0, -1, 2.0, "3", None, [0, 1], True])
def test_bad_number_of_seeds_is_refused_in_one_line(count):
    with pytest.raises(SpecError, match=f"^seeds {re.escape(repr(count))}: .*whole number ≥ 1"):
        paired_seeds(count)


@pytest.mark.parametrize(
    ("epochs", "positions"),
    [(1, ()), (1.5, (1,)), (30, (1, 2, 5, 10, 20)), (50, (1, 2, 5, 10, 20))],
)
def test_log_checkpoints_lie_below_the_budget(epochs, positions):
    assert log_checkpoints(epochs) == positions
    assert Trial(epochs=epochs, checkpoints=log_checkpoints(epochs)).checkpoints == positions


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        ({"batchsize": (1, 2)}, ["unknown trial field 'batchsize'", "did you mean 'batch_size'"]),
        ({("lr", "widht"): [(1, 2)]}, ["'widht'", "did you mean 'widths'"]),
        ({"batch_size": (64, 5000)}, ["batch_size 5000", "1 to 4000"]),
    ],
    ids=str,
)
def test_bad_axis_is_refused_in_one_line(axes, says):
    with pytest.raises(SpecError) as error:
        Sweep("bad", Trial(epochs=1), axes).trials()
    assert "\n" not in str(error.value)
    assert [word for word in says if word not in str(error.value)] == []
