"""Images moved at random. torchvision's transforms move a whole batch alike, or take no generator; these do neither."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

LARGEST_TURN = math.radians(10)
LARGEST_SHIFT = 0.2  # of the image's side


def move(images: Tensor, turns: Tensor, shifts: Tensor) -> Tensor:
    """Images (n, channels, height, width) turned about their centre by `turns` (n,), in radians from the x axis (right)
    to the y axis (down), then moved right and down by `shifts` (n, 2), in shares of their sides; between pixels
    linearly. What comes in from outside is as dark as the darkest pixel of the channel."""
    cos, sin = turns.cos(), turns.sin()
    back = torch.stack([torch.stack([cos, sin], 1), torch.stack([-sin, cos], 1)], 1)  # to where a pixel comes from
    offsets = -back @ (2 * shifts).unsqueeze(2)  # an image's sides go from -1 to 1
    grid = functional.affine_grid(torch.cat([back, offsets], 2), list(images.shape), align_corners=False)
    dark = images.amin((2, 3), keepdim=True)
    return functional.grid_sample(images - dark, grid, align_corners=False) + dark


def shift_and_rotate(x: Tensor, shape: tuple[int, int, int], random: torch.Generator) -> Tensor:
    """x (n, features), each an image of `shape`, turned by up to 10° and shifted by up to a fifth of its sides, drawn
    uniformly for each (Keskar et al. 2017, §4.1, without reflections, which digits do not bear)."""
    images = x.float().unflatten(1, shape)
    drawn = 2 * torch.rand(len(x), 3, generator=random) - 1
    return move(images, drawn[:, 0] * LARGEST_TURN, drawn[:, 1:] * LARGEST_SHIFT).flatten(1).to(x.dtype)
