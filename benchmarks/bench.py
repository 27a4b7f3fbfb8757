"""How fast training is here, beside the loops that people write, and beside this machine's own matrix products.

`make bench` runs it, tells each measurement as it ends, prints a table, and writes the same as JSON to
benchmarks/bench.json, from which the book draws its page. Speeds are samples a second over the whole machine; nothing
else should be running.

- tutorial loop: PyTorch's quickstart: a dataset of images with transforms, DataLoader, autograd; one process that
  has all cores.
- tensor loop: the same with the images as one tensor, prepared beforehand.
- ours: `runner.run_stack` on a warm Dask cluster, a worker a core, at least two trials each.
- share: ours, times the operations of a sample, over the rate at which as many processes multiply square matrices.
- training paths: ours, and its share, of whatever a trial may ask for beside plain SGD on a plain network.

Beside it, what `measures` measures.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import itertools
import json
import math
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import measures
import psutil
import torch
from distributed import Client
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import transforms

from repro import terminal
from repro.names import DATASETS
from repro.runs import cluster, ledger, provenance, runner
from repro.runs.ledger import Ledger
from repro.training import data, engine, shapes
from repro.trial import Trial

WIDE = "784-1024-1024-10"
NETS = {WIDE: (1024, 1024), "784-256-10": (256,)}
BATCH_SIZES = (1, 4, 16, 64, 256, 1024, 4096)
# What a trial may ask for, at PATHS_AT batch sizes, on the wide network unless it names another.
PATHS: dict[str, dict] = {
    "SGD": {},
    "momentum": {"momentum": 0.9},
    "Adam": {"optimizer": "adam"},
    "gradient clipped": {"max_gradient_norm": 5.0},
    "dropout": {"dropout": 0.2},
    "shifted and turned": {"augmentation": "shift and rotate"},
    "three steps a batch": {"steps_per_batch": 3, "proximal": 1e-3},
    "adversarial": {"adversarial": 0.1},
    "batch norm": {"batch_norm": True},
    "ghost batch norm": {"batch_norm": True, "ghost_size": 32},
    "convolutional": {"model": "cnn"},
    "convolutional, ghost batch norm": {"model": "cnn", "batch_norm": True, "ghost_size": 32},
}
PATHS_AT = (64, 1024)
WORKERS_AT = (16, 64, 1024)  # batch sizes at which all workers are compared with one
SWEEPS = {"in stacks": (1000, {}), "one by one": (1000, {"batch_norm": True}), "long": (10_000, {})}
SECONDS = 1.0  # a measurement of a loop or a product, about
SWEEP_SECONDS = 4.0  # of a sweep: its trials have a start-up, which longer ones would hide, as they do in use
REPEATS = 3  # of each; the median counts
TINY = {"widths": (8,), "train_size": 100, "batch_size": 50, "steps": 1, "probes": ("travel",)}


def dataset_here() -> str:
    return "mnist" if data.state("mnist") == "intact" else "mnist5k"


class Images(Dataset):
    """What torchvision.datasets.MNIST does for an example, for whatever digits are at hand."""

    def __init__(self, name: str) -> None:
        loaded = data.load(name, "unit")
        self.images = (loaded.x_train * 255).round().to(torch.uint8).view(-1, 28, 28)
        self.labels = loaded.y_train
        info = DATASETS[name]
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(info.mean, info.sd)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[i].numpy(), mode="L")), int(self.labels[i])


def plain_loop(name: str, kind: str, widths: tuple[int, ...], batch_size: int) -> float:
    """Samples a second of the loop of PyTorch's quickstart, torch's own threads."""
    examples = Images(name) if kind == "tutorial" else TensorDataset(*_tensors(name))
    loader = DataLoader(examples, batch_size=min(batch_size, len(examples)), shuffle=True)
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in zip((784, *widths[:-1]), widths, strict=True):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(widths[-1], 10))
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    samples, began, warm = 0, 0.0, 0
    while True:
        for x, y in loader:
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            warm += 1
            if warm == 3:
                began = time.perf_counter()
            elif warm > 3:
                samples += len(x)
                if time.perf_counter() - began > SECONDS:
                    return samples / (time.perf_counter() - began)


def _tensors(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    loaded = data.load(name)
    return loaded.x_train, loaded.y_train


def multiply(precision: str, seconds: float) -> float:
    """FLOP/s of 1024 × 1024 products on one thread, for about `seconds`."""
    torch.set_num_threads(1)
    a, b = (torch.randn(1024, 1024).to(getattr(torch, precision)) for _ in "ab")
    for _ in range(3):
        a @ b
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        a @ b
        count += 1
    return count * 2 * 1024**3 / (time.perf_counter() - began)


def median(measure: Callable[[], float], repeats: int) -> float:
    return statistics.median(measure() for _ in range(repeats))


def operations(trial: Trial) -> int:
    """Floating-point operations to train on one sample: forward, gradient by weight, gradient by input; of products of
    matrices alone."""
    channels, height, width = DATASETS[trial.dataset].shape
    first = channels * height * width * trial.widths[0]
    if trial.model in shapes.CONVOLUTIONAL:
        net = shapes.CONVOLUTIONAL[trial.model]
        first = 25 * channels * net.channels[0] * net.sides(height)[1] * net.sides(width)[1]
    passed = 6 * shapes.multiply_adds(trial)
    once = passed - 2 * first  # nothing needs the gradient by the image
    return trial.steps_per_batch * (once + (passed if trial.adversarial else 0))  # but what moves it does


def throughput(client: Client, trial: Trial, workers: int, samples_each: float) -> float:
    """Samples a second of `workers` at once, each training two trials or more such as `trial` on about
    `samples_each` examples in all."""
    size = max(shapes.max_stack(trial), 2)
    steps = max(2, math.ceil(samples_each / size / trial.batch_size))
    trials = [dataclasses.replace(trial, steps=steps, init_seed=s, data_seed=s) for s in range(size * workers)]
    names = itertools.cycle(list(client.scheduler_info()["workers"])[:workers])
    began = time.perf_counter()
    futures = [
        client.submit(runner.run_stack, stack, pure=False, workers=[next(names)])
        for stack in runner.stacks(trials, workers)
    ]
    client.gather(futures)
    return sum(t.num_samples for t in trials) / (time.perf_counter() - began)


def sweep_overhead(count: int, **more: object) -> dict[str, float]:
    """Wall seconds a trial of a sweep of trials that take almost no time, start-up apart, and the parent's memory
    when a tenth and when all of it is done (MiB)."""
    trials = [Trial(**TINY, **more, init_seed=i, data_seed=i) for i in range(count)]
    seen: list[tuple[int, float, float]] = []

    def progress(finished: int, total: int) -> None:
        seen.append((finished, time.perf_counter(), _resident()))

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        runner.run({"tiny": trials}, Ledger(Path(folder) / "w", Path(folder) / "r"), workers=2, progress=progress)
        ended = time.perf_counter()
        loading = time.perf_counter()
        ledger._read_version.cache_clear()
        rows = Ledger(Path(folder) / "w", Path(folder) / "r").rows(trials)
        loading = time.perf_counter() - loading
    first, last = seen[1], seen[-1]
    tenth = next(s for s in seen if s[0] >= count / 10)
    seconds, trained = last[1] - first[1], last[0] - first[0]
    if not trained:  # of few trials all may end together: then the start is in it
        seconds, trained = last[1] - began, count
    return {
        "trials": count,
        "milliseconds_a_trial": 1000 * seconds / trained,
        "start_and_stop_seconds": (first[1] - began) + (ended - last[1]),
        "parent_mib_at_a_tenth": tenth[2],
        "parent_mib_at_the_end": last[2],
        "ledger_rows": len(rows),
        "ledger_load_seconds": loading,
    }


def _resident() -> float:
    return psutil.Process().memory_info().rss / 2**20


def bench(quick: bool, progress: runner.Progress, say: runner.Say) -> dict:
    name, cores, repeats = dataset_here(), runner.num_cores(), 1 if quick else REPEATS
    sizes = [size for size in (4, 64, 1024) if size in BATCH_SIZES] if quick else BATCH_SIZES
    paths = list(itertools.product(PATHS, PATHS_AT[:1] if quick else PATHS_AT))
    settings = list(itertools.product(NETS, sizes))
    measuring = len(measures.NETS) * len(measures.WAYS) + len(measures.ADVISED)
    finished, total = itertools.count(1), len(settings) + len(paths) + len(WORKERS_AT) + len(SWEEPS) + measuring
    progress(0, total)

    def ended(line: str) -> None:
        say(line)
        progress(next(finished), total)

    spawn = multiprocessing.get_context("spawn")
    told: dict = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cores": cores,
        "dataset": name,
        "torch": torch.__version__,
        "processor": provenance.machine()["run_processor"],
        "commit": provenance.machine()["run_git_commit"],
        "native_bfloat16": engine.has_native_bfloat16(),
    }
    told |= {"norms": [], "advice": []}
    # before Dask sets the environment's number of threads
    for kind, row in measures.measured():
        told[kind].append(row)
        took = f"{row['milliseconds']:.3f} ms an example" if kind == "norms" else f"{row['seconds']:.1f} s"
        ended(f"{kind}, {row['net']}, {row.get('way', 'ours')}: {took}, {row['peak_mib']:.0f} MiB")
    told |= {"speeds": [], "paths": [], "workers_over_one": {}}
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(ProcessPoolExecutor(1, spawn))
        # starts its process before Dask sets the environment's number of threads, and more, for its workers'
        plain.submit(os.getpid).result()
        client = stack.enter_context(cluster.local_cluster(cores))
        client.run(data.load, name)

        def loop(kind: str, widths: tuple[int, ...], size: int) -> float:
            return median(lambda: plain.submit(plain_loop, name, kind, widths, size).result(), repeats)

        def products(precision: str) -> float:
            return sum(client.run(multiply, precision, SECONDS).values())

        def ours(trial: Trial, workers: int = cores) -> float:
            each = throughput(client, trial, workers, 3000) * SECONDS / workers  # also a warm-up
            each = throughput(client, trial, workers, each) * SWEEP_SECONDS / workers
            return median(lambda: throughput(client, trial, workers, each), repeats)

        def share(trial: Trial) -> dict[str, float]:
            """Ours, and what share it is of the rate of products just before and after."""
            precision = engine.choose_precision(trial) if trial.precision == "auto" else trial.precision
            before = products(precision)
            rate = ours(trial)
            flops = (before + products(precision)) / 2
            return {"ours": rate, "matmul_flops": flops, "share": rate * operations(trial) / flops}

        # what is compared is measured side by side, for the speed of a shared machine drifts
        for net, size in settings:
            size = min(size, DATASETS[name].num_train)
            trial = Trial(dataset=name, widths=NETS[net], batch_size=size, steps=1, lr=1e-3, probes=())
            chosen = engine.choose_precision(trial)
            other = "bfloat16" if chosen == "float32" else "float32"
            both = told["native_bfloat16"] and net == WIDE and size >= 64
            loops = {kind: loop(kind, NETS[net], size) for kind in ("tutorial", "tensor")}
            for precision in (chosen, other) if both else (chosen,):
                found = share(dataclasses.replace(trial, precision=precision))
                told["speeds"].append(
                    {
                        "net": net,
                        "batch_size": size,
                        "precision": precision,
                        "chosen": precision == chosen,
                        "stack": shapes.max_stack(trial),
                        **loops,
                        **found,
                    }
                )
            ours_here = told["speeds"][-1]["ours"]
            ended(
                f"{net} B={size}: {ours_here:,.0f} samples a second here, {loops['tutorial']:,.0f} in the tutorial loop"
            )
        told["matmul_flops"] = {
            precision: statistics.median(r["matmul_flops"] for r in told["speeds"] if r["precision"] == precision)
            for precision in dict.fromkeys(r["precision"] for r in told["speeds"])
        }
        for path, size in paths:
            trial = Trial(dataset=name, widths=NETS[WIDE], batch_size=size, steps=1, lr=1e-3, probes=(), **PATHS[path])
            found = share(trial)
            told["paths"].append({"path": path, "batch_size": size, **found})
            ended(f"{path} B={size}: {found['ours']:,.0f} samples a second, {found['share']:.0%} of products")
        for size in WORKERS_AT:
            trial = Trial(dataset=name, batch_size=size, steps=1, lr=1e-3, probes=(), precision="float32")
            gain = told["workers_over_one"][str(size)] = ours(trial) / ours(trial, workers=1)
            ended(f"all workers over one at B={size}: {gain:.2f}x")
        told["worker_mib"] = max(client.run(lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024).values())
    told["sweeps"] = {}
    for kind, (count, more) in SWEEPS.items():
        cost = told["sweeps"][kind] = sweep_overhead(min(count, 400) if quick else count, **more)
        ended(f"sweep of {cost['trials']:,} tiny trials, {kind}: {cost['milliseconds_a_trial']:.1f} ms a trial")
    return told


def show(told: dict) -> None:
    rates = ", ".join(f"{k} {v / 1e9:.0f} GFLOP/s" for k, v in told["matmul_flops"].items())
    print(f"{told['processor']}, {told['cores']} cores, torch {told['torch']}, {told['dataset']}; products: {rates}\n")
    print(f"{'net':17} {'B':5} {'precision':19}tutorial    tensor      ours /tutorial /tensor   share")
    for r in told["speeds"]:
        print(
            f"{r['net']:17} {r['batch_size']:<5} {r['precision'] + (' (chosen)' if r['chosen'] else ''):19}"
            f"{r['tutorial']:8,.0f} {r['tensor']:9,.0f} {r['ours']:9,.0f} {r['ours'] / r['tutorial']:9.1f}x"
            f"{r['ours'] / r['tensor']:8.1f}x {r['share']:7.0%}"
        )
    print()
    for r in told["paths"]:
        print(f"{r['path']:33} B={r['batch_size']:<6} {r['ours']:9,.0f} samples a second, {r['share']:.0%}")
    print("\nall workers over one: " + ", ".join(f"B={k} {v:.2f}x" for k, v in told["workers_over_one"].items()))
    print(f"peak memory of a worker: {told['worker_mib']:.0f} MiB")
    for name, s in told["sweeps"].items():
        print(
            f"sweep of {s['trials']:,} tiny trials, {name}: {s['milliseconds_a_trial']:.1f} ms a trial, start and stop "
            f"{s['start_and_stop_seconds']:.1f} s, parent {s['parent_mib_at_a_tenth']:.0f} MiB at a tenth, "
            f"{s['parent_mib_at_the_end']:.0f} at the end; {s['ledger_rows']:,} rows load in "
            f"{s['ledger_load_seconds']:.2f} s"
        )
    for row in told["norms"]:
        print(f"norms, {row['net']}, {row['way']}: {row['milliseconds']:.3f} ms an example, {row['peak_mib']:.0f} MiB")
    for row in told["advice"]:
        print(f"advice on {row['net']}: {row['seconds']:.1f} s of {row['given']}, {row['peak_mib']:.0f} MiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sizes, once each: does it run?")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    given = parser.parse_args()
    os.environ.setdefault("REPRO_CACHE", tempfile.mkdtemp())
    with terminal.progress_bar("bench") as progress:
        measured = bench(given.quick, progress, terminal.err.print)
    show(measured)
    if given.json:
        partial = given.json.with_suffix(".partial")
        partial.write_text(json.dumps(measured, indent=1) + "\n")
        partial.replace(given.json)
