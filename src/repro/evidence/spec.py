"""What a claim is made of: Scale, Claim, Published, Figure, Verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from repro.names import DATASETS, SpecError, choose, is_number
from repro.trial import Sweep

if TYPE_CHECKING:
    import pandas as pd

    from repro.evidence.intervals import Estimate


def log_checkpoints(epochs: float) -> tuple[float, ...]:
    """1, 2, 5, 10, 20, 50 … epochs, below the budget."""
    return tuple(m * 10.0**e for e in range(5) for m in (1, 2, 5) if m * 10**e < epochs)


class Scale(StrEnum):
    """How big a sweep is run: seconds, minutes, or the published protocol."""

    SMOKE = "smoke"
    LAPTOP = "laptop"
    PAPER = "paper"


class Outcome(StrEnum):
    REPRODUCED = "reproduced"
    CONDITIONAL = "conditional"
    NOT_REPRODUCED = "not reproduced"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Verdict:
    """What a judge says of a table: the outcome, the sentence that says why, and the effects it weighed."""

    outcome: Outcome
    reason: str
    effects: Mapping[str, Estimate] = field(default_factory=dict)  # name -> estimate with interval and unit
    parts: Mapping[str, Verdict] = field(default_factory=dict)  # sentences of the claim that are judged apart


@dataclass(frozen=True)
class Judged:
    """What judges a sentence of a source: a part of a verdict, or the whole where none is named. `words`: what stands
    or falls with it, where that is not the sentence in full. `contrary`: they say the opposite of each other, so that
    one stands where the other falls."""

    part: str = ""
    words: str = ""
    contrary: bool = False


@dataclass(frozen=True)
class Published:
    """A number the source prints, and where ours comes from.

    `printed` is its text as printed: the last digit sets the resolution. `where` picks the rows of the
    table by column and value, `column` the measure; `factor` turns it into `unit` (100 for percent).
    `column=None`: not testable here, and `note` says why. `logarithmic`: of a positive measure whose values differ
    by factors, so that means, intervals and the comparison are of logarithms. `again`: the number is listed
    already, and stands here beside another measure of ours, for comparison: it is neither met nor missed. `most`: the
    largest value that there is, where there is one, such as 1 of a cosine; of per cents it is 100.
    """

    name: str
    printed: str
    where: Mapping[str, Any] = field(default_factory=dict)
    column: str | None = None
    unit: str = ""
    factor: float = 1.0
    note: str = ""
    logarithmic: bool = False
    again: bool = False
    most: float | None = None

    def __post_init__(self) -> None:
        if self.unit == "%":
            object.__setattr__(self, "most", 100.0)

    @property
    def value(self) -> float:
        return float(self.printed)

    @property
    def format(self) -> str:
        """Of our number beside it: one digit more than is printed; of a logarithmic one, four digits."""
        return ".4g" if self.logarithmic else f".{self._decimals + 1}f"

    @property
    def resolution(self) -> float:
        """One unit of the last printed digit."""
        return 10.0**-self._decimals

    @property
    def _decimals(self) -> int:
        return len(self.printed.partition(".")[2])


@dataclass(frozen=True)
class Figure:
    """One picture of a claim's table: `data` prepares the tidy table that is drawn (and offered as CSV) by `kind`:
    "curves", "lines" or "points" of the room figures, "dots" or "heat map" of the room tables. `title` states the
    finding, computed from the claim's table: with its interval, or without a number. `caption` says how to read it. The
    scales are those of kinds with two axes of numbers: "linear", "log", or "log2", ticked where it was run. Dots and
    curves know "symlog" as well: logarithmic on either side of zero."""

    id: str
    kind: str
    data: Callable[[pd.DataFrame], pd.DataFrame]
    title: Callable[[pd.DataFrame], str]
    x: str
    y: str
    caption: str
    x_scale: str = "log2"
    y_scale: str = "linear"


@dataclass(frozen=True)
class Revision:
    """A day on which a claim's rule was written or changed: `date` in UTC, to the minute, as ISO 8601; `what` was done
    and why; `before`: the outcomes by the rule that it replaced, by dataset."""

    date: str
    what: str
    before: Mapping[str, Outcome] = field(default_factory=dict)


PUBLISHED_SERIES = "published"  # of a figure's table: drawn as hollow black diamonds
Settings = Mapping[str, Any]


def _like(name: str, value: object, default: object) -> object:
    """`value`, if it is of the kind that the setting's default is; a list given for a tuple becomes one."""
    if isinstance(default, tuple):
        names = isinstance(default[0], str)
        fits = (lambda v: type(v) is str) if names else (lambda v: type(v) is int and v >= 1)
        if isinstance(value, list | tuple) and value and all(map(fits, value)):
            return tuple(value)
        raise SpecError(f"{name} {value!r}: must be a list such as {list(default)}")
    if isinstance(default, str) != isinstance(value, str) or not (isinstance(value, str) or is_number(value)):
        raise SpecError(
            f"{name} {value!r}: must be a {'name' if isinstance(default, str) else 'number'}, such as {default!r}"
        )
    return value


@dataclass(frozen=True)
class Claim:
    """One published claim: what it asks and says, what speaks against it, how it is run and how it is judged.

    `settings[scale]` lists the settings run at that scale, one a dataset, the main one first; `design`
    turns one of them into named sweeps. `judge` sees the table of one setting: a row a trial and
    checkpoint, with the sweep's name in the column `arm`. `answer` gives the reader's answer to the question, one or
    two sentences written for each outcome, with the table's numbers. The first of `figures` is the one that carries it.
    An instrument is checked as a claim is, but is not one about batch size: what other chapters rest on. What a source
    says stands in quotation marks, and in book/sources.yml: without them `statement` and `counter_claim` are in our
    words. `sentences`: which of those are judged here, each by its first words, and by what: parts of the
    verdict, alone where their names say enough; nothing named is the verdict itself.
    """

    id: str
    question: str
    statement: str
    source: str  # where the statement is made, as a citation key of book/references.bib
    counter_claim: str
    counter_sources: tuple[str, ...]
    rule: str  # how the judge decides, in words; written before the paper-scale run
    settings: Mapping[Scale, tuple[Settings, ...]]
    design: Callable[[Settings], Sequence[Sweep]]
    judge: Callable[[pd.DataFrame], Verdict]
    answer: Callable[[pd.DataFrame, Verdict], str]
    advice: tuple[str, str]  # what to do, and why in a few words: no numbers
    change: str  # what would change the verdict
    published: tuple[Published, ...] = ()
    figures: tuple[Figure, ...] = ()
    instrument: bool = False
    history: tuple[Revision, ...] = ()  # of the rule, first to last
    sentences: Mapping[str, tuple[str | Judged, ...]] = field(default_factory=dict)

    def sweeps(self, scale: Scale | str, **overrides: Any) -> list[Sweep]:
        """The sweeps of the main setting at `scale`, with overrides (None leaves a setting as it is)."""
        choose("scale", scale, tuple(Scale))
        main = self.settings[Scale(scale)][0]
        dataset = overrides.get("dataset") or main["dataset"]
        choose("dataset", dataset, DATASETS)
        same = [s for s in self.settings[Scale(scale)] if s["dataset"] == dataset]
        settings = dict(same[0] if same else main)
        for name, value in overrides.items():
            choose(f"setting of {self.id}", name, settings)
            if value is not None:
                settings[name] = _like(name, value, settings[name])
        try:
            return list(self.design(settings))
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            given = ", ".join(f"{name}={value!r}" for name, value in overrides.items() if value is not None)
            if not given:
                raise
            raise SpecError(f"{given}: makes no experiment ({error}); change one setting at a time") from error
