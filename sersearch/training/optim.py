"""SGD, Adam and NAdam on parameters with or without a leading lane dimension; checked against torch.optim.

Every coefficient is a tensor of shape () or (K,): each lane has its own learning rate and its own step count.
Coefficients are computed in float64 and rounded once, to the parameter's dtype.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sersearch.family import Optimizer

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # of Adam and NAdam, torch.optim's defaults
MOMENTUM_DECAY = 4e-3  # NAdam's psi

Slots = dict[str, Tensor]
"""State of one optimiser: `<slot>/<parameter>` as shaped as the parameter; `step/<child>` and `mu_product/<child>` as
the lanes. Children of the model are counted apart, as torch.optim counts parameters: where two phases share a state, a
child without a gradient in one of them has made fewer steps.
"""


def init_slots(kind: str, parameters: Mapping[str, Tensor]) -> Slots:
    """Fresh state for one lane's `parameters`."""
    names = {"sgd": ("momentum",), "adam": ("exp_avg", "exp_avg_sq"), "nadam": ("exp_avg", "exp_avg_sq")}[kind]
    slots = {f"{slot}/{name}": torch.zeros_like(p) for slot in names for name, p in parameters.items()}
    if kind != "sgd":
        for name, parameter in parameters.items():
            slots[f"step/{_child(name)}"] = torch.zeros((), dtype=torch.float64, device=parameter.device)
            slots[f"mu_product/{_child(name)}"] = torch.ones((), dtype=torch.float64, device=parameter.device)
    return slots


def is_count(slot: str) -> bool:
    """Whether a slot counts a child's steps: it is float64 and of the lanes' shape, whatever the parameters are."""
    return slot.startswith(("step/", "mu_product/"))


def _child(name: str) -> str:
    return name.split(".")[0]


@torch.no_grad()
def step(
    optimizer: Optimizer,
    parameters: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    slots: Slots,
    hp: Mapping[str, Tensor],
    moves: Mapping[str, Tensor],
) -> None:
    """One step, in place, of the parameters that have a gradient.

    `hp` holds the lanes' hyperparameters as float64 tensors (() or (K,)); `moves` says for some parameters whether
    they move at all, as booleans (() or (K,)).
    """
    rate = hp[optimizer.learning_rate]
    rates = (
        {} if optimizer.kind == "sgd" else _advance(optimizer.kind, slots, rate, {_child(name) for name in gradients})
    )
    for name, gradient in gradients.items():
        parameter = parameters[name]
        own = {
            slot: slots[f"{slot}/{name}"] for slot in ("momentum", "exp_avg", "exp_avg_sq") if f"{slot}/{name}" in slots
        }
        moving = moves.get(name)
        before = {} if moving is None else {"": parameter.clone(), **{s: t.clone() for s, t in own.items()}}
        if optimizer.kind == "sgd":
            momentum = hp[optimizer.momentum] if optimizer.momentum else torch.zeros_like(rate)
            _sgd(parameter, gradient, own["momentum"], rate, momentum)
        else:
            _adam(parameter, gradient, own["exp_avg"], own["exp_avg_sq"], *rates[_child(name)])
        for slot, old in before.items():
            assert moving is not None
            tensor = own[slot] if slot else parameter
            tensor.copy_(torch.where(_like(moving, tensor), tensor, old))


def _sgd(parameter: Tensor, gradient: Tensor, buffer: Tensor, rate: Tensor, momentum: Tensor) -> None:
    buffer.mul_(_like(momentum, buffer)).add_(gradient)
    parameter.addcmul_(buffer, _like(-rate, parameter))


Rates = tuple[Tensor, Tensor | None, Tensor]
"""Correction of the running mean of squares, and the factors of the gradient and of its running mean in the step."""


def _advance(kind: str, slots: Slots, rate: Tensor, children: set[str]) -> dict[str, Rates]:
    """Count a step of `children`; by child, the rates of that step."""
    rates: dict[str, Rates] = {}
    for child in children:
        count, product = slots[f"step/{child}"].add_(1), slots[f"mu_product/{child}"]
        product.mul_(_mu(count))
        correction = (1 - BETA2**count).rsqrt()
        if kind == "adam":  # takes only the mean
            rates[child] = correction, None, rate / (1 - BETA1**count)
        else:
            mu, mu_next = _mu(count), _mu(count + 1)
            rates[child] = correction, rate * (1 - mu) / (1 - product), rate * mu_next / (1 - product * mu_next)
    return rates


def _mu(count: Tensor) -> Tensor:
    return BETA1 * (1 - 0.5 * 0.96 ** (count * MOMENTUM_DECAY))


def _adam(
    parameter: Tensor,
    gradient: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    correction: Tensor,
    gradient_rate: Tensor | None,
    mean_rate: Tensor,
) -> None:
    exp_avg.lerp_(gradient, 1 - BETA1)
    exp_avg_sq.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
    denominator = exp_avg_sq.sqrt().mul_(_like(correction, exp_avg_sq)).add_(EPSILON)
    change = exp_avg * _like(-mean_rate, parameter)
    if gradient_rate is not None:
        change.addcmul_(gradient, _like(-gradient_rate, parameter))
    parameter.addcdiv_(change, denominator)


def _like(coefficient: Tensor, tensor: Tensor) -> Tensor:
    """() or (K,) as something that broadcasts over a parameter's () or (K, ...) and has its dtype."""
    dtype = coefficient.dtype if coefficient.dtype == torch.bool else tensor.dtype
    return coefficient.to(dtype).reshape(coefficient.shape + (1,) * (tensor.ndim - coefficient.ndim))


@torch.no_grad()
def clip(gradients: Mapping[str, Tensor], largest: float, lanes: int | None) -> None:
    """Scale `gradients`, in place, to a joint Euclidean norm of at most `largest`; each of K `lanes` by its own."""
    shape = (-1,) if lanes is None else (lanes, -1)
    # By name: a checkpoint's parameters come back in that order, and rounding depends on it.
    squares = torch.stack([gradients[name].reshape(shape).square().sum(dim=-1) for name in sorted(gradients)])
    factor = (largest / (squares.sum(dim=0).sqrt() + 1e-6)).clamp(max=1)
    for gradient in gradients.values():
        gradient.mul_(_like(factor, gradient))


__all__ = ["Slots", "clip", "init_slots", "is_count", "step"]
