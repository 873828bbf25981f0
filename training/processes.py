"""Several processes on one run: the batch divided among them, gradients summed (DDP) or also divided (FSDP2).

torchrun starts them and says who they are in RANK, LOCAL_RANK and WORLD_SIZE. NCCL between GPUs, gloo between CPUs.
Each process computes the sum of its tokens' losses over the whole batch's count, so that the gradients' sum is the
gradient of the batch's mean, however unevenly its windows are divided.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.data import divide

PATIENCE = dt.timedelta(minutes=30)  # for the slowest step: an evaluation, a checkpoint, a compilation


@dataclass(frozen=True)
class Group:
    """The processes of a run, and which of them this is."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    def rows(self, batch: int) -> slice:
        """This process's rows of a batch."""
        return divide(batch, self.rank, self.world)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.world > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def agree(self, decision: bool = False) -> bool:
        """What the first process decided."""
        if self.world == 1:
            return decision
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        told = torch.tensor(int(decision), device=device)
        torch.distributed.broadcast(told, 0)
        return bool(told)

    def told(self, what: object = None) -> object:
        """What the first process says: anything that can be pickled."""
        said = [what]
        if self.world > 1:
            torch.distributed.broadcast_object_list(said)
        return said[0]

    def gathered(self, what: object) -> list:
        """What each process says, in the order of their ranks."""
        said = [what] * self.world
        if self.world > 1:
            torch.distributed.all_gather_object(said, what)
        return said


ALONE = Group()


@contextmanager
def joined() -> Iterator[Group]:
    """The group torchrun made this process part of; `ALONE` where nobody did."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        yield ALONE
        return
    group = Group(int(os.environ["RANK"]), world, int(os.environ["LOCAL_RANK"]))
    if torch.cuda.is_available():
        torch.cuda.set_device(group.local_rank)
    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    yield group
    torch.distributed.destroy_process_group()  # after a failure the others hang: the process just ends, torchrun too


def spread(model: nn.Module, group: Group, parallel: str, dtype: torch.dtype) -> nn.Module:
    """The module to call in place of ``model``, whose parameters it trains; with 'fsdp' they become DTensors."""
    if group.world == 1:
        return model
    if parallel == "ddp":
        return nn.parallel.DistributedDataParallel(model)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(model.embedding.device.type, (group.world,))
    gathered = None if dtype == torch.float32 else dtype
    policy = MixedPrecisionPolicy(param_dtype=gathered, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in model.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    return fully_shard(model, mesh=mesh, mp_policy=policy)


@contextmanager
def unsynchronized(module: nn.Module, until_last: bool) -> Iterator[None]:
    """Gradients of all but the last part of a batch stay in their process: one exchange per step."""
    if not until_last:
        yield
    elif isinstance(module, nn.parallel.DistributedDataParallel):
        with module.no_sync():
            yield
    elif hasattr(module, "set_requires_gradient_sync"):
        module.set_requires_gradient_sync(False)
        yield
        module.set_requires_gradient_sync(True)
    else:
        yield


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that FSDP has divided (every process must ask); any other tensor as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def put(tensor: Tensor, value: Tensor) -> None:
    """Sets a tensor, or this process's part of it, from the whole ``value``."""
    if hasattr(tensor, "to_local"):
        from torch.distributed.tensor import distribute_tensor

        value = value.to(tensor.device)
        value = distribute_tensor(value, tensor.device_mesh, tensor.placements, src_data_rank=None)
        tensor.to_local().copy_(value.to_local())
    else:
        tensor.copy_(value)
