"""Shen: "starting with a large batch size doesn't 'get the model stuck'": can it switch to a small one at any time?"""

from __future__ import annotations

from repro.claims.switching.experiment import FASTER, OF_POST, SETTINGS, SMALL_KEPT, SWITCHED, design
from repro.claims.switching.figures import FIGURES
from repro.claims.switching.judgement import MARGIN, answer, judge
from repro.evidence.spec import Claim, Published, Revision


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
        "Paired differences over seeds, 95 % t intervals, of test accuracy averaged over the last third of the epochs"
        " that the small batch gets alone. After a switch the network catches up if it tests the same as the small "
        f"batch from the start to within ±{MARGIN} points (two one-sided tests, 5 %; the margin is for 10,000 test "
        f"images) or surely better; it stays behind if it is surely more than {MARGIN} points worse. Reproduced: it "
        "catches up whenever it is switched, with as many epochs after the switch as the small batch gets alone, on a"
        " narrow network and, where it was run, on the post's; it catches up with the small batch for twice as long "
        "where it is switched after as many steps of the large batch as the small one takes alone; and ten times the "
        "learning rate, in place of the small batch, is surely better than the large batch kept, whenever it is "
        "raised. Conditional: it catches up after some switches and surely stays behind after others, or one of the "
        "other two surely fails. Not reproduced: it surely stays behind after some and catches up after none, or "
        "switching last is, on either network, surely worse than keeping the large batch for as long (this comes "
        f"first). Inconclusive: anything else; if the large batch, kept, is not surely more than {MARGIN} points "
        "behind the small one, on both networks, so that there is nothing to gain; or if what is switched at a "
        "thousandth of the learning rate, and so is stuck, is not surely behind on both, which would say that the "
        "measure cannot see it. Besides, switched last with as many steps in all as the small batch takes alone, with "
        "as many epochs in all, and ten times the learning rate beside the small batch, are judged likewise."
    ),
    history=(
        Revision("2026-11-22T13:53", "Written, before the first run of an arm that switches."),
        Revision(
            "2026-11-22T19:48",
            "Still before it: the sweep is run on a narrow network, and what the post has of it on the post's, too. On "
            "that one alone it would take twenty core hours, two fifths of them for one arm.",
        ),
        Revision(
            "2026-11-23T03:49",
            "Still before it, after a sceptic's reading: the control is asked for on the post's network, too; "
            "accuracy is averaged over the last epochs (on Fashion-MNIST's validation images a single one wavers by "
            "0.7 points, ten by 0.2), over more seeds; what is switched latest has the small batch for twice as long "
            "beside it, and counts; the higher learning rate, of which the sentence speaks as well, counts; and a "
            "network that stays where the large batch has left it is no longer taken for one with nothing to gain.",
        ),
        Revision(
            "2026-11-24T03:24",
            "After the runs, and after a reader's objection; the verdict's own rule is as it was. One part more, of as "
            "many epochs in all, of arms that had been run: all others give the small batch its epochs on top of the "
            "large one's, so none told what those cost.",
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
        "Begin with a large batch if that is convenient, and switch when it no longer helps.",
        "What that cost here is the difference at as many epochs in all, below: the large batch's own are not made up.",
    ),
    change=(
        "A network, or a longer time with the large batch, after which the small one ends surely more than the margin "
        "behind."
    ),
    published=(
        _shen("B = 64, 30 epochs", SMALL_KEPT),
        _shen("B = 1024 for 1 epoch, then 64 for 30", SWITCHED.format(1)),
        _shen("B = 1024 for 30 epochs, then 64 for 30", SWITCHED.format(30)),
        _shen("B = 1024 for 30 epochs, then ten times the rate for 30", FASTER.format(30)),
    ),
    figures=FIGURES,
)
