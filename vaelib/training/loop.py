"""The training loop: one model, or a stack of models trained in one vectorised step.

Data stays on the device as bytes. All random numbers of an epoch (the order of the samples, the noise) come from a
generator seeded by the run's seed and the epoch, so that a run depends on nothing that ran before it, and one that
was interrupted goes on with the same bits from its last checkpoint.
"""

import copy
import ctypes
import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from vaelib.objectives import Noise, Terms, Trainee
from vaelib.vae import pixels

State = dict[str, Tensor]

# Batches whose order, noise and finiteness are dealt with at once: long enough to keep an accelerator from waiting
# for the host, short enough that the noise of a block is small.
_BLOCK = 64


class NonFiniteLoss(FloatingPointError):
    """A term of the loss became infinite or not a number."""


def derive(seed: int, *labels: str | int) -> int:
    """A seed for one purpose of a run: independent of the seeds for its other purposes."""
    text = ":".join(map(str, (seed, *labels)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def generator(device: torch.device | str, seed: int, *labels: str | int) -> torch.Generator:
    """A generator on a device, seeded for one purpose of a run."""
    return torch.Generator(device).manual_seed(derive(seed, *labels))


@cache
def _keep_freed_memory() -> None:
    """Let glibc keep what a step frees.

    By default it hands large blocks back to the kernel, and each step faults its activations in anew: a third to a
    half of a small model's training time on a CPU.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "gnu_get_libc_version"):
            trim_threshold, mmap_threshold = -1, -3
            libc.mallopt(mmap_threshold, 1 << 30)
            libc.mallopt(trim_threshold, (1 << 31) - 1)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with `count` threads. The number of threads changes sums in their last bits, so a run fixes it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Stack(nn.Module):
    """Trainees of one structure as a single module whose tensors have a leading axis of trainees."""

    def __init__(self, members: Sequence[Trainee]):
        super().__init__()
        parameters, buffers = stack_module_state(list(members))
        self._template = (copy.deepcopy(members[0]).to("meta"),)  # in a tuple: not a submodule
        self.stacked = copy.deepcopy(members[0])
        for name, tensor in {**parameters, **buffers}.items():
            path, _, leaf = name.rpartition(".")
            owner = self.stacked.get_submodule(path)
            setattr(owner, leaf, nn.Parameter(tensor, tensor.requires_grad) if name in parameters else tensor)

    def forward(self, x: Tensor, noise: Noise, progress: Tensor, phase: str) -> Terms:
        def one(parameters: State, buffers: State, x: Tensor, noise: Noise) -> Terms:
            return functional_call(self._template[0], (parameters, buffers), (x, noise, progress, phase))

        state = dict(self.stacked.named_parameters()), dict(self.stacked.named_buffers())
        return vmap(one, randomness="different")(*state, x, noise)


class Training:
    """The training of one trainee, or of several of the same structure at once.

    Parameters
    ----------
    members
        What to train; their tensors are used in place by a solo training, copied by a stack.
    seeds
        One seed a member.
    images
        Training samples ``(n, *shape)``, bytes or floats in [0, 1].
    batch_size
        Samples in a step; the last step of an epoch takes what is left.
    epochs
        How many epochs the whole training has (schedules are relative to it).
    learning_rate
        Adam's rate for the networks.
    skew_learning_rate
        Adam's rate for a learned skew.
    decay
        After t steps all rates are divided by 1 + decay t.
    weight_decay
        So much times each weight is added to its gradient (Adam's L2 penalty).
    device
        Where to train.
    """

    def __init__(
        self,
        members: Sequence[Trainee],
        seeds: Sequence[int],
        images: Tensor,
        *,
        batch_size: int,
        epochs: int,
        learning_rate: float,
        skew_learning_rate: float,
        decay: float = 0.0,
        weight_decay: float = 0.0,
        device: torch.device | str = "cpu",
    ):
        _keep_freed_memory()
        self.device, self.seeds, self.batch_size, self.epochs = torch.device(device), seeds, batch_size, epochs
        self.images, self.epoch = images.to(self.device), 0
        self._members = [member.to(self.device) for member in members]
        if len(members) == 1:
            self._trainee: Trainee | _Stack = members[0]
            self.trainee = members[0].to(memory_format=torch.channels_last)
        else:
            self._trainee = _Stack(self._members)
            self.trainee = self._trainee.stacked
        named = [(name, p) for name, p in self.trainee.named_parameters() if p.requires_grad]
        skew, networks = ([p for name, p in named if ("objective.skew" in name) == side] for side in (True, False))
        groups = [
            {"params": networks, "weight_decay": weight_decay},
            {"params": skew, "lr": skew_learning_rate},
        ]
        self.optimiser = torch.optim.Adam([g for g in groups if g["params"]], lr=learning_rate, fused=True)
        self._rates, self._decay = [group["lr"] for group in self.optimiser.param_groups], decay

    def run_epoch(self) -> list[dict[str, float]]:
        """Train for one epoch.

        Returns
        -------
        list of dict
            For each member the mean of each term over the epoch, its skew at the end where it has one, and the
            seconds it took (a stack's time is shared out evenly).

        Raises
        ------
        NonFiniteLoss
            If a term is infinite or not a number; the epoch, the step and the term are named.
        """
        started = time.perf_counter()
        generators = [generator(self.device, seed, "epoch", self.epoch) for seed in self.seeds]
        orders = torch.stack([torch.randperm(len(self.images), generator=g, device=self.device) for g in generators])
        steps = -(-len(self.images) // self.batch_size)
        totals: dict[str, Tensor] = {}
        self.trainee.train()
        # Networks with dropout draw from the global generator: seeded here, and given back as it was.
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(derive(self.seeds[0], "global", self.epoch))
            for first in range(0, steps, _BLOCK):
                block = orders[:, first * self.batch_size : (first + _BLOCK) * self.batch_size]
                shape = (block.shape[1], *self.images.shape[1:])
                noises = [m.objective.noise(m.vae, shape, g) for m, g in zip(self._members, generators)]
                noise = {name: torch.stack([n[name] for n in noises]) for name in noises[0]}
                terms = []
                for step, index in enumerate(block.split(self.batch_size, dim=1), start=first):
                    start = (step - first) * self.batch_size
                    part = {name: n[:, start : start + index.shape[1]] for name, n in noise.items()}
                    self._set_rates(self.epoch * steps + step)
                    terms.append(self._step(index, part, (self.epoch + step / steps) / self.epochs, index.shape[1]))
                for name, total in self._sum(terms, first).items():
                    totals[name] = totals.get(name, 0) + total
        self.epoch += 1
        seconds = (time.perf_counter() - started) / len(self.seeds)
        means = {name: (total / len(self.images)).tolist() for name, total in totals.items()}
        if self.trainee.objective.skew is not None:
            means["skew"] = self.trainee.objective.skew.value.detach().reshape(-1).tolist()
        return [{**{name: mean[k] for name, mean in means.items()}, "seconds": seconds} for k in range(len(self.seeds))]

    def _set_rates(self, step: int) -> None:
        for group, rate in zip(self.optimiser.param_groups, self._rates):
            group["lr"] = rate / (1 + self._decay * step)

    def _step(self, index: Tensor, noise: Noise, progress: float, count: int) -> Terms:
        """One step on the samples at `index` ``(members, count)``; each term summed over the samples."""
        if isinstance(self._trainee, Trainee):
            index, noise = index[0], {name: n[0] for name, n in noise.items()}
        x, done = pixels(self.images[index]), torch.tensor(progress, device=self.device)
        for phase in self.trainee.objective.phases:
            self.optimiser.zero_grad()
            terms = self._trainee(x, noise, done, phase)
            terms["loss"].mean(-1).sum().backward()
            self.optimiser.step()
        self.trainee.objective.project_()
        return {name: term.detach().sum(-1).reshape(-1) for name, term in terms.items()}

    def _sum(self, terms: list[Terms], first: int) -> Terms:
        """The terms ``(members,)`` summed over a block of steps, if all of them are finite."""
        stacked = {name: torch.stack([t[name] for t in terms]).double() for name in terms[0]}
        # The loss comes last: the term that broke it says more.
        broken = [
            (int(bad[0, 0]), name, int(bad[0, 1]))
            for name in sorted(stacked, key=lambda name: name == "loss")
            if len(bad := (~stacked[name].isfinite()).nonzero())
        ]
        if broken:
            step, name, member = min(broken, key=lambda b: b[0])
            raise NonFiniteLoss(
                f"{name} is {stacked[name][step, member].item()} in epoch {self.epoch + 1}, step {first + step + 1} "
                f"(seed {self.seeds[member]}): lower the learning rate or the weight, or check the data"
            )
        return {name: values.sum(0) for name, values in stacked.items()}

    def member(self, k: int) -> Trainee:
        """Member `k` with its weights as they are now."""
        if self._trainee is not self._members[0]:
            with torch.no_grad():
                tensors = dict(self.trainee.named_parameters()) | dict(self.trainee.named_buffers())
                own = dict(self._members[k].named_parameters()) | dict(self._members[k].named_buffers())
                for name, tensor in own.items():
                    tensor.copy_(tensors[name][k])
        return self._members[k]

    def _tensors(self, k: int) -> Iterator[tuple[str, Tensor]]:
        """All tensors that the next step of member `k` depends on, by name; views, to be read or written."""
        solo = len(self.seeds) == 1
        for name, tensor in (*self.trainee.named_parameters(), *self.trainee.named_buffers()):
            yield name, tensor.detach() if solo else tensor.detach()[k]
        names = {parameter: name for name, parameter in self.trainee.named_parameters()}
        for parameter, state in self.optimiser.state.items():
            for key, tensor in state.items():
                shared = solo or key == "step"
                yield f"{names[parameter]}/{key}", tensor if shared else tensor[k]

    def state(self, k: int) -> State:
        """A copy of everything that the training of member `k` goes on from, apart from the epoch."""
        return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in self._tensors(k)}

    def resume(self, states: Sequence[State], epoch: int) -> None:
        """Go on after `epoch` epochs from the members' states."""
        for group in self.optimiser.param_groups:
            for parameter in group["params"]:
                moments = {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
                self.optimiser.state[parameter] = {"step": torch.zeros((), device=self.device), **moments}
        for k, state in enumerate(states):
            for name, tensor in self._tensors(k):
                tensor.copy_(state[name])
        self.epoch = epoch
