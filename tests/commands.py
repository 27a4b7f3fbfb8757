"""`repro` on a sweep of a test's own, long enough to be stopped or killed in the middle of, behind the real command
line. Every such process imports this module: it loads no more than the command does."""

from pathlib import Path

from repro.runs.ledger import Ledger
from repro.trial import SEEDS, Sweep, Trial, paired_seeds

CLAIM = "generalization-gap"
# Batch norm keeps it out of stacks.
TRIAL = Trial(train_size=1200, widths=(32,), batch_norm=True, batch_size=8, lr=0.05, epochs=2)
SWEEPS = {"twenty": Sweep("equal epochs", TRIAL, {SEEDS: paired_seeds(20)})}
SWEEPS["endless"] = Sweep("equal epochs", TRIAL, {SEEDS: paired_seeds(3000)})
COMMAND = """
import sys
if __name__ == "__main__":
    from dataclasses import replace
    sys.path.insert(0, {tests!r})
    from commands import CLAIM, SWEEPS
    from repro import claims, cli
    claims.all_claims()[CLAIM] = replace(claims.get(CLAIM), design=lambda settings: [SWEEPS[{sweep!r}]])
    cli.app()
"""


def write(folder, sweep):
    """The path of a script that is `repro` with this sweep for a claim."""
    script = folder / "command.py"
    script.write_text(COMMAND.format(tests=str(Path(__file__).parent), sweep=sweep))
    return script


def new_ledger(folder):
    return Ledger(folder / "ledger", folder / "recorded")
