"""A stack takes the steps that its members take alone: every part that can be stacked, in double precision.

So no more than rounding far below single precision's is between them, and a wrong term, rate or random number is seen.
"""

import importlib.util
from pathlib import Path

import pytest
import torch

from vaelib.data import Block
from vaelib.divergences import Skew
from vaelib.divergences.forms import SkewForm
from vaelib.models import MLP
from vaelib.objectives import Bound
from vaelib.parts import Part
from vaelib.training import Training

_spec = importlib.util.spec_from_file_location("strategies", Path(__file__).parents[1] / "golden" / "strategies.py")
strategies = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(strategies)

COUNT = 20  # samples: two steps of eight, and one of the four that are left
BLOCKS = (Block("a", 3, "bernoulli"), Block("b", 4, "gaussian"))
EVERY = strategies.RUNS | {
    f"{form.kind} {skew.kind}": strategies.BASE.replace(objective=Bound(form(skew(0.3))))
    for form in SkewForm.__subclasses__()
    for skew in Skew.kinds.values()
}


def samples(*shape):
    return torch.rand(COUNT, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def small(e):
    """With a small network where it matters for nothing."""
    return e.replace(batch_size=8, epochs=1, network=MLP(8) if e.network == MLP() else e.network)


def member(value, k, tensor=False):
    """A part whose tensors all have another value, each; what is no tensor stays."""
    if isinstance(value, Part):
        return value.replace(**{name: member(v, k, name in value.tensors) for name, v in value.fields()})
    if isinstance(value, tuple):
        return tuple(member(v, k) for v in value)
    return value if value is None or not tensor else k if isinstance(value, int) else value + k * (1 + value) / 10


def trained(*members):
    """After an epoch, what it gave and the tensors, for each member."""
    e = members[0]
    shape, blocks = ((7,), BLOCKS) if e.data.startswith("gse7390") else ((1, 32, 32), ())
    training = Training(
        [m.build(shape, blocks).double() for m in members],
        [m.seed for m in members],
        samples(*shape),
        batch_size=e.batch_size,
        epochs=e.epochs,
        optimiser=e.optimiser,
    )
    rows = training.run_epoch()
    for row in rows:
        del row["seconds"]
    return [(row, training.state(k)) for k, row in enumerate(rows)]


@pytest.mark.parametrize("e", EVERY.values(), ids=EVERY)
def test_a_stack_takes_the_steps_of_its_members(e):
    members = [member(small(e), k) for k in range(3)]
    together = trained(*members)
    assert len({row["loss"] for row, _ in together}) == 3
    for m, (found, state) in zip(members, together):
        ((row, alone),) = trained(m)
        assert found == pytest.approx(row, rel=1e-9)
        assert state.keys() == alone.keys()
        for name, tensor in alone.items():
            # Before a batch norm a bias has a gradient of rounding alone, and Adam makes small steps of it.
            assert torch.allclose(state[name], tensor, rtol=1e-9, atol=1e-7), name
