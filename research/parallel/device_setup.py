"""Set up JAX for a process that trains or predicts: devices, threads, memory and the cache of compiled programs."""

import ctypes
import gc
import importlib.util
import logging
import os
import platform
import warnings
from typing import TYPE_CHECKING

from research.data.cache import MOST_BYTES, PROGRAMS, cache_folder, evict
from research.machine import available_cores

if TYPE_CHECKING:  # imported where it is used, because it imports JAX, which takes long
    from research.parallel.worker_pool import Workers

CORES = available_cores()  # CPU cores that this process may use
_WORKER_BYTES = 1e9  # most memory that a worker process needs for training


def use_devices() -> None:
    """Set up JAX for a program; what the user's environment sets stays as it is."""
    import jax

    _keep_freed_memory()
    gc.set_threshold(100_000)  # a collection visits all that JAX imported and traced: not every few steps
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        evict(cache_folder(PROGRAMS), MOST_BYTES)
        jax.config.update("jax_compilation_cache_dir", str(cache_folder(PROGRAMS)))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def has_only_cpus() -> bool:
    """Return whether JAX will find no accelerator; JAX is not started for it."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    has_plugins = any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))
    return not _sets_cpu_devices() and (platforms == "cpu" or (not platforms and not has_plugins))


def make_workers() -> "Workers | None":
    """Return worker processes to train in, one per core; None on an accelerator or if the user sets the devices."""
    from research.machine import memory_bytes
    from research.parallel.worker_pool import Workers

    count = min(CORES, int(memory_bytes() / _WORKER_BYTES))
    return Workers(count, set_up_process) if has_only_cpus() and count > 1 else None


def expect_workers() -> None:
    """Prepare for worker processes while the program still reads its input, if there may be any."""
    from research.parallel.worker_pool import start_server

    if has_only_cpus() and CORES > 1:
        start_server()


def use_one_thread() -> None:
    """Compute with one thread on CPU, unless the user's environment sets it; call this before XLA starts."""
    if has_only_cpus():
        os.environ.setdefault("NPROC", "1")
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for XLA's matrix decompositions of initial weights


def set_up_process() -> None:
    """Set up a worker process that computes on one core."""
    quiet_libraries()
    use_devices()
    use_one_thread()


def quiet_libraries() -> None:
    """Keep libraries from writing to stderr, which is for the program's own words."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.basicConfig(format="%(message)s", level=logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    logging.getLogger("research").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=UserWarning)


def _sets_cpu_devices() -> bool:
    """Return whether the user's environment sets the number of CPU devices."""
    return "JAX_NUM_CPU_DEVICES" in os.environ or "host_platform_device_count" in os.environ.get("XLA_FLAGS", "")


def _keep_freed_memory() -> None:
    """Make glibc keep freed memory, because a training step frees and allocates the same large arrays again and again.

    Otherwise glibc returns the pages to the system, which clears them at every step; encoders and long texts are slowed
    down by that. All threads share one arena: only the first arena can keep large arrays, and others would keep
    leftovers. Does nothing with another C library, or if the user's environment sets `MALLOC_...`.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mmap_threshold, trim_threshold, arena_max = -3, -1, -8  # malloc.h
    for option, value in ((mmap_threshold, 1 << 30), (trim_threshold, (1 << 31) - 1), (arena_max, 1)):
        ctypes.CDLL(None).mallopt(option, value)
