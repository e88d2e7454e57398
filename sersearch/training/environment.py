"""Settings that a training process wants in its environment before Python starts."""

from __future__ import annotations

from typing import Final

CPU_ENVIRONMENT: Final[dict[str, str]] = {
    # glibc hands big buffers back to the kernel at each free and faults them in again a step later. One arena, because
    # a trial runs in a thread of its worker, and threads' own arenas know no such threshold.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_ARENA_MAX": "1",
    # One trial a core: more threads would only fight over it.
    "OMP_NUM_THREADS": "1",
}
