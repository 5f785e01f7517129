"""Nothing in the package asks, moves or seeds a global generator: not torch's, not NumPy's, not Python's."""

import ast
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import vaelib
from vaelib import data, divergences, measures, models, objectives
from vaelib.measures import Observer
from vaelib.models import Bits, Category, Gaussian, Joint, Relaxation
from vaelib.objectives import Bound, Hybrid, Information, Score
from vaelib.runs import Experiment, Study

SOURCES = sorted(Path(vaelib.__file__).parent.rglob("*.py"))

DRAWN = {"rand", "randn", "randint", "randperm", "bernoulli", "multinomial", "poisson", "normal"}
IN_PLACE = {"uniform_", "normal_", "bernoulli_", "exponential_", "random_", "log_normal_", "geometric_", "cauchy_"}
IN_PLACE |= {"kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "xavier_normal_", "trunc_normal_"}
NEVER = {"fork_rng", "set_rng_state", "seed_all", "rsample", "rand_like", "randn_like", "randint_like", "dropout"}
NEVER |= {"Dropout1d", "Dropout2d", "AlphaDropout"}


def global_randomness(source):
    """Calls that use a global generator, as they are written."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner, name = ast.unparse(node.func.value), node.func.attr
            seeded = any(keyword.arg == "generator" for keyword in node.keywords)
            own = isinstance(node.func.value, ast.Call) and owner.split("(")[0].endswith("Generator")
            alone = not node.args or isinstance(node.args[0], ast.Tuple) or "torch.Size" in ast.unparse(node.args[0])
            if (
                (name == "manual_seed" and not own)
                or name in NEVER
                or (owner == "nn" and name == "Dropout")
                or (owner == "torch" and (name in {"seed", "initial_seed"} or (name in DRAWN and not seeded)))
                or (name in IN_PLACE and not seeded)
                or (name in {"sample", "sample_n"} and alone and len(node.args) + len(node.keywords) < 2)
                or (owner in {"np.random", "numpy.random"} and name not in {"default_rng", "Generator"})
                or (owner == "random")
            ):
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize(
    "bad",
    [
        "torch.manual_seed(0)",
        "torch.cuda.manual_seed(0)",
        "torch.random.fork_rng()",
        "torch.seed()",
        "torch.randn(3)",
        "torch.randperm(n, device=d)",
        "torch.bernoulli(p)",
        "torch.randn_like(x)",
        "x.normal_()",
        "nn.init.kaiming_uniform_(w)",
        "q.rsample()",
        "q.rsample((3,))",
        "q.sample()",
        "q.sample((100,))",
        "q.sample(torch.Size([2]))",
        "nn.functional.dropout(x, 0.5)",
        "nn.Dropout(0.2)",
        "np.random.seed(0)",
        "np.random.normal(size=3)",
        "random.shuffle(x)",
    ],
)
def test_what_asks_a_global_generator_is_found(bad):
    assert global_randomness(f"y = [{bad}]") == [bad]


@pytest.mark.parametrize(
    "good",
    [
        "torch.Generator().manual_seed(0)",
        "torch.Generator(device).manual_seed(derive(seed))",
        "torch.randn(3, generator=g, device=g.device)",
        "nn.init.kaiming_uniform_(w, generator=g)",
        "vae.latent.sample(q, noise, progress)",
        "vae.sample(12, generator)",
        "sample(q, 3, generator)",
        "np.random.default_rng(0).normal(size=3)",
        "rng.normal(size=3)",
        "torch.rand(3, generator=g)",
    ],
)
def test_what_has_a_generator_of_its_own_passes(good):
    assert global_randomness(f"y = [{good}]") == []


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.relative_to(Path(vaelib.__file__).parent).as_posix())
def test_no_file_asks_a_global_generator(file):
    assert global_randomness(file.read_text()) == []


def states():
    """Of all global generators."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().tolist(), (name, keys.tolist(), *rest), random.getstate()


def move(seed):
    """All global generators to another place."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


NETWORKS = [*models.Network.kinds, models.MLP(batch_norm=True)]
JOINT = Joint((Gaussian(2), Bits(2)))
LATENTS = [Gaussian(3), models.Point(3), Bits(3, Relaxation()), Category(3, Relaxation()), JOINT]
OBJECTIVES = [kind for name, kind in objectives.Objective.kinds.items() if kind.__module__.startswith("vaelib.")]


def shape_of(network):
    return (7,) if network in ("cnc", "x") else (1, 32, 32)


def test_building_any_experiment_is_seeded_by_itself():
    """Every network, latent, likelihood, divergence, skew and objective."""
    made = [Experiment(network=network, latent=Gaussian(3)) for network in NETWORKS]
    made += [Experiment(network="mlp", latent=latent, objective=Bound()) for latent in LATENTS[:4]]
    made += [Experiment(network="mlp", latent=LATENTS[4], objective=Score())]
    needed = {objectives.Geco: {"tolerance": 100.0}}
    made += [Experiment(network="mlp", objective=kind(**needed.get(kind, {}))) for kind in OBJECTIVES]
    made += [Experiment(network="mlp", objective=Bound(regularisers=(kind,))) for kind in objectives.Regulariser.kinds]
    made += [Experiment(network="mlp", likelihood=kind) for kind in models.Likelihood.kinds]
    made += [Experiment(network="mlp", objective=Bound(kind)) for kind in divergences.Divergence.kinds]
    skews = [divergences.Learned(0.2), divergences.Newton(0.2)]
    made += [Experiment(network="mlp", objective=Bound(divergences.GeometricJS(skew))) for skew in skews]
    informed = Bound(information=Information((0,), 2.0))
    made += [Experiment(network="cnc", latent=Gaussian(3), objective=informed)]
    for e in made:
        starts = []
        for seed in (1, 2):
            move(seed)
            before = states()
            network = e.network.kind
            starts.append(e.build(shape_of(network)).state_dict())
            assert states() == before, e
        assert all(torch.equal(tensor, starts[1][name]) for name, tensor in starts[0].items()), e


@pytest.fixture
def squares(tmp_path):
    """Images with labels, as the name of a file of arrays."""
    g = torch.Generator().manual_seed(0)
    images, labels = torch.zeros(90, 1, 8, 8, dtype=torch.uint8), torch.arange(90) % 3
    for image, label, corner in zip(images, labels.tolist(), torch.randint(0, 3, (90, 2), generator=g).tolist()):
        image[0, corner[0] : corner[0] + 2 + label, corner[1] : corner[1] + 2 + label] = 255
    file, kept = tmp_path / "small.npz", slice(0, 60)
    held = slice(60, 90)
    arrays = {"train": images[kept], "test": images[held], "train_labels": labels[kept], "test_labels": labels[held]}
    np.savez(file, **{name: array.numpy() for name, array in arrays.items()})
    return f"npz:{file}"


IMAGE_OBSERVERS = (
    measures.Landscape(points=5),
    measures.Skews(samples=5),
    measures.Evidence(3, (2, 5)),
    measures.Evidence(3, (5,), "prior"),
    measures.Errors(),
    measures.Reconstructions((0, 1), noise=0.5, drawn=True),
    measures.Denoising((0.5,)),
    measures.Samples(3),
    measures.Latents(),
    measures.Surgery(draws=10),
    measures.Means(drawn=True),
    measures.Manifold(3),
    measures.Traversal(images=4, steps=3, across=1),
    measures.Separability(neighbours=3),
    measures.Recognised(neighbours=3),
    measures.Legibility(images=5),
    measures.GradientNoise((Bound(), Hybrid(draws=2)), samples=4, repeats=2),
    measures.LossNoise((Bound(), Hybrid(draws=2)), samples=4, repeats=2),
    measures.PixelDistortion(),
    measures.PrincipalVariances(3),
    measures.AnnealedEvidence(3, 4, 2, 1),
    measures.RateBounds(draws=5),
    measures.RateParts(draws=5, epochs=2),
    measures.InformationBound(Information((0,)), epochs=2, sampled=True),
)
CATEGORY_OBSERVERS = (
    measures.Categories(),
    measures.CategoryTraversal((0, 1)),
    measures.CategoryClasses(images=5),
    measures.InformationBound(epochs=2),
    measures.Surgery(draws=10),
    measures.Evidence(3, (5,)),
)
COHORT_OBSERVERS = (measures.Relapse(),)
SPRITES_OBSERVERS = (measures.Disentanglement("train", at=(0, 2)),)


def plans(squares):
    """Experiments of two epochs that every observer can see something of."""
    common = {"epochs": 2, "batch_size": 32}
    informed = Bound(information=Information("category", 2.0, "aggregate"), draws=2, corruption=0.2)
    joint = Joint((Gaussian(2), Category(3, Relaxation(1.0, 0.5))))
    mlp = models.MLP(16)
    yield Experiment(data=squares, network=mlp, latent=Gaussian(3), **common), IMAGE_OBSERVERS
    yield Experiment(data=squares, network=mlp, latent=joint, objective=informed, **common), CATEGORY_OBSERVERS
    cohort = {"data": "gse7390:clin+rna/0", "network": models.CNC(16), "likelihood": "balanced"}
    yield Experiment(latent=Gaussian(3), **cohort, **common), COHORT_OBSERVERS
    yield Experiment(data="sprites:40", network=mlp, latent=Gaussian(3), **common), SPRITES_OBSERVERS


def test_runs_and_all_observers_leave_the_global_generators_alone(squares, tmp_path):
    seen = {o.kind for _, observers in plans(squares) for o in observers}
    kinds = {name for name, kind in Observer.kinds.items() if kind.__module__.startswith("vaelib.")}
    assert seen == kinds, "an observer is missing here"
    for name in {e.data for e, _ in plans(squares)}:
        data.load(name)
    found = []
    for seed in (1, 2):
        move(seed)
        before = states()
        for number, (e, observers) in enumerate(plans(squares)):
            store = vaelib.Store(tmp_path / f"{seed}{number}")
            runs = Study({"a": e}, observe=observers).run(store=store, device="cpu", workers=1)
            assert states() == before, f"the run of {e} moved a global generator"
            entry = runs["a"]
            found.append({"history": entry.history, "weights": entry.weights()})
            found[-1] |= {o.key: entry.observation(o.key) for o in observers}
    half = len(found) // 2
    for first, second in zip(found[:half], found[half:]):
        assert first.keys() == second.keys()
        for name in first:
            same(first[name], second[name])


def same(a, b):
    if isinstance(a, pd.DataFrame):
        a, b = (t.drop(columns=["seconds"], errors="ignore") for t in (a, b))
        pd.testing.assert_frame_equal(a, b, check_exact=True)
    else:
        assert all(torch.equal(tensor, b[name]) for name, tensor in a.items())
