"""What a worker does: it trains a stack of trials and measures them. The one room of runs that loads torch, so that
what is recorded can be read, and a sweep be planned and handed out, without."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import time

from repro.probes import fit, gradients, landscape, noise, times
from repro.runs.ledger import Rows, make_rows
from repro.runs.provenance import machine
from repro.training import data, engine
from repro.trial import Trial

PROBES: dict[str, engine.Probe] = {
    "fit": fit.fit,
    "held-out fit": fit.held_out_fit,
    "travel": fit.travel,
    "sharpness": landscape.sharpness,
    "scale-free sharpness": landscape.scale_free_sharpness,
    "sharpness, half the box": landscape.half_sharpness,
    "sharpness variants": landscape.sharpness_variants,
    "sharpness, other boxes": landscape.sharpness_in_other_boxes,
    "sharpness, statistics anew": landscape.sharpness_anew,
    "sharpness, equal norms": landscape.equal_norms,
    "largest eigenvalue": landscape.largest_eigenvalue,
    "curvature": landscape.curvature,
    "landscape": landscape.landscape,
    "interpolation": landscape.interpolation,
    "rescaled": landscape.rescaled,
    "gradient norms": gradients.gradient_norms,
    "gradient tails": gradients.gradient_tails,
    "gradient passes": gradients.gradient_passes,
    "gradient noise": noise.gradient_noise,
    "step times": times.step_times,
}


@functools.cache
def _keep_memory() -> None:
    """Have the C library keep what is freed, once a process. Dask's workers are told to give it back at once, and
    a step's buffers then cost more to get from the system than to compute."""
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-1, 2**30)  # M_TRIM_THRESHOLD, in bytes
        libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, in bytes: its largest value


def train(stack: list[Trial]) -> list[Rows]:
    """Train the trials of one stack and return their ledger rows, whose seconds are equal shares. A pure function
    of the trials, but for its provenance."""
    machine()
    _keep_memory()
    first = stack[0]
    dataset = data.of(first)
    began = time.perf_counter()
    probes, final_probes = ([PROBES[name] for name in names] for names in (first.probes, first.final_probes))
    trained = engine.train(stack, dataset, probes, final_probes)
    seconds = (time.perf_counter() - began) / len(stack)
    return [make_rows(trial, training, seconds) for trial, training in zip(stack, trained, strict=True)]
