"""Which checkpoint a run goes on from: one and the same in all its processes, on whichever machines they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from palimpsest.lake import LakeError
from training.checkpoint import Checkpoint, Checkpoints
from training.processes import Group


@contextmanager
def taken_up(run: str, checkpoints: Checkpoints, group: Group) -> Iterator[Checkpoint | None]:
    """The newest checkpoint that the first process finds whole, readable inside the block; None where there is none.

    The others load that very one, by its name and the digest of its sums: on a shared folder each could find another
    newest one. Raises `ConnectionError` in all processes where one of them cannot.
    """
    found, problem = None, None
    with ExitStack() as stack:
        if group.rank == 0:
            found = stack.enter_context(checkpoints.newest())
        chosen = group.told(found and (checkpoints.last, found.digest))
        if chosen and group.rank:
            try:
                found = stack.enter_context(checkpoints.this(*chosen))
            except (LakeError, OSError) as error:
                problem = str(error)
        for rank, said in enumerate(group.gathered(problem)):
            if said:
                raise ConnectionError(
                    f"run {run}: process {rank} of {group.world} cannot go on from {chosen[0]}, which process 0 found "
                    f"whole ({said}); see that all machines read the same lake, or delete this checkpoint: then the "
                    "one before it is used"
                )
        yield found
