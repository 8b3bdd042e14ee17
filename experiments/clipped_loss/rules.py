"""The clipped cross entropy in other forms: summed, in a classic training loop, and under torch.func."""

from typing import Any

import torch
from torch import Tensor, nn

import funcnn as fn
from experiments.core.classic import as_params, classic_step, copy_params
from experiments.core.training import Task

LOSS = fn.softmax_cross_entropy()


def summed(clip: float) -> fn.Loss:
    """The cross entropy summed over the batch, with the entries of its gradient clipped."""

    def forward(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Any]:
        value, residuals = LOSS.forward(outputs, targets)
        return len(outputs) * value, residuals

    def backward(residuals: Any) -> Tensor:
        mean = LOSS.backward(residuals)
        return (len(mean) * mean).clamp(-clip, clip)

    return fn.Loss(forward, backward)


def slopes(task: Task, params: Any, count: int | None = None) -> Tensor:
    """The entries |dL/dlogits| of the mean loss over the first `count` training samples, or over all of them."""
    inputs, targets = (part[:count] for part in task.data.train)
    return LOSS.backward(LOSS.forward(fn.apply(task.layer, params, inputs), targets)[1]).abs()


def classic_difference(task: Task, clip: float) -> float:
    """One epoch of an nn.Module, `.backward()` and torch.optim.SGD on the clipped loss, against the explicit provider."""
    loss, batch_size, lr = fn.softmax_cross_entropy(clip), task.options.batch_size, task.options.lr
    first, _, last = (own["w"].shape if own else () for own in task.start)
    module = nn.Sequential(nn.Linear(*first), nn.ReLU(), nn.Linear(*last)).to(**task.options.tensors)
    copy_params(task.start, module)
    step, params = classic_step(module, fn.torch_function(loss), lr), task.start
    batches = list(fn.minibatches(task.data.train, batch_size, generator=task.options.generator()))
    for batch in batches:
        step(batch)
    for explicit in fn.train(fn.explicit(fn.supervised(task.layer, loss)), fn.sgd(lr), task.start, batches):
        params = explicit.params
    return fn.tree.max_difference(params, as_params(module)).item()


def transformed_difference(task: Task, clip: float) -> float:
    """vmap(grad) of the clipped loss in its torch form, for every training sample alone, against the clipped p - one_hot."""
    criterion = fn.torch_function(fn.softmax_cross_entropy(clip))
    inputs, targets = task.data.train
    logits = fn.apply(task.layer, task.start, inputs)

    def of_one(row: Tensor, target: Tensor) -> Tensor:
        return criterion(row[None], target[None])

    ours = torch.func.vmap(torch.func.grad(of_one))(logits, targets)
    expected = logits.softmax(1) - torch.nn.functional.one_hot(targets, logits.shape[1])
    return (ours - expected.clamp(-clip, clip)).abs().max().item()
