"""A device that is not there: tensors that say they lie on a GPU, and refuse what such tensors refuse.

Their numbers lie in the CPU's memory, so that all runs without a GPU, and mixing devices or handing them to numpy fails as it would on one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("meta")
MOVES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
INDEXED = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default}
INDEXED |= {torch.ops.aten._index_put_impl_.default}  # these take indices from the CPU


class Pretended(Tensor):
    """A tensor on the pretended GPU; ``held`` has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Pretended:
        made: Pretended = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=GPU,
            requires_grad=held.requires_grad,
        )
        made.held = held
        return made

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def __array__(self, dtype: Any = None) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def tolist(self) -> Any:
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return dispatched(func, args, kwargs or {})


def dispatched(call: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Do what is asked on the numbers held; refuse tensors of several devices."""
    flat = [one for one in tree_flatten((args, named))[0] if isinstance(one, Tensor)]
    there = [one for one in flat if isinstance(one, Pretended)]
    strangers = [one for one in flat if not isinstance(one, Pretended) and one.ndim > 0]
    asked = named.get("device")
    if call in INDEXED and not isinstance(args[0], Pretended) and there:
        raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
    if there and strangers and call not in MOVES and call not in INDEXED:
        raise RuntimeError(f"{call}: expected all tensors to be on the same device, found cuda:0 and cpu")
    to_gpu = bool(there) if asked is None else torch.device(asked).type == GPU.type
    if asked is not None and to_gpu:
        named = {**named, "device": torch.device("cpu")}
    plain = tree_map(lambda one: one.held if isinstance(one, Pretended) else one, (args, named))
    result = call(*plain[0], **plain[1])
    if call is torch.ops.aten._local_scalar_dense.default:
        return result
    if flat and result is (flat[0].held if isinstance(flat[0], Pretended) else flat[0]):
        return flat[0]  # changed in place
    return tree_map(lambda one: Pretended(one) if to_gpu and isinstance(one, Tensor) else one, result)


class PretendedGPU(TorchDispatchMode):
    """Makes what is created on "cuda" a pretended tensor."""

    def __torch_dispatch__(self, call: Any, types: Any, args: tuple[Any, ...] = (), named: dict[str, Any] | None = None) -> Any:
        return dispatched(call, args, named or {})


class PretendedNumbers(TorchFunctionMode):
    """Makes what is written down as numbers on the CPU first, where modes can see how it is moved."""

    def __torch_function__(self, call: Any, types: Any, args: tuple[Any, ...] = (), named: dict[str, Any] | None = None) -> Any:
        named = dict(named or {})
        if call is Tensor.new_tensor:
            call, like, args = torch.tensor, args[0], args[1:]
            named = {"dtype": like.dtype, "device": like.device, **named}
        if call in (torch.tensor, torch.as_tensor) and named.get("device") is not None:
            device = named.pop("device")
            return call(*args, **named).to(device)
        return call(*args, **named)


@contextmanager
def pretended_gpu() -> Iterator[torch.device]:
    """Make the device there is while a test runs; the weights of modules are moved to it as new ones."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with PretendedNumbers(), PretendedGPU():
            yield GPU
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
