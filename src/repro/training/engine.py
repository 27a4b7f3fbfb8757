"""The only training loop. In-memory tensors, one thread, and every random draw from the trial's seeds.

Trials equal but for seeds, learning rate, momentum and weight decay can be trained as one stack: S networks in
tensors with a leading dimension S. A trial's numbers depend on its spec, the machine and the torch version, and on
nothing that runs beside it, in its stack or elsewhere.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from repro.training import models, optimizers
from repro.training.data import Dataset, generator
from repro.training.shapes import choose_path, stack_key
from repro.trial import Trial

Probe = Callable[[nn.Module, Mapping[str, Tensor], Dataset, Trial], Mapping[str, Any]]

# Steps between looks for a divergence: NaN and infinity stay in the weights, so late is not too late.
DIVERGENCE_CHECK_STEPS = 200
# From these batch sizes on products are rounded to bfloat16: the smallest that the claim bfloat16 is run with. With
# batch norm, whose statistics come from rounded numbers, it is another.
BFLOAT16_MIN_BATCH_SIZE = {"plain": 64, "batch norm": 256}


@dataclass(frozen=True)
class Training:
    """What training gave: one dict of measures a checkpoint, with its step and epoch, the last one final."""

    status: str  # "finished" or "diverged"
    checkpoints: list[dict[str, Any]]
    path: str  # how steps were computed
    precision: str


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Sums are grouped by the number of threads, so a fixed number is part of "same numbers"."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def batches(stack: Sequence[Trial], num_train: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Endless (epoch, lr (S,), indices (S, B)): a fresh permutation an epoch from each trial's data seed, in
    the phase's sizes, and what is left of it unless that is dropped. Linear warm-up as in Goyal et al. (2017, §2.2),
    but from 0."""
    randoms = [generator("order", t.data_seed) for t in stack]
    warmup = stack[0].step_at(stack[0].warmup_epochs)
    epoch = done = 0
    while True:
        phases = [t.phase_at(epoch) for t in stack]
        lr = torch.tensor([p.lr for p in phases], dtype=torch.float64)
        orders = torch.stack([torch.randperm(num_train, generator=r) for r in randoms])
        size = phases[0].batch_size
        for indices in orders[:, : stack[0].steps_in_epoch(epoch) * size].split(size, dim=1):
            done += 1
            yield epoch, lr * (done / warmup) if done < warmup else lr, indices
        epoch += 1


def has_native_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware (AVX-512 BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def choose_precision(trial: Trial) -> str:
    """The trial's precision; for "auto", bfloat16 products (float32 weights) of perceptrons where the processor makes
    them faster, for batches that are large enough throughout."""
    if trial.precision != "auto":
        return trial.precision
    smallest = min([trial.batch_size, *(p.batch_size for p in trial.schedule)])
    least = BFLOAT16_MIN_BATCH_SIZE["batch norm" if trial.has_batch_norm else "plain"]
    fast = trial.model in ("mlp", "f1") and smallest >= least and has_native_bfloat16()
    return "bfloat16" if fast else "float32"


def train(
    stack: Sequence[Trial], dataset: Dataset, probes: Sequence[Probe], final_probes: Sequence[Probe] = ()
) -> list[Training]:
    """Train trials of one `stack_key` on `dataset`, side by side, and measure each with every probe at every
    checkpoint, and with every final probe at the end.

    A trial whose logits or losses stop being finite ends there, with status "diverged", measured as it stands, by no
    final probe.
    """
    first = stack[0]
    if len({stack_key(t) for t in stack}) > 1:
        raise ValueError("trials of one stack may differ in seeds, lr, momentum and weight decay only")
    with one_thread():
        networks = [models.build(t) for t in stack]
        initial = [{name: p.detach().clone() for name, p in n.named_parameters()} for n in networks]
        precision, path = choose_precision(first), choose_path(first)
        step: optimizers.Step
        if path == "stacked":
            step = optimizers.ClosedForm(stack, networks, precision)
        else:
            [network] = networks
            step = optimizers.Autograd(first, network, precision)
        x_train = dataset.x_train.to(getattr(torch, precision))
        stops = set(first.checkpoint_steps)
        checkpoints: list[list[dict[str, Any]]] = [[] for _ in stack]
        training = list(range(len(stack)))  # rows of the stack that are still computed
        live, finished = set(training), set[int]()

        def measure(i: int, done: int, epoch: float) -> None:
            checkpoints[i].append({"step": done, "epoch": epoch})
            measure_with(probes, i)

        def measure_with(probes: Sequence[Probe], i: int) -> None:
            for probe in probes:
                checkpoints[i][-1].update(probe(networks[i], initial[i], dataset, stack[i]))

        for i in live:
            measure(i, 0, 0.0)
        start_of_epoch = (0, 0)  # (epoch, steps done before it)
        for done, (epoch, lr, indices) in enumerate(batches(stack, len(x_train)), start=1):
            if epoch != start_of_epoch[0]:
                start_of_epoch = (epoch, done - 1)
                step.begin_epoch(epoch)
            if len(training) < len(stack):
                lr, indices = lr[training], indices[training]
            # index_select: a third of the time of x[indices]
            x, y = (
                t.index_select(0, indices.flatten()).unflatten(0, indices.shape) for t in (x_train, dataset.y_train)
            )
            logits = step(x, y, lr)
            at_stop = done in stops
            if not at_stop and done % DIVERGENCE_CHECK_STEPS:
                continue
            finite = dict(zip(training, logits.isfinite().flatten(1).all(1).tolist(), strict=True))
            for i in sorted(live):
                if at_stop or not finite[i]:
                    measure(i, done, epoch + (done - start_of_epoch[1]) / first.steps_in_epoch(epoch))
                    losses = (value for name, value in checkpoints[i][-1].items() if name.endswith("_loss"))
                    if not finite[i] or not all(map(math.isfinite, losses)):
                        live.discard(i)
                    elif done == first.num_steps or first.meets_target(checkpoints[i][-1]):
                        live.discard(i)
                        finished.add(i)
                        measure_with(final_probes, i)
            if not live:
                break
            if len(live) <= len(training) / 2:
                rows = [row for row, i in enumerate(training) if i in live]
                step.keep(rows)
                training = [training[row] for row in rows]
    return [
        Training("finished" if i in finished else "diverged", checkpoints[i], path, precision)
        for i in range(len(stack))
    ]
