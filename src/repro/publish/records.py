"""The recorded trials as files to download, and what every column of them holds."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq

from repro import claims
from repro.publish.tables import table

# What columns hold, by a pattern of their whole name; of several that fit, the first.
COLUMNS: Mapping[str, str] = {
    "key": "Which trial: a hash of its settings. All its rows have it.",
    "trial": "All settings of the trial, as JSON, with those that are left at their defaults.",
    "status": "“finished”, or “diverged”: its logits or its loss were no longer finite.",
    "final": "Whether this is the trial's last row.",
    "step": "Steps taken when this row was measured: one at the start, at each checkpoint, and at the end.",
    "epoch": "The same in epochs.",
    "dataset": "Setting: the dataset.",
    "train_size": "Setting: how many training images are kept, drawn by class; none: all.",
    "label_noise": "Setting: the share of training images whose labels are drawn anew, from all classes.",
    "evaluate_on": "Setting: what is held out: “test”, “validation” (the end of the training set), or both.",
    "preprocessing": "Setting: pixels over 255, “unit”, and then standardised, “standardize”.",
    "model": "Setting: a perceptron, Keskar's F1, or a convolutional network.",
    "widths": "Setting: widths of a perceptron's hidden layers.",
    "batch_norm": "Setting: whether it has batch norm (F1 always has).",
    "norm_statistics": "Setting: what batch norm divides by when evaluated: running means, “kept”, or the batch's own.",
    "ghost_size": "Setting: over how many examples of a batch batch norm takes its statistics in training; none: all.",
    "max_gradient_norm": "Setting: the length to which longer gradients are cut; none: they are not.",
    "restart_optimizer": "Setting: whether every epoch begins with an optimizer without memory.",
    "restart_with_phase": "Setting: whether every phase of the schedule does.",
    "augmentation": "Setting: how images are moved each time they are drawn.",
    "dropout": "Setting: the share of hidden units that are silenced in training.",
    "steps_per_batch": "Setting: how many steps are made on every batch, which count as one.",
    "proximal": "Setting: how strongly the steps on a batch are drawn back to where they began.",
    "adversarial": "Setting: how far, per pixel, batches are moved up the gradient for half of the loss.",
    "norm_eps": "Setting: what is added to batch norm's variances.",
    "init": "Setting: how weights are drawn.",
    "optimizer|momentum|weight_decay|beta1|beta2|eps": "Settings of the optimizer, as torch.optim has them.",
    "lr": "Setting: learning rate per step, on the mean loss of a batch.",
    "batch_size": "Setting: examples a step.",
    "warmup_epochs": "Setting: epochs over which the learning rate rises from 0.",
    "schedule": "Setting: epochs from which another learning rate and batch size hold.",
    "epochs|steps": "Setting: the budget, in one of the two.",
    "target_accuracy": "Setting: accuracy on what is held out at which the trial ends; none: it uses its budget.",
    "drop_last": "Setting: whether the smaller batch at the end of an epoch is left out.",
    "init_seed|data_seed": "Setting: the seed of the weights, and of the order of the data.",
    "precision": "Setting: the precision of products, or “auto”. What it was is in run_precision.",
    "probes|final_probes": "Setting: what is measured at every checkpoint, and at the end alone.",
    "checkpoints": "Setting: where in the budget it is measured.",
    "draws|partner_batch_size|probe_examples": "Settings of what is measured: random batches drawn, the batch size of "
    "a second network to compare with, and how many training examples sharpness is measured over.",
    "(train|validation|test)_(loss|accuracy)": "Mean cross-entropy (nats) and accuracy (a fraction) on that split.",
    r"(weight|bias)_(distance|norm)(_\d)?": "Euclidean distance from the start, and norm, of all weights or biases; "
    "with a number, of that weight tensor, counted from the input.",
    r"cosine_\d": "Cosine between a weight tensor and itself at the start.",
    "sharpness": "Keskar's φ, per cent, in the box of half-width ε = 10⁻³.",
    "sharpness_(base|max|evaluations)": "The loss where the search for φ began, the largest it found, and how many "
    "losses it took.",
    "sharpness_half.*": "φ in half that box.",
    "sharpness_manifold.*": "φ in 100 random dimensions: of unit columns, or “wide”, of entries of variance 1.",
    "sharpness_(equal|anew|rescaled).*|.*_difference|rescaling": "φ of the same function in other weights, or with "
    "statistics of batch norm taken anew; and how far its outputs then differ.",
    "sharpness_scale_free.*": "The largest rise of the loss in a box of relative half-width: no rescaling changes it.",
    "largest_eigenvalue": "Of the Hessian of the training loss.",
    "(landscape|interpolation)_.*": "Losses and accuracies along a line through the weights: lists.",
    "(mean|cv|low|high|square_cv|mean_square|single)_.*": "Norms of gradients over random draws, by reading, one entry "
    "a batch size: means, coefficients of variation, and how far quantiles lie from the mean.",
    "(drawn|norm|tail|quantile|magnitude)_(batch_size|x|y)": "The batch sizes of the lists in the row, and the "
    "histograms and quantiles drawn of them.",
    "noise_(trace|squared_norm)": "Trace of the covariance of single examples' gradients, and the squared norm of "
    "their mean.",
    "noise_scale(_curvature|_adam|_adam_squared)?": "Noise scale tr(AΣ)/GᵀAG, examples, G of all training examples: "
    "of no metric A, of the Hessian, of Adam's preconditioner, of its square.",
    "(gradient|noise)_(eigenvalue|weight)": "How the gradient, and its noise, spread over eigenvalues of the "
    "Hessian: lists; weights add up to ‖G‖² and to tr Σ.",
    "(kurtosis|hill|inverse_alpha)_.*": "How heavy the tails of gradients are, one entry a batch size; “surrogate”: "
    "the same of Gaussian values.",
    "large_values_(mean|sum)": "Logarithm of how many values in the published histogram would be large.",
    "timed_batch_size": "The batch sizes of the list of step times.",
    "run_step_seconds": "What a step of a plain PyTorch loop takes on the machine of the row, one entry a batch size.",
    "run_.*": "Where the row comes from: code version and commit, torch, processor and device, the engine's path and "
    "precision, threads, seconds, date.",
}


def explain(column: str) -> str:
    """What a column holds; LookupError for one that nobody explained."""
    for pattern, text in COLUMNS.items():
        if re.fullmatch(pattern, column):
            return text
    raise LookupError(f"column {column!r} of the recorded trials is not explained; add it to {__name__}.COLUMNS")


def fragment(recorded: Path) -> str:
    """The page's generated part: a row a file, to download, and a row an explanation with the columns it is of."""
    files, columns = [], dict[str, None]()
    for name, claim in claims.all_claims().items():
        path = recorded / f"{name}.parquet"
        if path.is_file():
            about = pq.read_metadata(path)
            keys = pq.read_table(path, columns=["key"])["key"]
            columns |= dict.fromkeys(pq.read_schema(path).names)
            size = f"{path.stat().st_size / 1024:,.0f} KiB"
            files.append(
                f"| {{download}}`{path.name} <../results/{path.name}>` | {claim.question} "
                f"| {len(keys.unique()):,} | {about.num_rows:,} | {size} |"
            )
    told: dict[str, list[str]] = {}
    for column in sorted(columns):
        told.setdefault(explain(column), []).append(column)
    order = {text: i for i, text in enumerate(COLUMNS.values())}
    rows = [
        [", ".join(f"<code>{html.escape(c)}</code>" for c in names), html.escape(text)]
        for text, names in sorted(told.items(), key=lambda item: order[item[0]])
    ]
    listed = "\n".join(["| file | of | trials | rows | |", "|---|---|--:|--:|--:|", *files])
    explained = table(["columns", "what they hold"], rows, "What every column holds")
    return f"{listed}\n\n## Columns\n\n```{{raw}} html\n{explained}\n```\n"
