"""What is run: Trial, Phase, Sweep.

Notation: B batch size, N training-set size, η learning rate (per step, mean-reduced loss), m momentum.
This room imports no torch, so that specs are cheap to make, print and look up.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from repro.names import (
    AUGMENTATIONS,
    DATASETS,
    INITS,
    MODELS,
    NUMBERS,
    OPTIMIZERS,
    PRECISIONS,
    PREPROCESSINGS,
    PROBES,
    SPLITS,
    STATISTICS,
    SpecError,
    choose,
    is_number,
)

# Bumped by hand when the numbers a trial produces change; the golden trial of the tests notices.
ENGINE_VERSION = 1


@dataclass(frozen=True)
class Phase:
    """From the start of epoch `epoch` on, train at `lr` with `batch_size`."""

    epoch: int
    lr: float
    batch_size: int


def _as_phase(given: object) -> Phase:
    """A Phase from a Phase or a mapping of its fields, with its lr as float: one spec, one key."""
    names = {f.name for f in dataclasses.fields(Phase)}
    if isinstance(given, Mapping) and set(given) == names:
        given = Phase(**given)
    if not isinstance(given, Phase):
        raise SpecError(f"schedule: a phase needs epoch, lr and batch_size, got {given!r}")
    return dataclasses.replace(given, lr=float(given.lr)) if is_number(given.lr) else given


@dataclass(frozen=True)
class Trial:
    """One run, whole. Frozen and hashable; two equal trials give the same numbers on one machine.

    The budget is either `epochs` (may be a fraction) or `steps`. `checkpoints` are positions inside the budget, in its
    unit, at which the `probes` measure; the start and the end are always measured. `final_probes` measure at the end
    alone, of trials that finish. `train_size` keeps a fixed, class-stratified subset of the training set. Of a share
    `label_noise` of the training examples, the same in every trial, the labels are drawn anew from all classes.
    `evaluate_on="validation"` holds the end of the training set out and measures there, leaving the test set
    untouched; "both" measures on either, so that what is chosen on one can be judged on the other. Over the first
    `warmup_epochs` the learning rate rises linearly, step by step, from 0. `beta1`, `beta2` and `eps` are Adam's.
    `draws` is the number of random batches that a probe draws, where it draws any. `partner_batch_size` is that of a
    second network, alike in all else, for probes that compare two. Sharpness and curvature are measured over the first
    `probe_examples` of the training set, or all of it. `precision="auto"` lets the engine choose (it is recorded); a
    forced precision is a different trial. `drop_last` leaves out the smaller batch at the end of an epoch, whose step
    is as large as any and as noisy as its size; without one it is False. `norm_statistics` says what batch norm
    divides by in evaluation: "kept", the running means of training, or "batch", those of the batch it is given, as in
    training; `norm_eps` is what is added to its variances, and `ghost_size` over how many examples of a batch its
    statistics are taken in training, all of them by default (Hoffer et al. 2017, algorithm 1). Gradients longer than
    `max_gradient_norm` are cut to that; `restart_optimizer` gives every epoch an optimizer without memory,
    `restart_with_phase` every phase of the schedule. With
    `augmentation` every image is moved anew each time it is drawn; `dropout` is the share of hidden units that are
    silenced. Every batch is trained on for `steps_per_batch` steps (which count as one), drawn back by `proximal` times
    the way from where they began: conservative training (Keskar et al. 2017, §4.2). With `adversarial`, half of the
    loss is that of the batch moved so far, per pixel, up its gradient (Goodfellow et al. 2015, equation 3.1). A trial
    with a `target_accuracy` (a fraction) ends at the first checkpoint after the start at which it has it on what is
    held out, on the validation set if there are two; its budget is then the most that it gets.
    """

    dataset: str = "mnist5k"
    train_size: int | None = None
    evaluate_on: str = "test"
    preprocessing: str = "standardize"
    model: str = "mlp"
    widths: tuple[int, ...] = (1024, 1024)
    batch_norm: bool = False
    init: str = "glorot"
    optimizer: str = "sgd"
    lr: float = 0.01  # per step, mean-reduced loss
    momentum: float = 0.0
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    batch_size: int = 64
    warmup_epochs: float = 0.0
    schedule: tuple[Phase, ...] = ()
    epochs: float | None = None
    steps: int | None = None
    init_seed: int = 0
    data_seed: int = 0
    probes: tuple[str, ...] = ("fit", "travel")
    final_probes: tuple[str, ...] = ()
    draws: int = 1000
    partner_batch_size: int | None = None
    probe_examples: int | None = None
    checkpoints: tuple[float, ...] = ()
    precision: str = "auto"
    drop_last: bool = False
    norm_statistics: str = "kept"
    norm_eps: float = 1e-5
    target_accuracy: float | None = None
    label_noise: float = 0.0
    ghost_size: int | None = None
    max_gradient_norm: float | None = None
    restart_optimizer: bool = False
    restart_with_phase: bool = False
    augmentation: str = "none"
    dropout: float = 0.0
    steps_per_batch: int = 1
    proximal: float = 0.0
    adversarial: float = 0.0

    def __post_init__(self) -> None:
        for name in ("widths", "schedule", "probes", "final_probes", "checkpoints"):
            value = getattr(self, name)
            if isinstance(value, str) or not isinstance(value, Sequence):
                raise SpecError(f"{name} {value!r}: must be a list")
            object.__setattr__(self, name, tuple(value))
        object.__setattr__(self, "schedule", tuple(_as_phase(p) for p in self.schedule))
        for name in NUMBERS:  # 1 and 1.0 are one spec, so one key; -0.0 is 0.0
            if is_number(getattr(self, name)):
                object.__setattr__(self, name, float(getattr(self, name)) + 0.0)
        for name in ("epochs", "target_accuracy", "max_gradient_norm"):
            if is_number(getattr(self, name)):
                object.__setattr__(self, name, float(getattr(self, name)))
        object.__setattr__(self, "checkpoints", tuple(float(c) if is_number(c) else c for c in self.checkpoints))
        self._validate()
        sizes = [self.batch_size, *(p.batch_size for p in self.schedule)]
        if not any(self.num_train % size for size in sizes):  # one spec, so one key
            object.__setattr__(self, "drop_last", False)

    def _validate(self) -> None:
        choose("dataset", self.dataset, DATASETS)
        choose("split to evaluate on", self.evaluate_on, SPLITS)
        choose("preprocessing", self.preprocessing, PREPROCESSINGS)
        choose("model", self.model, MODELS)
        choose("initialisation", self.init, INITS)
        choose("optimizer", self.optimizer, OPTIMIZERS)
        choose("precision", self.precision, PRECISIONS)
        choose("statistics of batch norm", self.norm_statistics, STATISTICS)
        choose("augmentation", self.augmentation, AUGMENTATIONS)
        for probe in (*self.probes, *self.final_probes):
            choose("probe", probe, PROBES)
        available = DATASETS[self.dataset].num_train
        if self.evaluate_on != "test":
            available -= DATASETS[self.dataset].num_validation
        if self.train_size is not None and not (
            type(self.train_size) is int and DATASETS[self.dataset].num_classes <= self.train_size <= available
        ):
            raise SpecError(
                f"train_size {self.train_size!r}: must be a whole number from "
                f"{DATASETS[self.dataset].num_classes} to {available} for {self.dataset} "
                f"evaluated on {self.evaluate_on}"
            )
        if not self.widths or not all(type(w) is int and w >= 1 for w in self.widths):
            raise SpecError(f"widths {self.widths!r}: must be whole numbers ≥ 1, such as (1024, 1024)")
        for name in ("batch_norm", "drop_last", "restart_optimizer", "restart_with_phase"):
            if type(getattr(self, name)) is not bool:
                raise SpecError(f"{name} {getattr(self, name)!r}: must be True or False")
        for name in ("init_seed", "data_seed"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 0:
                raise SpecError(f"{name} {getattr(self, name)!r}: must be a whole number ≥ 0")
        for name in ("momentum", "beta1", "beta2", "dropout"):
            if not is_number(getattr(self, name)) or not 0 <= getattr(self, name) < 1:
                raise SpecError(f"{name} {getattr(self, name)!r}: must be at least 0 and below 1")
        for name in ("weight_decay", "warmup_epochs", "proximal", "adversarial"):
            if not is_number(getattr(self, name)) or getattr(self, name) < 0:
                raise SpecError(f"{name} {getattr(self, name)!r}: must be a number ≥ 0")
        for name in ("eps", "norm_eps"):
            if not is_number(getattr(self, name)) or getattr(self, name) <= 0:
                raise SpecError(f"{name} {getattr(self, name)!r}: must be a number above 0")
        if self.momentum and self.optimizer not in ("sgd", "nesterov", "rmsprop"):
            raise SpecError(f"momentum {self.momentum}: {self.optimizer} has none; set it to 0")
        if self.optimizer == "nesterov" and not self.momentum:
            raise SpecError("optimizer nesterov: needs a momentum above 0, such as 0.9")
        if (self.beta1, self.beta2, self.eps) != (0.9, 0.999, 1e-8) and self.optimizer not in ("adam", "adamw"):
            raise SpecError(f"beta1, beta2, eps: are Adam's, and {self.optimizer} has none; leave them out")
        if (self.norm_statistics, self.norm_eps) != ("kept", 1e-5) and not self.has_batch_norm:
            raise SpecError("norm_statistics, norm_eps: are of batch norm, and this network has none; leave them out")
        if self.ghost_size is not None:
            if type(self.ghost_size) is not int or self.ghost_size < 2:
                raise SpecError(f"ghost_size {self.ghost_size!r}: must be a whole number ≥ 2, such as 128")
            if not self.has_batch_norm or self.norm_statistics != "kept":
                raise SpecError("ghost_size: is of batch norm whose statistics are kept; leave it out")
        clip = self.max_gradient_norm
        if clip is not None and (not is_number(clip) or clip <= 0):
            raise SpecError(f"max_gradient_norm {clip!r}: must be a number above 0, such as 5")
        if type(self.steps_per_batch) is not int or self.steps_per_batch < 1:
            raise SpecError(f"steps_per_batch {self.steps_per_batch!r}: must be a whole number ≥ 1")
        if self.proximal and self.steps_per_batch == 1:
            raise SpecError("proximal: draws back what more than one step of a batch has moved; set steps_per_batch")
        if type(self.draws) is not int or self.draws < 1:
            raise SpecError(f"draws {self.draws!r}: must be a whole number ≥ 1")
        for name in ("partner_batch_size", "probe_examples"):
            size = getattr(self, name)
            if size is not None and not (type(size) is int and 1 <= size <= self.num_train):
                raise SpecError(f"{name} {size!r}: must be a whole number from 1 to {self.num_train}")
        if not is_number(self.label_noise) or not 0 <= self.label_noise <= 1:
            raise SpecError(f"label_noise {self.label_noise!r}: must be a share from 0 to 1, such as 0.1")
        if self.target_accuracy is not None:
            if not is_number(self.target_accuracy) or not 0 < self.target_accuracy <= 1:
                raise SpecError(
                    f"target_accuracy {self.target_accuracy!r}: must be above 0 and at most 1, such as 0.97"
                )
            if not {"fit", "held-out fit"} & set(self.probes):
                raise SpecError('target_accuracy: needs one of the probes "fit" and "held-out fit", which measure it')
        self._validate_schedule()
        self._validate_budget()

    def _validate_schedule(self) -> None:
        last = 0
        for phase in (Phase(0, self.lr, self.batch_size), *self.schedule):
            if not is_number(phase.lr) or phase.lr <= 0:
                raise SpecError(f"lr {phase.lr!r}: must be a number above 0")
            if type(phase.batch_size) is not int or phase.batch_size < 1:
                raise SpecError(f"batch_size {phase.batch_size!r}: must be a whole number ≥ 1")
            if phase.batch_size > self.num_train:
                raise SpecError(
                    f"batch_size {phase.batch_size}: larger than the {self.num_train} training examples "
                    f"of {self.dataset}; allowed are 1 to {self.num_train}"
                )
            leftover = 0 if self.drop_last else self.num_train % phase.batch_size
            ghost = self.ghost_size or self.num_train
            if self.has_batch_norm and any(size % ghost == 1 for size in (phase.batch_size, leftover)):
                raise SpecError(
                    f"batch_size {phase.batch_size}: leaves a batch of one example, of which batch norm has no "
                    "variance; choose another size"
                )
        for phase in self.schedule:
            if type(phase.epoch) is not int or phase.epoch <= last:
                raise SpecError(f"schedule: phase epochs must be whole numbers rising from 1, got {phase.epoch!r}")
            last = phase.epoch

    def _validate_budget(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            given = "neither" if self.epochs is None else f"epochs={self.epochs!r} and steps={self.steps!r}"
            raise SpecError(f"budget: give either epochs or steps, got {given}")
        if self.epochs is not None and (not is_number(self.epochs) or self.epochs <= 0):
            raise SpecError(f"epochs {self.epochs!r}: must be a number above 0")
        if self.steps is not None and (type(self.steps) is not int or self.steps < 1):
            raise SpecError(f"steps {self.steps!r}: must be a whole number ≥ 1")
        budget = self.epochs or self.steps or 0
        positions = (0.0, *self.checkpoints)
        if not all(is_number(c) for c in positions) or any(a >= b for a, b in itertools.pairwise((*positions, budget))):
            raise SpecError(
                f"checkpoints {list(self.checkpoints)}: must rise, strictly between 0 and the budget of {budget:g}"
            )
        if self.num_steps < 1:
            raise SpecError(f"epochs {self.epochs!r}: less than one step of {self.batch_size} examples")

    @property
    def has_batch_norm(self) -> bool:
        return self.batch_norm or self.model == "f1"

    @property
    def num_train(self) -> int:
        """Training examples seen in an epoch."""
        info = DATASETS[self.dataset]
        held_out = 0 if self.evaluate_on == "test" else info.num_validation
        return self.train_size or info.num_train - held_out

    def meets_target(self, measures: Mapping[str, Any]) -> bool:
        """Whether the trial may end here, having met its target."""
        if self.target_accuracy is None:
            return False
        split = "test" if self.evaluate_on == "test" else "validation"
        return bool(measures[f"{split}_accuracy"] >= self.target_accuracy)

    def phase_at(self, epoch: int) -> Phase:
        """The learning rate and batch size in force during epoch `epoch` (counted from 0)."""
        started = [p for p in self.schedule if p.epoch <= epoch]
        return started[-1] if started else Phase(0, self.lr, self.batch_size)

    def steps_in_epoch(self, epoch: int) -> int:
        """⌈N/B⌉: the last batch of an epoch may be smaller; ⌊N/B⌋ where it is dropped."""
        whole, leftover = divmod(self.num_train, self.phase_at(epoch).batch_size)
        return whole + (leftover > 0 and not self.drop_last)

    def step_at(self, epochs: float) -> int:
        """The number of steps after `epochs` epochs (a fraction of an epoch is rounded to a whole step)."""
        bounds = [0, *(p.epoch for p in self.schedule if p.epoch < epochs), epochs]
        return round(sum((b - a) * self.steps_in_epoch(int(a)) for a, b in itertools.pairwise(bounds)))

    @property
    def num_steps(self) -> int:
        return self.steps if self.steps is not None else self.step_at(self.epochs or 0)

    @property
    def num_samples(self) -> int:
        """Examples trained on over the whole budget (a batch at the end of an epoch may be smaller)."""
        epoch, left, samples = 0, self.num_steps, 0
        while left > 0:
            steps = min(left, self.steps_in_epoch(epoch))
            samples += min(steps * self.phase_at(epoch).batch_size, self.num_train)
            epoch, left = epoch + 1, left - steps
        return samples

    @property
    def checkpoint_steps(self) -> tuple[int, ...]:
        """Steps at which probes measure: the start, the checkpoints, the end."""
        inner = (int(c) if self.epochs is None else self.step_at(c) for c in self.checkpoints)
        return tuple(sorted({0, *inner, self.num_steps}))

    def _fields(self) -> dict[str, Any]:
        """As dataclasses.asdict, which copies every value on the way."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return fields | {"schedule": [dataclasses.asdict(p) for p in self.schedule]}

    def to_json(self) -> str:
        """Canonical JSON: every field, sorted."""
        return json.dumps(self._fields(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Trial:
        return cls(**json.loads(text))

    @functools.cached_property
    def key(self) -> str:
        """What the ledger looks up: a hash of the fields that differ from their default, the data's
        checksum and ENGINE_VERSION. So a field added later, with a default, leaves old keys alone."""
        default = {f.name: f.default for f in dataclasses.fields(self)}
        told = {
            name: value
            for name, value in self._fields().items()
            if getattr(self, name) != default[name] or name == "dataset"
        }
        text = json.dumps(
            [ENGINE_VERSION, DATASETS[self.dataset].checksum, told], sort_keys=True, separators=(",", ":")
        )
        return hashlib.sha256(text.encode()).hexdigest()[:20]


SEEDS = ("init_seed", "data_seed")  # an axis over both at once: arms with equal seeds are paired


@dataclass(frozen=True)
class Sweep:
    """A named base trial and axes. An axis is a field, or several fields that move together.

    >>> Sweep("lr", Trial(epochs=1), {"lr": (0.1, 0.2), SEEDS: ((0, 0), (1, 1))}).trials()  # four trials
    """

    name: str
    base: Trial
    axes: Mapping[str | tuple[str, ...], Sequence[Any]] = field(default_factory=dict)

    def trials(self) -> list[Trial]:
        return list(self._trials)

    @functools.cached_property
    def _trials(self) -> list[Trial]:
        known = {f.name for f in dataclasses.fields(Trial)}
        names = [(a,) if isinstance(a, str) else a for a in self.axes]
        for name in itertools.chain.from_iterable(names):
            choose("trial field", name, known)
        columns = [[(v,) if isinstance(axis, str) else tuple(v) for v in values] for axis, values in self.axes.items()]
        for axis, values in zip(names, columns, strict=True):
            if any(len(v) != len(axis) for v in values):
                raise SpecError(f"axis {', '.join(axis)}: every value must be a list of {len(axis)}, one a field")
        points = (
            dict(zip(itertools.chain.from_iterable(names), itertools.chain.from_iterable(point), strict=True))
            for point in itertools.product(*columns)
        )
        return [dataclasses.replace(self.base, **point) for point in points]


def whole(name: str, count: Any) -> int:
    """`count`, if it is a whole number ≥ 1; SpecError otherwise."""
    if type(count) is not int or count < 1:
        raise SpecError(f"{name} {count!r}: must be a whole number ≥ 1")
    return count


def paired_seeds(count: int) -> list[tuple[int, int]]:
    """Values for a SEEDS axis, 0 to count - 1: seed s sets both the initialisation and the data's order."""
    return [(s, s) for s in range(whole("seeds", count))]
