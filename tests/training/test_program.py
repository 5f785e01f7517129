"""Compiled steps and lower precision: the same mathematics as the eager float32 steps, by a faster way."""

import importlib.util
import shutil
import warnings
from pathlib import Path

import pytest
import torch

from vaelib import MLP, Adam, Bound, Experiment
from vaelib.data import Block
from vaelib.errors import Invalid
from vaelib.measures import mean_terms
from vaelib.training import Training, generator, pays, program

_spec = importlib.util.spec_from_file_location("strategies", Path(__file__).parents[1] / "golden" / "strategies.py")
strategies = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(strategies)

BLOCKS = (Block("a", 3, "bernoulli"), Block("b", 4, "gaussian"))
TINY = Experiment(network=MLP(16), batch_size=8, optimiser=Adam(1e-2))


def samples(*shape, count=20):  # two steps of eight, and one of the four that are left
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))


def training(e, *, compiled, dtype=torch.float32, epochs=4):
    shape, blocks = ((7,), BLOCKS) if e.data.startswith("gse7390") else ((1, 32, 32), ())
    return Training(
        [e.build(shape, blocks).to(dtype)],
        [e.seed],
        samples(*shape).to(dtype),
        batch_size=e.batch_size,
        epochs=epochs,
        optimiser=e.optimiser,
        compiled=compiled,
    )


def epochs(process, count):
    """What some epochs gave, without the time that they took, and the tensors after them."""
    rows = [row for _ in range(count) for row in process.run_epoch()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows], process.state(0)


# A learned skew and its projection, skews that are sought, buffers that are written, handed-in noise of a body, two
# phases, no gradient at all through the draw, blocks, an ascent, a permutation.
@pytest.mark.parametrize(
    "name",
    [
        "dual_learned",
        "dual_both",
        "normalised",
        "cnc",
        "category_information",
        "score",
        "geco",
        "learned_total_correlation",
    ],
)
def test_traced_steps_are_the_eager_steps(name, monkeypatch):
    monkeypatch.setattr(program, "backend", lambda graph, _: graph)  # all but the C++
    e = strategies.RUNS[name].replace(batch_size=8)
    e = e.replace(network=MLP(8)) if e.network == MLP() else e
    process = training(e, compiled=True, dtype=torch.float64)
    (found, state), (rows, alone) = (epochs(p, 2) for p in (process, training(e, compiled=False, dtype=torch.float64)))
    assert process.compiled
    for row, other in zip(found, rows, strict=True):
        assert row == pytest.approx(other, rel=1e-12)
    for key, tensor in alone.items():
        assert torch.allclose(state[key], tensor, rtol=1e-9, atol=1e-9), key


@pytest.mark.skipif(not shutil.which("c++") and not shutil.which("g++"), reason="there is no C++ compiler")
def test_compiled_steps_agree_and_resume_with_the_same_bits():
    e = TINY.replace(precision="bf16")  # with the casts, so that there is most to go wrong
    process = training(e, compiled=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        rows, middle = epochs(process, 2)
    assert process.compiled
    expected, _ = epochs(training(e, compiled=False), 2)
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other, rel=2e-2)
    _, end = epochs(process, 2)
    again = training(e, compiled=True)
    again.resume([middle], 2)
    _, found = epochs(again, 2)
    assert all(torch.equal(found[name], tensor) for name, tensor in end.items())


@pytest.mark.parametrize("name", ["dual_learned", "cnc", "category_information", "learned_total_correlation"])
def test_compiled_bodies_measure_what_the_bodies_do(name, monkeypatch):
    """Of the weights as they are by then, in batches of the sizes that were named and of others."""
    monkeypatch.setattr(program, "backend", lambda graph, _: graph)
    e = strategies.RUNS[name].replace(batch_size=8)
    process = training(e, compiled=True, dtype=torch.float64)
    for _ in range(2):
        process.run_epoch()
        alone, fast = process.member(0).eval(), process.evaluated(0, (8,))
        for size in (8, 20):
            expected = mean_terms(alone, process.images, generator("cpu", 0), size)
            assert mean_terms(fast, process.images, generator("cpu", 0), size) == pytest.approx(expected, rel=1e-10)
        assert set(fast.vae.encoder._programs) == {8}


def test_without_a_compiler_it_goes_on_eagerly_and_says_why(monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no working C++ compiler")

    monkeypatch.setattr(program, "backend", broken)
    process = training(TINY, compiled=True)
    with pytest.warns(UserWarning, match="as it cannot be compiled here: .*no working C") as told:
        rows, state = epochs(process, 2)
    assert len([w for w in told if "compiled here" in str(w.message)]) == 1
    assert not process.compiled
    expected, alone = epochs(training(TINY, compiled=False), 2)
    assert rows == expected
    assert all(torch.equal(state[name], tensor) for name, tensor in alone.items())


def test_only_long_runs_on_a_cpu_are_compiled():
    papers, quick = 100 * 60_000, 20 * 4_000
    for precision in ("fp32", "bf16"):
        assert pays(papers, precision, "cpu")
        assert not pays(quick, precision, "cpu")
        assert not pays(papers, precision, "cuda")


def test_bfloat16_is_for_training_alone():
    models = {p: TINY.replace(precision=p).build((1, 32, 32)).vae for p in ("fp32", "bf16")}
    x = samples(1, 32, 32)
    means = {p: (vae.train().posterior(x).mean, vae.eval().posterior(x).mean) for p, vae in models.items()}
    assert torch.equal(means["fp32"][1], means["bf16"][1])
    rounded = (means["bf16"][0] - means["fp32"][0]).abs().max() / means["fp32"][0].abs().max()
    assert 1e-6 < rounded < 2e-2
    assert all(p.dtype == torch.float32 for p in models["bf16"].parameters())
    assert means["bf16"][0].dtype == torch.float32


def test_members_of_a_stack_are_trained_in_their_precision():
    e = TINY.replace(precision="bf16")
    x, members = samples(1, 32, 32), [e.replace(seed=s) for s in (0, 1)]
    options = {"batch_size": 8, "epochs": 1, "optimiser": e.optimiser}
    together = Training([m.build((1, 32, 32)) for m in members], [0, 1], x, **options).run_epoch()
    for seed, (m, row) in enumerate(zip(members, together)):
        (alone,) = Training([m.build((1, 32, 32))], [seed], x, **options).run_epoch()
        assert row["loss"] == pytest.approx(alone["loss"], rel=1e-2)


def test_precision_is_a_part_of_the_key_but_for_the_default():
    assert TINY.replace(precision="bf16").key != TINY.key == TINY.replace(precision="fp32").key
    assert "precision" not in TINY.canonical()
    with pytest.raises(Invalid, match=r"precision: .*'fp16'.*fp32.*bf16"):
        Experiment(precision="fp16", objective=Bound())
