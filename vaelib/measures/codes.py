"""What codes carry: rates, their parts, categories, and what decoding along them shows."""

import math
from typing import Annotated, Any

import pandas as pd
import torch
from numpy.typing import ArrayLike
from pydantic import Field
from torch import Tensor
from torch.distributions import Distribution, Normal, OneHotCategorical

from vaelib.divergences import Product, latent_kls, reverse_kl
from vaelib.measures.base import Observation, Observed, Observer, Split, batches, decode, posterior
from vaelib.measures.landscape import optimal_skews
from vaelib.measures.reconstruction import reconstruction_error
from vaelib.models import VAE
from vaelib.parts import Count, Index, Positive


def latent_table(q: Any, p: Any) -> pd.DataFrame:
    """Each latent of a batch of diagonal Gaussian posteriors by itself.

    Returns
    -------
    DataFrame
        One row a latent, the most used first: ``latent``, ``rate`` (mean KL(q‖p), nats), ``sd`` (mean posterior
        standard deviation), ``mean_square`` (mean squared posterior mean), and for every form the skew that is optimal
        for this latent alone.
    """
    loc, scale, rates = q.base_dist.loc, q.base_dist.scale, latent_kls(q, p)
    rows: list[dict[str, float]] = []
    for latent in rates.argsort(descending=True).tolist():
        alone = Normal(loc[:, latent], scale[:, latent]), Normal(p.base_dist.loc[latent], p.base_dist.scale[latent])
        widths = {"sd": scale[:, latent].mean().item(), "mean_square": loc[:, latent].square().mean().item()}
        rows.append({"latent": latent, "rate": rates[latent].item(), **widths, **optimal_skews(*alone)})
    return pd.DataFrame(rows)


@torch.no_grad()
def surgery(vae: VAE, samples: Tensor, generator: torch.Generator, *, draws: int = 1000) -> dict[str, float]:
    """The rate cut in two: E KL(q(z|x)‖p(z)) = I(x; z) + KL(q(z)‖p(z)), x uniform over the samples.

    After Hoffman and Johnson (2016). q(z) is the average of all n posteriors, so the mutual information cannot exceed
    log n, and near it says no more than that every sample can be told apart.

    Parameters
    ----------
    vae
        The model.
    samples
        ``(n, *shape)``: the population.
    generator
        On the model's device.
    draws
        Of how many z, each of another sample, the expectation is taken; at most n.

    Returns
    -------
    dict
        ``rate``, ``mutual_information``, ``marginal_kl`` and ``limit`` = log n, in nats.
    """
    q = posterior(vae, samples)
    own, z = drawn(vae, samples, generator, draws)
    aggregate = log_aggregate(q, z)
    information = (own.log_prob(z) - aggregate).mean().item()
    marginal = (aggregate - vae.prior.log_prob(z)).mean().item()
    rate = reverse_kl(q, vae.prior).double().mean().item()
    return {"rate": rate, "mutual_information": information, "marginal_kl": marginal, "limit": math.log(len(samples))}


@torch.no_grad()
def drawn(vae: VAE, samples: Tensor, generator: torch.Generator, draws: int) -> tuple[Distribution, Tensor]:
    """Posteriors of different samples, at most so many, and an exact draw of each, ``(draws, code)``."""
    chosen = torch.randperm(len(samples), generator=generator, device=generator.device)[:draws]
    own = vae.latent.posterior(torch.cat([vae.encoder(x) for x in batches(vae, samples[chosen.to(samples.device)])]))
    return own, vae.latent.draw(own, vae.latent.noise(len(chosen), generator))


@torch.no_grad()
def log_aggregate(q: Distribution, z: Tensor) -> Tensor:
    """The logarithm of the average density of n distributions at m codes, in double precision.

    Parameters
    ----------
    q
        Batch shape ``(n,)``.
    z
        ``(m, *event)``.

    Returns
    -------
    Tensor
        ``(m,)``, in nats.
    """
    parts = [q.log_prob(part[:, None]).double().logsumexp(1) for part in z.split(100)]
    return torch.cat(parts) - math.log(q.batch_shape[0])


def category(q: Distribution) -> OneHotCategorical | None:
    """The category in a posterior, by itself or in a joint one; None if there is none, or more than one."""
    found = [part for part in (q.parts if isinstance(q, Product) else [q]) if isinstance(part, OneHotCategorical)]
    return found[0] if len(found) == 1 else None


def category_table(c: OneHotCategorical) -> dict[str, float]:
    """What n posteriors of a category are like.

    Returns
    -------
    dict
        ``information``: what the category says about which of the n samples it came from, exactly, the entropy of the
        average posterior less the average entropy; ``entropy`` of the average; ``rate``, the mean KL to the uniform
        distribution; in nats; and ``probability_0`` to ``probability_9``: the share of all probabilities in each tenth
        of [0, 1].
    """
    entropy = OneHotCategorical(probs=c.probs.mean(0)).entropy().item()
    within = c.entropy().mean().item()
    counts = torch.histc(c.probs.float(), 10, 0, 1) / c.probs.numel()
    rate = math.log(c.event_shape[0]) - within
    shares = {f"probability_{k}": share for k, share in enumerate(counts.tolist())}
    return {"information": entropy - within, "entropy": entropy, "rate": rate, **shares}


def cluster_scores(assigned: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """How well clusters are classes, without any label used to make them.

    Parameters
    ----------
    assigned, labels
        Cluster and class of each sample, whole numbers.

    Returns
    -------
    dict
        ``accuracy``, each cluster standing for one class of its own (the best such matching); ``majority``, each
        cluster standing for its most frequent class, as the MI-VAE paper counts; ``nmi`` and ``ari``, the normalised
        mutual information and the adjusted Rand index.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    table = contingency_matrix(labels, assigned)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return {
        "accuracy": float(table[rows, columns].sum() / table.sum()),
        "majority": float(table.max(axis=0).sum() / table.sum()),
        "nmi": float(normalized_mutual_info_score(labels, assigned)),
        "ari": float(adjusted_rand_score(labels, assigned)),
    }


class Latents(Observer):
    """The :func:`latent_table` of the test samples' posteriors."""

    kind = "latents"

    def observe(self, run: Observed) -> Observation:
        """The table."""
        return latent_table(posterior(run.vae, run.inputs), run.vae.prior)


class Surgery(Observer):
    """The :func:`surgery` of the rate on the test or training samples, in one row, with their ``error``."""

    kind = "surgery"

    split: Split = "test"
    draws: Count = 1000

    def observe(self, run: Observed) -> Observation:
        """The table."""
        samples = run.samples(self.split)
        error = reconstruction_error(run.vae, samples).double().mean().item()
        return pd.DataFrame([{"error": error, **surgery(run.vae, samples, run.generator, draws=self.draws)}])


class Means(Observer):
    """The posterior means of some samples: ``mean``, a row each.

    Parameters
    ----------
    images
        Their numbers; by default all of the split.
    drawn
        Give one exact draw of each posterior as well, ``code``: what figures of samples' codes often show.
    """

    kind = "means"

    split: Split = "test"
    images: tuple[Index, ...] | None = None
    drawn: bool = False

    def observe(self, run: Observed) -> Observation:
        """The tensors."""
        samples = run.samples(self.split)
        q = posterior(run.vae, samples if self.images is None else samples[list(self.images)])
        found = {"mean": q.mean.cpu()}
        if self.drawn:
            noise = run.vae.latent.noise(len(found["mean"]), run.generator)
            found["code"] = run.vae.latent.draw(q, noise).cpu()
        return found


class Categories(Observer):
    """The most probable category of each test sample, with its class: columns ``image``, ``label``, ``category``."""

    kind = "categories"
    needs = ("labels", "category")

    def observe(self, run: Observed) -> Observation:
        """The table."""
        found = category(posterior(run.vae, run.inputs))
        if found is None or run.data.test_labels is None:
            raise TypeError("categories: the latent needs one category, and the data labels")
        assigned = found.probs.argmax(1).cpu().numpy()
        return pd.DataFrame(
            {"image": range(len(assigned)), "label": run.data.test_labels.numpy(), "category": assigned}
        )


class Manifold(Observer):
    """Decoded codes on an even grid of the first two latents, the others zero: ``codes``, ``decoded``.

    Rows go from the top left, the first latent along the row.

    Parameters
    ----------
    side
        Of the grid.
    reach
        The grid goes from minus this to this; without it, over the quantiles 0.03 to 0.97 of the standard normal.
    """

    kind = "manifold"

    side: Count = 20
    reach: Positive | None = None

    def observe(self, run: Observed) -> Observation:
        """The tensors."""
        ends = Normal(0.0, 1.0).icdf(torch.linspace(0.03, 0.97, self.side))
        axis = ends if self.reach is None else torch.linspace(-self.reach, self.reach, self.side)
        codes = torch.cartesian_prod(axis.flip(0), axis).flip(1)
        padded = torch.nn.functional.pad(codes, (0, run.vae.latent.code - 2))
        return {"codes": codes, "decoded": decode(run.vae, padded).cpu()}


class Traversal(Observer):
    """Test samples decoded with one number of their code varied, or two: ``decoded`` and ``change``.

    The decoded samples are ``(shown, steps, *shape)``. The change is the squared distance of the decoded samples from
    their mean over the steps, averaged over these, for each sample.

    Parameters
    ----------
    latent
        Which number of the code.
    reach
        It goes from minus this to this.
    steps
        In so many steps.
    images
        How many samples, the first of the test set.
    shown
        Of how many the decoded samples are kept.
    across
        A second number of the code, varied as well, on an even grid: ``decoded`` is ``(shown, steps, steps, *shape)``,
        the first number down the rows and this one along them.
    """

    kind = "traversal"

    latent: Index = 0
    reach: Positive = 3.0
    steps: Annotated[int, Field(ge=2, le=1000)] = 11
    images: Count = 64
    shown: Count = 2
    across: Index | None = None

    def observe(self, run: Observed) -> Observation:
        """The tensors."""
        mean = posterior(run.vae, run.data.test[: self.images]).mean
        values = torch.linspace(-self.reach, self.reach, self.steps, device=mean.device)
        places = [self.latent] if self.across is None else [self.latent, self.across]
        grid = torch.cartesian_prod(*[values] * len(places)).reshape(-1, len(places))
        codes = mean[:, None].repeat(1, len(grid), 1)
        codes[..., places] = grid
        decoded = decode(run.vae, codes).cpu()
        change = (decoded - decoded.mean(1, keepdim=True)).square().flatten(2).sum(2).mean(1)
        return {"decoded": decoded[: self.shown].unflatten(1, [self.steps] * len(places)), "change": change}


def each_category(vae: VAE, samples: Tensor) -> Tensor:
    """Samples decoded with each category in the place of their own: ``(n, categories, *shape)``.

    The other numbers of the code are the posterior's mean.

    Raises
    ------
    TypeError
        If the latent has no category, or several.
    """
    q = posterior(vae, samples)
    found = category(q)
    if found is None:
        raise TypeError("the latent needs one category")
    count, mean = found.event_shape[0], q.mean
    parts = q.parts if isinstance(q, Product) else [q]
    start = sum(part.event_shape[0] for part in parts[: parts.index(found)])
    codes = mean[:, None].repeat(1, count, 1)
    codes[..., start : start + count] = torch.eye(count, device=mean.device)
    return decode(vae, codes)


class CategoryTraversal(Observer):
    """Test samples decoded with each category in the place of their own: ``decoded`` ``(images, categories, *shape)``.

    Parameters
    ----------
    images
        Their numbers in the test set.
    """

    kind = "category_traversal"
    needs = ("category",)

    images: tuple[Index, ...] = tuple(range(8))

    def observe(self, run: Observed) -> Observation:
        """The tensors."""
        try:
            return {"decoded": each_category(run.vae, run.data.test[list(self.images)]).cpu()}
        except TypeError as error:
            raise TypeError(f"category_traversal: {error}") from None
