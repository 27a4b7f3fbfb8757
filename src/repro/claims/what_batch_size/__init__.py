"""The question of it all: what batch size to use. Does a measured noise scale, with timed steps, tell?"""

from __future__ import annotations

from repro.claims.what_batch_size.experiment import SETTINGS, design
from repro.claims.what_batch_size.figures import FIGURES
from repro.claims.what_batch_size.judgement import LEAST, OFF, SAVES, UNASKED, WITHIN, answer, judge
from repro.evidence.spec import Claim, Revision

CLAIM = Claim(
    id="what-batch-size",
    question="What batch size should I use?",
    statement=(
        "The noise scale, measured in seconds, and the time of a step on your machine tell which batch size reaches a "
        "target soonest: fewer steps are bought with more examples, in proportion to one plus noise scale over batch "
        "size."
    ),
    source="mccandlish2018",
    counter_claim=(
        "How many steps a batch size takes differs between networks, data and optimizers so much that no rule tells, "
        "and the best learning rate follows none: measure and tune it each time."
    ),
    counter_sources=("shallue2019", "merrill2025"),
    rule=(
        "A workload is a study of the chapter on steps to a target, on either dataset, whose noise scale is measured "
        "along training as in the chapter on the noise scale, and whose steps are timed in a plain PyTorch loop on "
        "one core (the least of the timings). The advised batch size is the one, from the smallest run to the "
        "largest, at which (1 + noise scale/B) times the seconds of a step is least: what repro.advise says. Its "
        "slowdown is the measured time to the target there, least steps times seconds a step, over that at the best "
        "batch size run; between those run, log steps go as log B. Interval by bootstrap over trials and seeds. A "
        f"workload holds if its slowdown is below {WITHIN:.2f} with its whole interval, and breaks if the whole "
        f"interval lies above. Reproduced: {LEAST} hold or more, on three networks (the same one on another dataset "
        "is another), none breaks, and the control is beaten: the power of two that is best for the other workloads, "
        "in the geometric mean, surely takes longer than the advised batch size (geometric mean over workloads). "
        "Conditional: some hold, some break; or the control is not beaten, so that the advice is good and no better "
        f"than a guess. Not reproduced: {LEAST} break or more, on three networks, none holds. Inconclusive: "
        "otherwise, or fewer than three quarters of all hold. A study too many of whose best learning rates lie on "
        "an edge is left out. Apart, by the same rule: asked before training begins, with the noise scale of the "
        "start; and with a noise scale put right by the other workloads, times the geometric mean of their critical "
        f"batch sizes over their noise scales. A noise scale {OFF:g} times as large spoils the advice if it then "
        f"breaks in {LEAST} workloads or more, and does not if all hold; so does a tenth, judged apart. Measuring "
        f"beats a batch size that nobody measured for if B = {UNASKED[0]}, {UNASKED[1]} and {UNASKED[2]} all surely "
        "take longer than the advised one, in the geometric mean over these workloads; it does not if one of them "
        f"surely takes less than {SAVES:.2f} times as long. The learning rate of plain SGD goes as the adviser says "
        "(as B/(B + noise scale)) if, followed from the middle third of the batch sizes down and up, it is surely "
        "within an octave of the best in the mean over the lowest third and over the highest; three workloads or "
        "more must, and none surely not."
    ),
    history=(
        Revision("2026-11-22T13:05", "Written, before the first run."),
        Revision(
            "2026-11-22T14:12",
            "Before the first run still: the two datasets together, for four workloads are few; one threshold where "
            "there were two; and what could have sunk the advice: a noise scale ten times off, the start, two batch "
            "sizes that nobody measured for.",
        ),
        Revision(
            "2026-11-23T04:16",
            "Before the first run still, after a sceptic's reading: three quarters of the workloads must hold; ten "
            "times too large and ten times too small are judged apart, for the noise scale of the three runs there "
            "are lies above the pilot's critical batch size; advice that the other workloads put right is judged.",
        ),
        Revision(
            "2026-11-23T21:20",
            "Before any trial that ends at a target is recorded, after a second sceptic's reading: by the pilot's "
            "curves one batch size for all would hold everywhere, so that a useless noise scale could have passed; "
            "so the others' best batch size is a control now, and 64 is asked of besides 32 and 256; other "
            "optimizers on one network and dataset count once; and momentum's learning rate, which moves with the "
            "momentum, is no longer judged.",
        ),
    ),
    sentences={
        "what batch size should I use": (),
    },
    settings=SETTINGS,
    design=design,
    judge=judge,
    answer=answer,
    advice=(
        "Time your steps, measure the noise scale, and read here what such advice was worth.",
        "Tune the learning rate at the batch size you end with.",
    ),
    change=(
        "Workloads whose best batch size lies far from the others', where one for all would fail; step times of "
        f"another machine, on which B = {UNASKED[0]} costs as much as B = 1,024."
    ),
    figures=FIGURES,
)
