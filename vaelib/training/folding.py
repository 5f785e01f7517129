"""Fold and unfold as sums and copies of whole planes, as compiled programs take them.

The compiler's own forms go through the columns tap by tap, in runs of a kernel's width; planes of one tap are long runs
in memory, which the processor's vector units take. The same sums, in the order of the taps.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

Pair = Sequence[int]


def unfolded(images: Tensor, kernel: Pair, dilation: Pair, padding: Pair, stride: Pair) -> Any:
    """What :func:`torch.nn.functional.unfold` makes of ``(n, c, h, w)``: ``(n, c · taps, places)``."""
    if not _takes(kernel, dilation, stride):
        return NotImplemented
    down, across = (_places(s, *sizes) for s, *sizes in zip(images.shape[2:], kernel, padding, stride))
    padded = pad(images, (padding[1], padding[1], padding[0], padding[0]))
    taps = [
        padded[:, :, i : i + stride[0] * down : stride[0], j : j + stride[1] * across : stride[1]]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    return torch.stack(taps, 2).view(len(images), -1, down * across)


def folded(columns: Tensor, size: Pair, kernel: Pair, dilation: Pair, padding: Pair, stride: Pair) -> Any:
    """What :func:`torch.nn.functional.fold` makes of ``(n, c · taps, places)``: ``(n, c, h, w)``.

    Row stride · q + r of the padded image gets the taps r, r + stride, … of the places q, q - 1, …; so do columns.
    """
    if not _takes(kernel, dilation, stride):
        return NotImplemented
    down, across = (_places(s, *sizes) for s, *sizes in zip(size, kernel, padding, stride))
    planes = columns.view(len(columns), -1, *kernel, down, across)
    above, left = ((k - 1) // s for k, s in zip(kernel, stride))
    rows, lines = (-(-(s + 2 * p) // step) for s, p, step in zip(size, padding, stride))
    planes = pad(planes, (left, lines - across, above, rows - down))

    def phase(r: int, t: int) -> Tensor:
        parts = [
            planes[:, :, i, j, above - a : above - a + rows, left - b : left - b + lines]
            for a, i in enumerate(range(r, kernel[0], stride[0]))
            for b, j in enumerate(range(t, kernel[1], stride[1]))
        ]
        return sum(parts[1:], parts[0])

    interleaved = [torch.stack([phase(r, t) for t in range(stride[1])], -1).flatten(-2) for r in range(stride[0])]
    whole = torch.stack(interleaved, -2).flatten(-3, -2)
    return whole[:, :, padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]


def _takes(kernel: Pair, dilation: Pair, stride: Pair) -> bool:
    """Whether taps lie side by side, and leave no gaps between places; all else is left as it is."""
    return tuple(dilation) == (1, 1) and all(k >= s for k, s in zip(kernel, stride))


def _places(size: int, kernel: int, padding: int, stride: int) -> int:
    """How many places of a kernel there are along one side."""
    return (size + 2 * padding - kernel) // stride + 1


PLANES: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.col2im.default: folded,
    torch.ops.aten.im2col.default: unfolded,
}
"""For a tracer: what an operation is replaced by."""
