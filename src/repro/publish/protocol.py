"""What was run, as a table tells it: a row a field of the trials, few values as they are and many as a range."""

from __future__ import annotations

import dataclasses
import html
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from repro.trial import Trial

# What few trials have: told where some trial has it.
BESIDES = {
    "momentum": "momentum",
    "weight_decay": "weight decay",
    "warmup_epochs": "epochs over which the rate rises",
    "max_gradient_norm": "gradient clipped at a norm of",
    "restart_optimizer": "optimizer begun anew every epoch",
    "restart_with_phase": "optimizer begun anew with every phase",
    "label_noise": "share of labels drawn anew",
    "augmentation": "images",
    "dropout": "dropout",
    "ghost_size": "batch norm over, examples",
    "steps_per_batch": "steps on a batch",
    "proximal": "pull to where a batch began",
    "adversarial": "images moved up the gradient by",
}


def what_was_run(trials: Sequence[Trial]) -> list[tuple[str, str]]:
    """(field, its values) as HTML; trials that only time steps apart from the others, where there are others."""
    timed = _timed(trials)
    if others := [t for t in trials if t not in timed] if timed else []:
        told = ("trials that only time steps", f"{len(timed)}: {_each(map(_model, timed))}")
        return [*what_was_run(others), told]
    phases = [p for t in trials for p in t.schedule]
    normed = [t for t in trials if t.has_batch_norm]
    return [
        ("training examples", _each(f"{t.num_train:,}" for t in trials)),
        ("model", _each(_model(t) for t in trials)),
        *([("batch norm in testing", "; ".join(dict.fromkeys(map(_norm, normed))))] if normed else []),
        ("initialisation, pixels", "; ".join(dict.fromkeys(f"{t.init} + {t.preprocessing}" for t in trials))),
        ("optimizer", _each(t.optimizer for t in trials)),
        ("learning rate (per step)", _numbers("rates", [*(t.lr for t in trials), *(p.lr for p in phases)])),
        (
            "batch size of the training",
            _numbers("sizes", [*(t.batch_size for t in trials), *(p.batch_size for p in phases)]),
        ),
        *_besides(trials),
        ("last, smaller batch of an epoch", _each(_leftover(t) for t in trials)),
        ("epochs", _numbers("budgets", (t.epochs or t.num_steps / t.steps_in_epoch(0) for t in trials))),
        ("steps", _range(t.num_steps for t in trials)),
        ("paired seeds a setting", seeds(trials)),
    ]


def _besides(trials: Sequence[Trial]) -> list[tuple[str, str]]:
    usual, found = {f.name: f.default for f in dataclasses.fields(Trial)}, []
    for name, label in BESIDES.items():
        values = {getattr(t, name) for t in trials}
        if values - {usual[name]}:
            numbers = [float(v) for v in values if type(v) in (int, float)]
            words = {None: "none", "none": "as they are", True: "yes", False: "no"}
            others = [words.get(v, v) for v in values if type(v) not in (int, float)]
            found.append((label, ", ".join(sorted(others) + ([_numbers("values", numbers)] if numbers else []))))
    return found


def seeds(trials: Sequence[Trial]) -> str:
    """How many trials differ by their seeds alone: "5", or "3 to 10" where some settings have fewer than others; those
    that only time steps are no setting, where there are others."""
    counted = set(trials) - set(_timed(trials)) or trials
    return _range(Counter(dataclasses.replace(t, init_seed=0, data_seed=0) for t in counted).values())


def _timed(trials: Iterable[Trial]) -> list[Trial]:
    return [t for t in trials if "step times" in t.final_probes]


def _model(trial: Trial) -> str:
    if trial.model != "mlp":
        return trial.model.upper()
    return "MLP " + "-".join(map(str, ("in", *trial.widths, "out"))) + (" with batch norm" if trial.batch_norm else "")


def _norm(trial: Trial) -> str:
    statistics = "statistics of the batch" if trial.norm_statistics == "batch" else "statistics kept from training"
    return f"{statistics}, ε = {trial.norm_eps:g}"


def _leftover(trial: Trial) -> str:
    if trial.drop_last:
        return "dropped"
    return "kept" if trial.num_train % trial.batch_size else "none"


def _each(values: Iterable[Any]) -> str:
    return ", ".join(html.escape(str(v)) for v in dict.fromkeys(values))


def _numbers(what: str, values: Iterable[float]) -> str:
    """A few values as they are; many as "18 rates, 0.0078 to 2.83, ×√2"."""
    found = sorted({float(f"{v:.4g}") if v % 1 else v for v in values})
    if len(found) <= 6:
        return ", ".join(f"{v:g}" for v in found)
    first, last = (f"{v:g}" if v % 1 == 0 else f"{v:.3g}" for v in (found[0], found[-1]))
    told = f"{len(found)} {what}, {first} to {last}"
    steps = [b / a if a else math.inf for a, b in itertools.pairwise(found)]
    if max(steps) > 1.02 * min(steps):
        return told
    near = {2: "2", math.sqrt(2): "√2", 10: "10"}
    return told + "".join(f", ×{text}" for value, text in near.items() if abs(steps[0] / value - 1) < 0.02)


def _range(values: Iterable[int]) -> str:
    ordered = sorted(set(values))
    return " to ".join(f"{v:,}" for v in dict.fromkeys((ordered[0], ordered[-1])))


def setting(value: Any) -> str:
    """The value of a claim's setting."""
    if value is None:
        return "all"  # of the training set
    if isinstance(value, tuple):
        if isinstance(value[0], str):
            return "; ".join(value)
        return _numbers("values", value) if len(value) > 6 else ", ".join(f"{v:g}" for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
