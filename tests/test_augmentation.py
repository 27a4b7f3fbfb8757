"""Images moved at random, against a loop over pixels."""

import math

import pytest
import torch

from repro.training import augmentation


def slowly(image, turn, shift):
    """One channel (h, w), pixel by pixel: where it comes from, and the four around that."""
    height, width = image.shape
    dark, out = float(image.min()), torch.empty_like(image)

    def at(row, column):
        return float(image[row, column]) if 0 <= row < height and 0 <= column < width else dark

    for row in range(height):
        for column in range(width):
            x = (column + 0.5) / width * 2 - 1 - 2 * shift[0]
            y = (row + 0.5) / height * 2 - 1 - 2 * shift[1]
            x, y = math.cos(turn) * x + math.sin(turn) * y, -math.sin(turn) * x + math.cos(turn) * y
            x, y = (x + 1) * width / 2 - 0.5, (y + 1) * height / 2 - 0.5
            left, top = math.floor(x), math.floor(y)
            right, down = x - left, y - top
            out[row, column] = (
                at(top, left) * (1 - right) * (1 - down)
                + at(top, left + 1) * right * (1 - down)
                + at(top + 1, left) * (1 - right) * down
                + at(top + 1, left + 1) * right * down
            )
    return out


def test_images_are_moved_as_a_loop_over_pixels_moves_them():
    random = torch.Generator().manual_seed(0)
    images = torch.randn(3, 2, 9, 9, generator=random)
    turns, shifts = torch.tensor([0.0, 0.17, -0.1]), torch.tensor([[1 / 9, 0.0], [0.1, -0.2], [0.03, 0.2]])
    moved = augmentation.move(images, turns, shifts)
    for image, got, turn, shift in zip(images, moved, turns.tolist(), shifts.tolist(), strict=True):
        for channel, found in zip(image, got, strict=True):
            assert torch.allclose(found, slowly(channel, turn, shift), atol=1e-5)
    assert torch.allclose(moved[0][:, :, 1:], images[0][:, :, :-1], atol=1e-5)  # a pixel to the right


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_every_image_is_moved_by_itself_and_by_its_generator(shape):
    features = math.prod(shape)
    x = torch.rand(1, features, generator=torch.Generator().manual_seed(1)).repeat(64, 1)
    ends = [augmentation.shift_and_rotate(x, shape, torch.Generator().manual_seed(s)) for s in (2, 2, 3)]
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])
    assert len(ends[0].unique(dim=0)) == 64 and ends[0].shape == x.shape


def test_shifts_and_turns_are_no_larger_than_said():
    """One bright pixel at the centre, and one beside it: how far they move, and how they turn."""
    image = torch.zeros(1, 1, 101, 101)
    image[0, 0, 49:52, 49:52] = 1
    x = image.flatten(1).repeat(2000, 1)
    moved = augmentation.shift_and_rotate(x, (1, 101, 101), torch.Generator().manual_seed(0)).unflatten(1, (101, 101))
    place = torch.arange(101.0) - 50
    mass = moved.sum((1, 2))
    right, down = ((moved.sum(axis) * place).sum(1) / mass for axis in (1, 2))
    for way in (right, down):
        assert 19.5 < way.max() < 20.21 and -20.21 < way.min() < -19.5
