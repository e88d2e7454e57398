"""In how many bits products are computed: float32, or less where a GPU has faster units for it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Precision = Literal["float32", "tf32", "bf16"]
"""tf32: products of float32 numbers rounded to 10 bits, on a GPU alone; bf16: to 7 bits. Sums are float32 in all."""

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv_transpose1d, F.conv_transpose2d)
PRODUCTS = (
    *CONVOLUTIONS, F.linear, F.scaled_dot_product_attention, torch.matmul, torch.bmm, torch.addmm, torch.einsum,
    Tensor.matmul, Tensor.__matmul__,
)  # fmt: skip


class _Bf16(TorchFunctionMode):
    """Takes the factors of products as bfloat16; all else, normalisation and losses above all, stays in float32.

    `torch.autocast` does the same, but not under vmap: lanes would be trained in float32.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # On CPUs PyTorch 2.13 gives wrong gradients of bfloat16 convolutions over inputs of width 1.
        if func not in PRODUCTS or (func in CONVOLUTIONS and args[0].device.type == "cpu"):
            return func(*args, **kwargs)
        product = func(*map(_halved, args), **{name: _halved(value) for name, value in kwargs.items()})
        return product.float()


def _halved(value: Any) -> Any:
    return value.bfloat16() if isinstance(value, Tensor) and value.dtype == torch.float32 else value


def arithmetic(precision: Precision) -> AbstractContextManager[Any]:
    """The context in which a model is run."""
    return _Bf16() if precision == "bf16" else nullcontext()


def set_up(precision: Precision) -> None:
    """Tell the process's CUDA libraries; by default convolutions are tf32 there, whatever is asked for."""
    kind = "tf32" if precision == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = kind
    torch.backends.cudnn.conv.fp32_precision = kind  # type: ignore[attr-defined]


__all__ = ["Precision", "arithmetic", "set_up"]
