"""What the wrong leaves of a check have in common, and what each of them shows."""

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cache, partial

import torch
from torch import Tensor

from .. import tree
from ..causes import Cause
from ..objectives import Composed
from ..providers.doors import behind_door
from ..providers.reverse import func_grad
from ..report import Finding, at
from ..sums import networks
from ..types import Objective, ValueFn
from .beside import beside
from .case import Case
from .diagnosis import diagnose
from .evidence import Evidence
from .mistakes import Forward, Prediction, predict
from .samples import TOGETHER, errors, per_sample_gradients
from .surface import Surface
from .thresholds import LIMITS
from .trials import attempt

SHOWN = 8  # samples that are listed by number
PLAIN = 1e-4  # the relative error from which a sample counts as wrong, whatever the noise in it


def explain(
    surface: Surface, cases: list[Case], known: Collection[str] = ()
) -> tuple[list[Finding], Tensor | None, list[str]]:
    """The findings with their diagnoses, the errors of the samples (N, leaves), and remarks on all leaves together.

    Leaves whose cause is `known` stay as they are.
    """
    findings = [case.verdict for case in cases]
    wrong = [case for case in cases if case.is_now("wrong") and surface.subject.paths[case.position] not in known]
    if not wrong:
        return findings, None, []
    entry_by_entry = all(not case.large and case.g.shape == case.leaf.shape for case in cases)
    samples = _samples(surface) if entry_by_entry else None
    predicted, counts = cache(partial(surface.subject.predictions, surface)), surface.subject.counts
    for case in wrong:
        position = case.position
        own = samples[position] if samples and len(samples[position][0]) in counts else None
        evidence = Evidence(case.g, case.right, case.allowed, counts, surface.subject.each, len(wrong) == 1, own)
        if not case.large:
            formula = surface.subject.formula(surface, position)
            evidence = replace(evidence, predictions=partial(_of_leaf, predicted, position), formula=formula)
        elif case.entries is not None:
            evidence = replace(evidence, name=partial(_name, case.entries, case.leaf.shape))
        if case.verdict.error < LIMITS.gross and surface.by_differences and surface.casts:
            sentence = "the function casts to less than float64 inside, so that its differences have as few digits"
            findings[position] = replace(findings[position], cause=Cause.PRECISION, diagnosis=sentence)
            continue
        others = cache(lambda own=evidence: list(beside(own)) if surface.by_differences else [])
        cause, sentence = diagnose(evidence, surface.subject.hypotheses, others)
        findings[position] = replace(findings[position], cause=cause, diagnosis=sentence)
    if samples is None:
        return findings, None, []
    matrix = errors(samples)
    limit = max([10 * finding.allowed for finding in findings] + [PLAIN] * surface.by_differences)
    remark = _which_samples(
        matrix.amax(1) > limit, max(finding.error for finding in findings) > 10 * limit, counts[0], surface.subject.each
    )
    return findings, matrix, remark


def _of_leaf(predictions: Callable[[], list[Prediction]], position: int) -> list[tuple[Cause, str, Tensor]]:
    return [(cause, sentence, grads[position]) for cause, sentence, grads in predictions()]


def _name(entries: Tensor, shape: torch.Size, entry: tuple[int, ...]) -> str:
    """How an entry of a sample of entries is written."""
    return at(tuple(int(i) for i in torch.unravel_index(entries[entry], shape)))


def _samples(surface: Surface) -> list[tuple[Tensor, Tensor]] | None:
    """The gradients of the samples, or None where the value is no mean of theirs, or one alone is refused."""
    if sum(leaf.numel() for leaf in surface.leaves) > TOGETHER // 2 or not surface.splits:
        return None
    found: list[tuple[Tensor, Tensor]] | None = attempt(per_sample_gradients, surface)
    return found


def network_predictions(surface: Surface) -> list[Prediction]:
    """What mistakes in the network would do, where either side knows the network."""
    for step_fn in (surface.subject.claimed, surface.reference):
        known = list(networks(behind_door(step_fn.value)))
        if known:
            return [prediction for network in known for prediction in _of_network(surface, *network)]
    return []


def _of_network(surface: Surface, value: Composed, put: Callable[[ValueFn], ValueFn]) -> list[Prediction]:
    def gradient(forward: Forward) -> list[Tensor]:
        mistaken = value._replace(layer=lambda params, x: (forward(params, x), ()))
        return tree.leaves(func_grad(Objective(put(mistaken)))(surface.params, surface.batch)[1])

    return predict(value.layer, surface.params, value.keys(surface.batch)[0], gradient)


def _which_samples(wrong: Tensor, plain: bool, count: int, each: str) -> list[str]:
    index, looked_at = wrong.nonzero()[:, 0].tolist(), len(wrong)
    if not index:
        alone = f"Each {each} by itself has the right gradient: the mistake is in how {each}s are put together."
        return [alone] if plain and looked_at == count > 1 else []
    among = f"{len(index)} of {count} {each}s" if looked_at == count else f"{len(index)} of the first {looked_at} {each}s"
    listed = ", ".join(map(str, index[:SHOWN])) + (", ..." if len(index) > SHOWN else "")
    return [f"{among} disagree" + ("." if len(index) == looked_at else f": {listed}.")]
