"""Sample by sample: the gradients of every sample's own value, where a batch disagrees."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .. import tree
from ..batches import by_samples, rows
from ..objectives import Backpropagated
from ..providers.batched import batched
from ..providers.doors import behind_door
from ..samples import per_sample
from ..types import Batch, Params, StepFn
from .entries import central
from .surface import Surface
from .thresholds import LIMITS
from .trials import copied

TOGETHER = 2**22  # numbers that the per-sample gradients may have: 32 MiB


def per_sample_gradients(surface: Surface) -> list[tuple[Tensor, Tensor]]:
    """For every leaf (g_n, r_n) in float64, with a leading N; the first samples alone where all would be too many."""
    subject, count = surface.subject, max(1, TOGETHER // sum(leaf.numel() for leaf in surface.leaves))
    if subject.rows is None:
        subject = subject._replace(batch=rows(subject.batch, slice(count)))
        surface = Surface(subject)
        g = _alone(subject.claimed, copied(subject.params), copied(subject.batch))
    else:
        g = subject.rows.gradients()
    if surface.by_differences:
        r = [central(probe, LIMITS.step, order=2).T.reshape(-1, *probe.leaf.shape) for probe in surface.sample_probes]
    else:
        r = tree.leaves(_alone(surface.reference, surface.params, surface.batch))
    return list(zip([leaf.double() for leaf in tree.leaves(g)], r, strict=True))


def errors(samples: list[tuple[Tensor, Tensor]]) -> Float[Tensor, "N leaves"]:
    """|g_n - r_n| / max(|g_n|, |r_n|) for every sample and leaf, and 0 where both are 0 beside the other samples."""
    columns = []
    for g, r in samples:
        distance, *norms = (torch.linalg.vector_norm(x.reshape(len(x), -1), dim=1) for x in (g - r, g, r))
        size = torch.maximum(*norms)
        error = distance / size.clamp(min=max(1e-3 * norms[1].max().item(), 1e-300))
        columns.append(error.nan_to_num(nan=math.inf))
    return torch.stack(columns, dim=1)


def _alone(step_fn: StepFn, params: Params, batch: Batch) -> Params:
    if isinstance(behind_door(step_fn.value_and_grad), Backpropagated):
        return per_sample(step_fn)(params, batch)[1]
    return by_samples(lambda sample: step_fn(params, sample)[1], batch, batched)
