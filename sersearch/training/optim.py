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
"""State of one optimiser: `<slot>/<parameter>` as shaped as the parameter, `step` and `mu_product` as the lanes."""


def init_slots(kind: str, parameters: Mapping[str, Tensor]) -> Slots:
    """Fresh state for one lane's `parameters`."""
    names = {"sgd": ("momentum",), "adam": ("exp_avg", "exp_avg_sq"), "nadam": ("exp_avg", "exp_avg_sq")}[kind]
    slots = {f"{slot}/{name}": torch.zeros_like(p) for slot in names for name, p in parameters.items()}
    if kind != "sgd":
        device = next(iter(parameters.values())).device
        slots["step"] = torch.zeros((), dtype=torch.float64, device=device)
        slots["mu_product"] = torch.ones((), dtype=torch.float64, device=device)
    return slots


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
    if optimizer.kind != "sgd":
        _advance(slots)
        rates = _adam_rates(slots, rate) if optimizer.kind == "adam" else _nadam_rates(slots, rate)
        correction = (1 - BETA2 ** slots["step"]).rsqrt()
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
            _adam(parameter, gradient, own["exp_avg"], own["exp_avg_sq"], correction, *rates)
        for slot, old in before.items():
            assert moving is not None
            tensor = own[slot] if slot else parameter
            tensor.copy_(torch.where(_like(moving, tensor), tensor, old))


def _sgd(parameter: Tensor, gradient: Tensor, buffer: Tensor, rate: Tensor, momentum: Tensor) -> None:
    buffer.mul_(_like(momentum, buffer)).add_(gradient)
    parameter.addcmul_(buffer, _like(-rate, parameter))


def _advance(slots: Slots) -> None:
    slots["step"].add_(1)
    slots["mu_product"].mul_(_mu(slots["step"]))


def _mu(count: Tensor) -> Tensor:
    return BETA1 * (1 - 0.5 * 0.96 ** (count * MOMENTUM_DECAY))


def _adam_rates(slots: Slots, rate: Tensor) -> tuple[Tensor | None, Tensor]:
    """Factors of the gradient and of its running mean in the step: Adam takes only the mean."""
    return None, rate / (1 - BETA1 ** slots["step"])


def _nadam_rates(slots: Slots, rate: Tensor) -> tuple[Tensor | None, Tensor]:
    mu, mu_next, product = _mu(slots["step"]), _mu(slots["step"] + 1), slots["mu_product"]
    return rate * (1 - mu) / (1 - product), rate * mu_next / (1 - product * mu_next)


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
    squares = torch.stack([g.reshape(shape).square().sum(dim=-1) for g in gradients.values()])
    factor = (largest / (squares.sum(dim=0).sqrt() + 1e-6)).clamp(max=1)
    for gradient in gradients.values():
        gradient.mul_(_like(factor, gradient))


__all__ = ["Slots", "clip", "init_slots", "step"]
