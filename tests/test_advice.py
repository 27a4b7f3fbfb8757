"""The adviser: each case it must meet, what it says, what it leaves alone, and the rules by their closed forms."""

import copy
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
from typer.testing import CliRunner

import repro
from repro import cli
from repro.advice import adviser, rules
from repro.advice.throughput import Throughput
from repro.measure.micro_batches import Estimate
from repro.runs.provenance import PROJECT

LOSS = functional.cross_entropy
SECONDS = 0.5
LONG = 30  # enough to end by itself: what is compared must not depend on how busy the machine is


def examples(n=2000, d=6):
    random = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=random)
    return x, (x[:, :3] + torch.randn(n, 3, generator=random)).argmax(1)


X, Y = examples()


def mlp(*layers):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), *layers, nn.ReLU(), nn.Linear(16, 3))


def ask(model, loss=LOSS, data=(X, Y), seconds=SECONDS, **options):
    return repro.advise(model, loss, data, seconds=seconds, **options)


class Attention(nn.Module):
    """A small transformer on token ids."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(20, 16)
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.1, batch_first=True)
        self.out = nn.Linear(16, 3)

    def forward(self, ids, mask=None):
        return self.out(self.layer(self.tokens(ids), src_key_padding_mask=mask).mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.out = nn.LSTM(2, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.lstm(x.view(len(x), 3, 2))[0][:, -1])


class Jumpy(nn.Module):
    """Takes a number out of a tensor, and counts its calls in a buffer, in place."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls.add_(1)
        return self.linear(x) * (2.0 if self.linear.bias[0].item() > -9 else 1.0)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.out(torch.tanh(self.b(torch.tanh(self.a(x)))))


class Endless(IterableDataset):
    def __iter__(self):
        random = torch.Generator().manual_seed(0)
        while True:
            x = torch.randn(6, generator=random)
            yield x, x[:3].argmax()


class Unrelated(IterableDataset):
    """Without end, and with nothing to learn."""

    def __iter__(self):
        random = torch.Generator().manual_seed(0)
        while True:
            yield torch.randn(6, generator=random), torch.randint(3, (), generator=random)


class Augmented(Dataset):
    """Another example at every reading."""

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return X[i] + 0.1 * torch.randn(6), Y[i]


IDS = torch.randint(20, (600, 7), generator=torch.Generator().manual_seed(0))
MEETS = {
    "an MLP": lambda: ask(mlp()),
    "recurrent layers": lambda: ask(Recurrent()),
    "numbers taken out, buffers in place": lambda: ask(Jumpy()),
    "attention on token ids": lambda: ask(Attention(), data=(IDS, IDS[:, 0] % 3)),
    "a dict": lambda: ask(Attention(), data={"ids": IDS, "mask": IDS < 0, "labels": IDS[:, 0] % 3}),
    "a forward of one's own": lambda: ask(
        mlp(), None, {"a": X, "b": Y}, forward=lambda m, batch: LOSS(m(batch["a"]), batch["b"])
    ),
    "numpy": lambda: ask(mlp(), data=(X.numpy(), Y.numpy())),
    "a Dataset": lambda: ask(mlp(), data=TensorDataset(X, Y)),
    "a DataLoader": lambda: ask(mlp(), data=DataLoader(TensorDataset(X, Y), batch_size=50, shuffle=True)),
    "an endless stream": lambda: ask(mlp(), data=Endless()),
    "augmentation": lambda: ask(mlp(), data=Augmented()),
    "shared parameters": lambda: ask(Tied()),
    "frozen parameters": lambda: ask(_frozen()),
    "bfloat16": lambda: ask(mlp().bfloat16(), data=(X.bfloat16(), Y)),
    "a squared error": lambda: ask(nn.Linear(6, 1), nn.MSELoss(), (X, X[:, :1] + 1)),
}


def _frozen():
    model = mlp()
    model[0].requires_grad_(False)
    return model


@pytest.mark.parametrize("case", MEETS)
def test_meets_what_users_have(case):
    advice = MEETS[case]()
    assert 0 < advice.noise.low < math.inf and advice.speed.seconds
    low, high = advice.fastest[1:]
    assert 1 <= low <= advice.fastest[0] <= high <= max(advice.speed.seconds)
    assert 8 < len(str(advice).splitlines()) < 20 and max(map(len, str(advice).splitlines())) < 140


def test_frozen_parameters_are_skipped_and_shared_ones_counted_once():
    """The same as of the model whose only parameters these are."""
    frozen = _frozen()
    alone = copy.deepcopy(frozen[2])
    features = torch.relu(frozen[0](X)).detach()
    assert ask(frozen, seconds=LONG).noise.scale == pytest.approx(
        ask(alone, data=(features, Y), seconds=LONG).noise.scale, rel=1e-4
    )
    untied = Tied()
    tied = ask(untied, seconds=LONG).noise
    untied.b.weight = nn.Parameter(untied.a.weight.detach().clone())
    assert ask(untied, seconds=LONG).noise.trace != pytest.approx(tied.trace, rel=1e-3)


def test_batch_norm_is_measured_in_training_mode_and_says_what_eval_mode_would_have_said():
    model = mlp(nn.BatchNorm1d(16)).eval()
    advice = ask(model, seconds=1)
    assert advice.noise.micro_batch == 32 and min(advice.speed.seconds) == 32
    assert not model.training and model[1].num_batches_tracked == 0
    said = str(advice)
    assert "training mode, in which it is trained" in said
    assert f"Batch norm makes eval mode another network: {advice.evaluated}." in said


def test_dropout_is_left_on_and_said():
    with_dropout = ask(mlp(nn.Dropout(0.5)), seconds=LONG)
    assert "Dropout is left on" in str(with_dropout)
    assert with_dropout.noise.scale > ask(mlp(nn.Dropout(0.0)), seconds=LONG).noise.scale


def contrastive(outputs, targets):
    return LOSS(outputs @ outputs.T, torch.arange(len(outputs)))


def not_finite(outputs, targets):
    return LOSS(outputs, targets) + (math.nan if (targets == Y[0]).all() else 0) + outputs.sum() * 0


REFUSED = {
    "batch norm without running statistics": (
        lambda: ask(mlp(nn.BatchNorm1d(16, track_running_stats=False))),
        "examples share a loss, by the statistics of the batch that 1 takes, so that none has a gradient of its own",
    ),
    "a contrastive loss": (lambda: ask(mlp(), contrastive), "examples share it"),
    "class weights": (lambda: ask(mlp(), nn.CrossEntropyLoss(torch.tensor([1.0, 4, 9]))), "by class weights"),
    "targets that broadcast": (lambda: ask(nn.Linear(6, 1), nn.MSELoss(), (X, X[:, 0] + 1)), "of another shape"),
    "a summed loss": (lambda: ask(mlp(), nn.CrossEntropyLoss(reduction="sum")), "is a sum over the batch .*average it"),
    "a loss each": (lambda: ask(mlp(), nn.CrossEntropyLoss(reduction="none")), r"one number, the mean .* is \(\d+,\)"),
    "a label out of range": (lambda: ask(mlp(), data=(X, Y + 1)), "Target 3 is out of bounds"),
    "99 examples": (lambda: ask(mlp(), data=(X[:99], Y[:99])), "too few examples for an interval: 99, needs 100"),
    "NaN in the data": (
        lambda: ask(mlp(), data=(X.index_fill(0, torch.tensor(7), math.nan), Y)),
        r"data\[0\]: must be",
    ),
    "a model that diverged": (lambda: ask(_infinite()), "model, 0.weight: must be finite"),
    "a loss that overflows": (lambda: ask(mlp(), lambda o, t: LOSS(o, t) * 1e38 * 1e38), "loss: must be finite"),
    "gradients that overflow": (
        lambda: ask(mlp(), lambda o, t: LOSS(o * 1e-38, t) * 1e38 * o.exp().exp().mean()),
        "finite",
    ),
    "no gradient at all": (lambda: ask(mlp(), lambda o, t: (o * 0).mean()), "there is no noise to measure"),
    "no parameters": (lambda: ask(nn.ReLU()), "no parameter that can be trained"),
    "an optimizer of another model": (
        lambda: ask(mlp(), optimizer=torch.optim.SGD(mlp().parameters(), 0.1)),
        "holds none of the model's parameters",
    ),
    "an optimizer's name": (lambda: ask(mlp(), optimizer="adam"), "must be one of torch.optim, made; got 'adam'"),
    "no time": (lambda: ask(mlp(), seconds=0), "seconds 0"),
    "a negative rate": (lambda: ask(mlp(), lr=-1), "lr -1"),
    "half a batch": (lambda: ask(mlp(), batch_size=0.5), r"batch_size 0\.5"),
    "training without a rate": (lambda: ask(mlp(), train_seconds=0.1), "needs an optimizer, or an lr"),
    "training that diverges": (lambda: ask(mlp(), lr=1e30, train_seconds=0.3), "loss is .* after .* steps"),
    "no data": (lambda: ask(mlp(), data=None), "data: must be .* got NoneType"),
    "no target": (lambda: ask(mlp(), data={"x": X}), "no target among x: call it one of labels"),
    "a model that cannot be copied": (lambda: ask(_held()), "cannot be copied"),
    "no model": (lambda: ask(3), "must be a torch module; got int"),
    "no such device": (lambda: ask(mlp(), device="gpu"), "device 'gpu': cannot be used"),
    "an optimizer that wants a closure": (
        lambda: ask(model := mlp(), optimizer=torch.optim.LBFGS(model.parameters())),
        "the model cannot be measured .TypeError",
    ),
}


def _infinite():
    model = mlp()
    with torch.no_grad():
        model[0].weight[0, 0] = math.inf
    return model


def _held():
    model = mlp()
    model.lock = __import__("threading").Lock()
    return model


@pytest.mark.parametrize("case", REFUSED)
def test_is_refused_in_one_line(case):
    call, line = REFUSED[case]
    with pytest.raises(ValueError, match=line) as error:
        call()
    assert "\n" not in str(error.value) and len(str(error.value)) < 330


def test_a_bad_batch_is_named():
    """The loss is NaN wherever all of a micro-batch have the first label: batches of one do."""
    with pytest.raises(ValueError, match=r"loss: (is nan on micro-batch \d+|must be finite)"):
        ask(mlp(), not_finite, data=(X[:128], Y[:128]))


class Small(nn.Module):
    """A model for which memory holds eight examples."""

    def __init__(self, kind):
        super().__init__()
        self.linear, self.kind = nn.Linear(6, 3), kind

    def forward(self, x):
        if len(x) > 8:
            raise self.kind("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return self.linear(x)


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_out_of_memory_halves_the_micro_batch_and_remembers(kind, monkeypatch):
    monkeypatch.setattr("repro.advice.throughput._past", lambda *_: False)  # whatever the times
    advice = ask(Small(kind), seconds=LONG)
    assert advice.noise.micro_batch == 8 and max(advice.speed.seconds) == 8 and advice.speed.most == 8
    assert "memory holds" in str(advice)


def test_given_memory_is_kept_to():
    """Of a process of its own, above what it held before: copies, gradients, their sums, and every batch timed."""
    code = (
        "import resource, torch, torchvision, repro\n"
        "model, loss = torchvision.models.resnet18(num_classes=3), torch.nn.functional.cross_entropy\n"
        "data = torch.randn(3000, 3, 32, 32), torch.arange(3000) % 3\n"
        "repro.advise(model, loss, data, seconds=2, memory=2**40)\n"  # what is loaded and kept once
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "held = int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize() // 1024\n"
        "open('/proc/self/clear_refs', 'w').write('5')\n"
        "a = repro.advise(model, loss, data, seconds=8, memory=600 * 2**20)\n"
        "now = [l for l in open('/proc/self/status') if 'VmHWM' in l][0].split()[1]\n"
        "print(int(now) - held, max(a.speed.seconds), a.speed.most)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert told.returncode == 0, told.stderr
    took, largest, most = map(float, told.stdout.split())
    assert largest <= most and took <= 600 * 1024


def test_a_short_budget_says_how_many_examples_it_read():
    advice = ask(mlp(), seconds=1e-6)
    assert advice.noise.num_examples == 32 and "from 32 examples" in str(advice)


def test_without_a_gradient_to_tell_from_noise_it_says_at_least():
    model = nn.Linear(6, 3)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    said = str(ask(model, data=Unrelated()))
    assert "at least" in said and "give more seconds" in said


@pytest.mark.parametrize("fails", [False, True])
def test_everything_of_the_callers_is_left_as_it_was(fails):
    model = mlp(nn.BatchNorm1d(16), nn.Dropout(0.2))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    LOSS(model(X[:50]), Y[:50]).backward()
    optimizer.step()
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict(), [p.grad for p in model.parameters()]))
    modes, state = [m.training for m in model.modules()], torch.get_rng_state()
    np_state = np.random.get_state()[1].copy()
    if fails:
        with pytest.raises(ValueError, match="out of bounds"):
            ask(model, data=(X, Y + 1), optimizer=optimizer, train_seconds=0.1)
    else:
        ask(model, data=(X, Y), optimizer=optimizer, train_seconds=0.1)
    after = (model.state_dict(), optimizer.state_dict(), [p.grad for p in model.parameters()])
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert [m.training for m in model.modules()] == modes and torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], np_state)


def test_training_first_moves_the_noise_scale_and_says_how_far():
    advice = ask(mlp(), lr=0.5, batch_size=16, train_seconds=0.5)
    assert "A copy was trained first:" in str(advice)
    # how many steps fit depends on the machine; that they move it does not
    assert advice.noise.squared_norm != ask(mlp()).noise.squared_norm


def test_no_draw_depends_on_the_callers_random_numbers():
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(ask(copy.deepcopy(MODEL), seconds=LONG).noise)
    assert found[0] == found[1]


MODEL = mlp(nn.Dropout(0.2))


# The rules, by their closed forms.


@pytest.mark.parametrize(("alpha", "beta", "critical"), [(1.0, 0.01, 400), (0.2, 0.05, 10_000), (3.0, 0.001, 50)])
def test_the_fastest_batch_size_is_that_of_the_closed_form_where_time_is_a_line(alpha, beta, critical):
    times = {2**k: alpha + beta * 2**k for k in range(18)}
    best = math.sqrt(critical * alpha / beta)
    assert rules.fastest(times, critical) == pytest.approx(best)
    low, high = rules.nearly_fastest(times, critical)
    least = rules.time_to_target(best, alpha + beta * best, critical)
    for end in (low, high):
        assert rules.time_to_target(end, alpha + beta * end, critical) == pytest.approx(1.1 * least, rel=0.01)
    assert rules.fastest(times, 4 * critical) == pytest.approx(2 * best)  # wrong by 4 moves it by 2


def test_the_fastest_batch_size_of_any_times_is_the_least_of_their_interpolation():
    rng = np.random.default_rng(0)
    for _ in range(50):
        sizes = 2 ** np.arange(8)
        seconds = np.cumsum(rng.random(8) * rng.choice([0.1, 1, 10], 8))
        times, critical = dict(zip(sizes.tolist(), seconds, strict=True)), 10 ** rng.uniform(0, 3)

        def cost(b, sizes=sizes, seconds=seconds, critical=critical):
            return float((1 + critical / b) * np.interp(b, sizes, seconds))

        grid = np.geomspace(1, 128, 20_000)
        least = min(map(cost, grid))
        assert cost(rules.fastest(times, critical)) <= least * (1 + 1e-9)
        polished = optimize.minimize_scalar(cost, bounds=(1, 128), method="bounded").fun
        assert cost(rules.fastest(times, critical)) <= polished * (1 + 1e-9)


def test_without_an_end_to_the_noise_scale_examples_a_second_decide():
    assert rules.fastest({1: 1.0, 2: 1.1, 4: 1.2, 8: 3.0}, math.inf) == 4


def test_learning_rates_follow_their_laws():
    factor = rules.learning_rate_factor
    assert factor("SGD", 1, 2, 1e9) == pytest.approx(2)
    assert factor("SGD", 1e9, 2e9, 1) == pytest.approx(1)
    assert factor("SGD", 64, 64, 100) == 1
    assert factor("SGD", 10, 1000, 100) == pytest.approx(11 / 1.1)
    assert factor("SGD", 64, 256, math.inf) == 4
    assert factor("Adam", 64, 256, 100, (0.9, 0.999)) == 2
    assert math.isnan(factor("Adam", 64, 1024, 100, (0.9, 0.999)))  # κ(1 - β₁) = 1.6


def test_the_error_of_advice_is_that_of_one_more_workload():
    """A t interval for a new draw, whose coverage is its level."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(2000):
        logs = rng.normal(0.5, 0.8, 7)
        _, low, high = rules.error_of_advice(logs[:6].tolist())
        inside += low < math.exp(logs[6]) < high
    assert 0.935 < inside / 2000 < 0.965
    with pytest.raises(ValueError, match="three workloads"):
        rules.error_of_advice([0.0, 1.0])


def made(noise=None, **changes):
    given = {
        "noise": noise or Estimate(1.0, 0.01, 80.0, 130.0, 4000, 32),
        "evaluated": None,
        "speed": Throughput({2**k: 1 + 0.01 * 2**k for k in range(10)}, math.inf),
        "device": "cpu, 2 threads",
        "optimizer": "SGD",
        "betas": (),
        "lr": 0.1,
        "batch_size": 64,
    }
    return adviser.Advice(**{**given, **changes})


def test_what_it_says_is_what_it_found():
    advice = made()
    assert advice.sample_efficient == pytest.approx((10, 8, 13)) and advice.diminishing == (100, 80, 130)
    assert advice.fastest[0] == pytest.approx(100) and advice.learning_rate(100) == pytest.approx(
        0.1 * (1 + 100 / 64) / 2
    )
    said = str(advice)
    for words in (
        "100 (80 to 130), from 4,000 examples",
        "10 (8 to 13)",
        "0.128 at B = 100",
        "nobody has measured it yet",
    ):
        assert words in said
    told = str(made(record={"a": [100, 200, 10], "b": [50, 60, 10], "c": [10, 15, 5]}))
    assert "on 3 measured workloads the critical batch size was 1.5 times the noise scale" in told
    assert "at the start of training it was lower by 2 to 10 times" in told
    assert "no rule at B = 1,000" in str(made(Estimate(1, 0.001, 900, 1100, 9, 1), optimizer="Adam", betas=(0.9, 0.99)))
    assert "Give lr and batch_size" in str(made(lr=None))
    assert "No batch size was timed" in str(made(speed=Throughput({}, 5.0)))
    with pytest.raises(ValueError, match="give both to advise"):
        made(lr=None).learning_rate(3)


def test_the_figure_has_a_line_for_each_and_names_its_axes():
    figure = made().plot()
    (axes,) = figure.axes
    assert axes.get_xlabel() == "batch size B" and axes.get_ylabel() == "times the least"
    assert [line.get_label() for line in axes.get_lines()][:3] == ["steps", "examples", "time here"]


# The command.

SCRIPT = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    x = torch.randn(500, 4)
    return nn.Linear(4, 2), nn.functional.cross_entropy, (x, (x[:, 0] > 0).long())

def more():
    model, loss, data = make()
    return {"model": model, "loss": loss, "data": data, "lr": 0.1, "batch_size": 8}

def odd():
    return {"model": 1, "lambda": 2}

def broken():
    raise ValueError("a\\nb")

def three():
    return 3
"""


def run(*arguments):
    return CliRunner().invoke(cli.app, ["advise", *arguments])


def test_the_command_says_the_same(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    told = run(f"{script}:make", "--seconds", "0.5")
    assert told.exit_code == 0 and "Noise scale, at this checkpoint" in told.stdout
    assert "0.1 at B = 8 becomes" in run(f"{script}:more", "--seconds", "0.5").stdout


@pytest.mark.parametrize(
    ("function", "line"),
    [
        ("none", "has no function 'none'"),
        ("odd", "gives model, lambda; it must give"),
        ("broken", "fails: ValueError: a"),
        ("three", "gives int; it must give"),
        ("", "must be a file and a function in it"),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path, function, line):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    told = run(f"{script}:{function}")
    assert told.exit_code == 1 and line in told.stderr and told.stderr.strip().count("\n") == 0
    assert "no such file" in run(f"{tmp_path}/other.py:make").stderr


def test_it_needs_nothing_but_torch_numpy_scipy_and_curvlinops():
    """In a process where nothing else of the book's can be imported."""
    blocked = ("pandas", "matplotlib", "seaborn", "dask", "pyarrow", "statsmodels", "mlxtend", "typer", "rich", "yaml")
    code = (
        "import sys\n"
        f"for name in {blocked!r}: sys.modules[name] = None\n"
        "import torch, repro, repro.measure\n"
        "x = torch.randn(300, 4)\n"
        "three = torch.nn.Linear(4, 2), torch.nn.functional.cross_entropy, (x, (x[:, 0] > 0).long())\n"
        "a = repro.advise(*three, seconds=.3)\n"
        "print(a, repro.measure.largest_eigenvalue(*three))\n"
        "try: a.plot()\n"
        "except ValueError as error: print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert told.returncode == 0, told.stderr
    assert "Noise scale" in told.stdout and "plot: needs matplotlib" in told.stdout
