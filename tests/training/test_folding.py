"""Fold and unfold by planes: what PyTorch's do, to the bit, and left to PyTorch where they do not serve."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import fold, unfold

from vaelib.training.folding import PLANES

# Kernel, padding, stride, places, and rows and columns at the end that no place covers.
CASES = [
    ((4, 4), (1, 1), (2, 2), (5, 7), (0, 0)),
    ((3, 3), (1, 1), (1, 1), (6, 6), (0, 0)),
    ((5, 4), (1, 2), (3, 2), (4, 6), (2, 1)),
    ((2, 3), (0, 0), (2, 3), (3, 1), (1, 2)),
    ((3, 2), (0, 1), (1, 2), (1, 4), (0, 1)),
]


def traced(function, *arguments):
    """A function's graph, and the names of the operations in it."""
    graph = make_fx(function, decomposition_table=PLANES)(*arguments)
    return graph, {node.target for node in graph.graph.nodes if node.op == "call_function"}


@pytest.mark.parametrize(("kernel", "padding", "stride", "places", "over"), CASES)
def test_planes_are_the_columns_of_pytorch(kernel, padding, stride, places, over):
    sizes = zip(kernel, padding, stride, places, over)
    size = tuple((n - 1) * s + k - 2 * p + o for k, p, s, n, o in sizes)
    images = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    window = {"kernel_size": kernel, "padding": padding, "stride": stride}
    columns = unfold(images, **window)
    taken, names = traced(lambda x: unfold(x, **window), images)
    assert torch.ops.aten.im2col.default not in names
    assert torch.equal(taken(images), columns)
    summed, names = traced(lambda x: fold(x, size, **window), columns)
    assert torch.ops.aten.col2im.default not in names
    assert torch.equal(summed(columns), fold(columns, size, **window))


@pytest.mark.parametrize("window", [{"kernel_size": 2, "dilation": 2}, {"kernel_size": 2, "stride": 3}])
def test_taps_or_places_that_lie_apart_are_left_to_pytorch(window):
    images = torch.randn(1, 2, 8, 8)
    taken, names = traced(lambda x: unfold(x, **window), images)
    assert torch.ops.aten.im2col.default in names
    assert torch.equal(taken(images), unfold(images, **window))
