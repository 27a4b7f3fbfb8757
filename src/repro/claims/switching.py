"""Shen: "starting with a large batch size doesn't 'get the model stuck'": can it switch to a small one at any time?"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import pandas as pd

from repro.evidence.intervals import Estimate, Unit, equivalence_p, mean_interval
from repro.evidence.spec import Claim, Figure, Outcome, Published, Revision, Scale, Settings, Verdict
from repro.evidence.tables import by_seed, margin_for, paired, point
from repro.evidence.words import bracketed, spread
from repro.names import SpecError
from repro.trial import SEEDS, Phase, Sweep, Trial, paired_seeds

MARGIN = 0.3  # percentage points of 10,000 test images within which accuracies count as the same
SMALL_KEPT, LARGE_KEPT = "small batch from the start", "large batch kept"
SWITCHED, AT_EQUAL_STEPS = "switched after epoch {}", "switched last, as many steps in all"
LATEST = "switched after as many steps of the large batch"
FASTER, STUCK = "large batch kept, ten times the learning rate", "switched, with too low a learning rate"
OF_POST = "network of the post: {}"  # arms run on it, too
TOO_LOW = 1e-3  # of the learning rate: so little that the network stays where it is
LOOKS = (1, 2, 5, 10, 20)  # epochs after a switch, at which accuracy is measured

PAPER = {
    "dataset": "mnist",
    "small": 64,
    "large": 1024,
    "lr": 0.01,
    "epochs": 30,  # before the longest switch, and after every one
    "switches": (1, 3, 10, 30),  # epochs after which the batch size changes
    "rest": 480,  # epochs after which the large batch has taken as many steps as the small one takes alone
    "seeds": 5,
    "widths": (256,),
    "post_seeds": 3,  # at most, of the arms that the post publishes, on its network; 0 leaves them out
    "post_widths": (1024, 1024),
}
SETTINGS = {
    Scale.SMOKE: (
        {
            **PAPER,
            "dataset": "mnist5k",
            "small": 16,
            "large": 256,
            "lr": 0.05,
            "epochs": 3,
            "switches": (1, 3),
            "rest": 48,
            "seeds": 2,
            "widths": (32,),
            "post_seeds": 2,
            "post_widths": (64,),
        },
    ),
    Scale.LAPTOP: (
        {
            **PAPER,
            "dataset": "mnist5k",
            "small": 16,
            "large": 256,
            "lr": 0.05,
            "epochs": 10,
            "switches": (1, 3, 10),
            "rest": 160,
            "widths": (64,),
            "post_widths": (128,),
        },
    ),
    Scale.PAPER: (PAPER, {**PAPER, "dataset": "fashion-mnist", "seeds": 7, "post_seeds": 0}),
}


def design(settings: Settings) -> list[Sweep]:
    """The small batch and the large one, kept; the large one until each of `switches`, then the small one for `epochs`
    more; and, after the longest, until as many steps are taken in all as the small batch takes from the start; or ten
    times the learning rate instead; or the small batch at a learning rate that is far too low. And the small one after
    `rest` epochs of the large one, for three seeds at most. On the post's network, what the post has of these."""
    small, large, lr, epochs = (settings[name] for name in ("small", "large", "lr", "epochs"))
    switches = settings["switches"]
    if sorted(set(switches)) != list(switches) or small >= large:
        raise SpecError(f"switches {list(switches)}: must rise, and small {small} be below large {large}")
    longest = switches[-1]
    base = Trial(dataset=settings["dataset"], widths=settings["widths"], lr=lr, batch_size=large, epochs=1)

    def after(switch: int, most: float) -> tuple[float, ...]:
        """Where to look: at the switch, and from there on."""
        return tuple(float(e) for e in (switch, *(switch + look for look in LOOKS)) if 0 < e < most)

    def trial(switch: int, phase: Phase | None) -> Trial:
        total = float(switch + epochs)
        return dataclasses.replace(
            base, epochs=total, schedule=(phase,) if phase else (), checkpoints=after(switch, total)
        )

    kept = dataclasses.replace(base, batch_size=small, epochs=epochs, checkpoints=after(0, epochs))
    arms = {SMALL_KEPT: kept, LARGE_KEPT: trial(longest, None)}
    arms |= {SWITCHED.format(e): trial(e, Phase(e, lr, small)) for e in switches}
    moved = trial(longest, Phase(longest, lr, small))
    total = longest + (kept.num_steps - moved.step_at(longest)) / kept.steps_in_epoch(0)
    arms[AT_EQUAL_STEPS] = dataclasses.replace(moved, epochs=total, checkpoints=after(longest, total))
    arms[LATEST] = trial(settings["rest"], Phase(settings["rest"], lr, small))
    arms[FASTER] = trial(longest, Phase(longest, 10 * lr, large))
    arms[STUCK] = trial(longest, Phase(longest, TOO_LOW * lr, small))
    many: int = settings["seeds"]
    sweeps = [
        Sweep(arm, spec, {SEEDS: paired_seeds(min(many, 3) if arm == LATEST else many)}) for arm, spec in arms.items()
    ]
    if settings["post_seeds"]:
        seeds = paired_seeds(min(many, settings["post_seeds"]))
        of_post = (SMALL_KEPT, LARGE_KEPT, SWITCHED.format(switches[0]), SWITCHED.format(longest), FASTER, STUCK)
        wide = {arm: dataclasses.replace(arms[arm], widths=settings["post_widths"]) for arm in of_post}
        sweeps += [Sweep(OF_POST.format(arm), spec, {SEEDS: seeds}) for arm, spec in wide.items()]
    return sweeps


def switched(table: pd.DataFrame, network: str = "{}") -> dict[int, str]:
    """The arms of the table that switch, by the epoch; of the post's network, where `network` is OF_POST."""
    names: list[str] = table["arm"].unique().tolist() if "arm" in table else []
    known = re.compile(network.format(SWITCHED.format(r"(\d+)")))
    return dict(sorted((int(match[1]), name) for name in names if (match := known.fullmatch(name))))


def compared(table: pd.DataFrame, arm: str, other: str, what: str) -> Estimate:
    """Test accuracy of one arm minus another, percentage points, paired by seed."""
    margin = margin_for(table, MARGIN) if len(table) else MARGIN
    unit = Unit("points", f"Test accuracy, {what}, percentage points", 0.0, ("worse", "better"), (-margin, margin))
    return paired(table, {"arm": arm}, {"arm": other}, "test_accuracy", 100).of(unit)


def behind(table: pd.DataFrame, arm: str) -> Estimate:
    """An arm minus the small batch from the start, on the same network."""
    alone = OF_POST.format(SMALL_KEPT) if arm.startswith(OF_POST.format("")) else SMALL_KEPT
    return compared(table, arm, alone, "minus the small batch from the start")


def catches_up(table: pd.DataFrame, e: Estimate) -> bool | None:
    """Whether a difference from the small batch is none, or for the better; False if it is surely beyond the margin;
    None where that is open."""
    margin = margin_for(table, MARGIN)
    if e.n > 1 and (e.low > 0 or equivalence_p(e.values, [0.0] * e.n, margin) < 0.05):
        return True
    return False if e.high < -margin else None


def judge_all(table: pd.DataFrame, arms: Sequence[str], what: str) -> Verdict:
    """Whether every arm catches up with the small batch kept from the start."""
    effects = {arm: behind(table, arm) for arm in arms}
    if min(e.n for e in effects.values()) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    caught = [catches_up(table, e) for e in effects.values()]
    worst = min(effects.values(), key=lambda e: e.value)
    where = ", where it is worst" if len(arms) > 1 else ""
    reason = f"{what} it tests {bracketed(worst, 'points')} beside the small batch from the start{where}."
    if all(caught):
        return Verdict(Outcome.REPRODUCED, reason, effects)
    if False in caught:
        return Verdict(Outcome.CONDITIONAL if True in caught else Outcome.NOT_REPRODUCED, reason, effects)
    return Verdict(Outcome.INCONCLUSIVE, reason, effects)


def judge_control(table: pd.DataFrame, networks: Sequence[str]) -> Verdict:
    """Whether a network that is stuck, since its learning rate is far too low, is told apart, on every network."""
    effects = {network.format(STUCK): behind(table, network.format(STUCK)) for network in networks}
    if min(e.n for e in effects.values()) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "Not run with two seeds.", effects)
    nearest = max(effects.values(), key=lambda e: e.value)
    where = ", where it is nearest" if len(networks) > 1 else ""
    reason = (
        f"At a thousandth of the learning rate it tests {bracketed(nearest, 'points')} beside the small batch{where}."
    )
    told = [catches_up(table, e) for e in effects.values()]
    if True in told:
        return Verdict(Outcome.NOT_REPRODUCED, reason, effects)
    return Verdict(Outcome.INCONCLUSIVE if None in told else Outcome.REPRODUCED, reason, effects)


def gains(table: pd.DataFrame) -> dict[str, Estimate]:
    """By network that was run, switched last minus the large batch kept for as many epochs; what is least so first."""
    last = {network: max(found.items())[1] for network in ("{}", OF_POST) if (found := switched(table, network))}
    told = {
        network: compared(table, arm, network.format(LARGE_KEPT), "switched minus the large batch kept")
        for network, arm in last.items()
    }
    return dict(sorted(told.items(), key=lambda item: item[1].high))


def judge(table: pd.DataFrame) -> Verdict:
    arms = switched(table)
    if not arms:
        return Verdict(Outcome.INCONCLUSIVE, "Nothing has been run that switches.")
    of_post = [*switched(table, OF_POST).values()]
    after = judge_all(table, [*arms.values(), *of_post], "Whenever it is switched,")
    gained = gains(table)
    gain = next(iter(gained.values()))
    control = judge_control(table, [*gained])
    parts = {
        "Switched with as many steps in all, it catches up": judge_all(
            table, [AT_EQUAL_STEPS], "With as many steps in all"
        ),
        "Switched after as many steps of the large batch, it catches up": judge_all(
            table, [LATEST], "Switched after as many steps"
        ),
        "A higher learning rate does the same": judge_all(table, [FASTER], "At ten times the learning rate"),
        "A network that is stuck would be told apart": control,
    }
    if of_post:
        higher = [OF_POST.format(FASTER)]
        parts |= {
            "On the post's network, it catches up": judge_all(table, of_post, "On the post's network"),
            "On the post's network, a higher learning rate does the same": judge_all(
                table, higher, "On the post's network, at ten times the learning rate"
            ),
        }
    named = {network.format("switched last, minus the large batch kept"): e for network, e in gained.items()}
    effects = {**after.effects, **named}
    outcome = after.outcome
    reason = f"{after.reason} Switching last instead of never is worth {bracketed(gain, 'points')}."
    if gain.n > 1 and gain.high < 0:
        outcome = Outcome.NOT_REPRODUCED
    elif not all(e.n > 1 and e.low > 0 for e in gained.values()) or control.outcome != Outcome.REPRODUCED:
        outcome = Outcome.INCONCLUSIVE
    return Verdict(outcome, reason, effects, parts)


def answer(table: pd.DataFrame, verdict: Verdict) -> str:
    arms = switched(table)
    found = [behind(table, arm) for arm in (*arms.values(), *switched(table, OF_POST).values())]
    if not found or min(e.n for e in found) < 2:
        return "Not settled: too few seeds have been run that switch."
    worst = min(found, key=lambda e: e.value)
    gain = next(iter(gains(table).values()))
    where = f"{spread(worst)} points at worst"
    if verdict.outcome == Outcome.REPRODUCED:
        return (
            f"No. Whenever it switches to a small batch, the network ends where the small batch alone would have "
            f"brought it ({where}), and {bracketed(gain, 'points')} above the large batch kept."
        )
    if verdict.outcome == Outcome.CONDITIONAL:
        return f"Not everywhere: after some switches, on some networks, it catches up; after others not ({where})."
    if verdict.outcome == Outcome.NOT_REPRODUCED and gain.high < 0:
        return f"There is nothing to switch for: it tests {bracketed(gain, 'points')} beside the large batch kept."
    if verdict.outcome == Outcome.NOT_REPRODUCED:
        return f"Yes. After a large batch the small one does not bring it where it would have been ({where})."
    return f"Not settled: beside the small batch from the start it is {where}."


def after_switch(table: pd.DataFrame) -> pd.DataFrame:
    """Test error by epochs since the switch, on a scale of its own for every switch; and of the small batch."""
    rows = []
    arms = {0: SMALL_KEPT, **switched(table)}
    for start, arm in arms.items():
        if not switched(table):
            break
        of_arm = table[(table["arm"] == arm) & (table["status"] == "finished")]
        for epoch, group in of_arm.groupby("epoch"):
            if float(str(epoch)) > start:
                errors = [100 - a for a in by_seed(group, "test_accuracy", 100).values()]
                name = "small batch from the start" if not start else f"switched after {start}"
                rows.append(point(mean_interval(errors), x=float(str(epoch)) - start, series=name))
    return pd.DataFrame(rows, columns=["x", "mean", "low", "high", "n", "series"])


def after_switch_title(table: pd.DataFrame) -> str:
    if judge(table).outcome == Outcome.REPRODUCED:
        return "After the switch, test error falls to where the small batch alone ends"
    return "Test error after the switch to the small batch"


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """Every arm's test accuracy minus that of the small batch from the start."""
    margin = margin_for(table, MARGIN) if len(table) else MARGIN
    arms = [a for a in (table["arm"].unique() if "arm" in table else []) if not a.endswith(SMALL_KEPT)]
    rows = [
        point(behind(table, arm), name=arm, series="test accuracy")
        | {"none": 0.0, "band_low": -margin, "band_high": margin}
        for arm in arms
        if behind(table, arm).n
    ]
    columns = ["name", "mean", "low", "high", "n", "series", "none", "band_low", "band_high"]
    return pd.DataFrame(rows, columns=columns)


def differences_title(table: pd.DataFrame) -> str:
    return "Test accuracy at the end, minus that of the small batch from the start"


def _shen(name: str, arm: str, note: str = "") -> Published:
    return Published(f"test accuracy, {name}", "98", {"arm": OF_POST.format(arm)}, "test_accuracy", "%", 100, note)


CLAIM = Claim(
    id="switching",
    question="Does a large batch get the network stuck?",
    statement=(
        "“starting with a large batch size doesn't 'get the model stuck' in some neighbourhood of bad local optimums. "
        "The model can switch to a lower batch size or higher learning rate anytime to achieve better test accuracy”"
    ),
    source="shen2018",
    counter_claim="“large-batch methods tend to converge to sharp minimizers of the training and testing functions”",
    counter_sources=("keskar2017",),
    rule=(
        "Paired differences over seeds of the test accuracy at the end, 95 % t intervals. After a switch the network "
        f"catches up if it tests the same as the small batch from the start to within ±{MARGIN} points (two one-sided "
        "tests, 5 %; the margin is for 10,000 test images) or surely better; it stays behind if it is surely more "
        f"than {MARGIN} points worse. Reproduced: it catches up whenever it is switched, with as many epochs after the"
        " switch as the small batch gets alone, on a narrow network and, where it was run, on the post's. "
        "Conditional: it catches up after some switches and surely stays behind after others. Not reproduced: it "
        "surely stays behind after some and catches up after none, or switching last is, on either network, surely "
        "worse than keeping the large batch for as long. Inconclusive: anything else; if switching last is not surely"
        " better than keeping the large batch, on both networks; or if the control, which is switched at a thousandth"
        " of the learning rate and so is stuck, is not surely behind on both. The parts are judged likewise, switched"
        " last: with as many steps in all as the small batch takes alone; with ten times the learning rate in place "
        "of the small batch; and after sixteen times as many epochs of the large batch, in which it takes as many "
        "steps as the small batch alone."
    ),
    history=(
        Revision("2026-11-22T13:53", "Written, before the first run of an arm that switches."),
        Revision(
            "2026-11-22T19:48",
            "Still before it: the sweep is run on a narrow network, and what the post has of it on the post's, too. On "
            "that one alone it would take twenty core hours, two fifths of them for one arm.",
        ),
        Revision(
            "2026-11-23T02:45",
            "Still before it: the control, and the gain over the large batch kept, are asked for on the post's "
            "network, too.",
        ),
    ),
    sentences={
        "starting with a large batch size doesn't": (),
    },
    settings=SETTINGS,
    design=design,
    judge=judge,
    answer=answer,
    advice=(
        "Begin with a large batch if that is convenient; switch when it no longer helps.",
        "A network can leave where a large batch has brought it.",
    ),
    change=(
        "A network, or a longer time with the large batch, after which the small one ends surely more than the margin "
        "behind."
    ),
    published=(
        _shen("B = 64, 30 epochs", SMALL_KEPT),
        _shen("B = 1024 for 1 epoch, then 64 for 30", SWITCHED.format(1)),
        _shen("B = 1024 for 30 epochs, then 64 for 30", SWITCHED.format(30)),
        _shen("B = 1024 for 30 epochs, then ten times the rate for 30", FASTER),
    ),
    figures=(
        Figure(
            "after",
            "curves",
            after_switch,
            after_switch_title,
            "epochs since the switch",
            "test error (%)",
            "From each switch on, as many epochs of the small batch as it gets alone. Means over seeds, 95 % t "
            "intervals.",
            x_scale="log",
            y_scale="log",
        ),
        Figure(
            "differences",
            "dots",
            differences,
            differences_title,
            "Test accuracy, minus the small batch from the start, percentage points",
            "",
            "Paired by seed, 95 % t intervals. Band: within the margin.",
            x_scale="linear",
        ),
    ),
)
