"""What a network can run on here, and how much memory is free there."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psutil

from napari_unet3d.errors import DeviceError
from napari_unet3d.network.machine import runtime
from napari_unet3d.network.machine.device import Device as Device
from napari_unet3d.network.machine.device import Precision as Precision

# The rest is for what else runs, and for what a prediction of memory misses.
USABLE_SHARE = 0.75
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_CPU_FACTS = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = frozenset(("avx512_bf16", "amx_bf16"))
# What oneDNN may be told to keep to; with these it has no bfloat16.
_ISA_SETTINGS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_ISAS_WITHOUT = frozenset(("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"))
# What Python, TensorFlow and its compiled code take before the first tile.
PROGRAM_BYTES = 700 << 20
# Compute capabilities: float16 on tensor cores came with Volta, bfloat16 with Ampere.
_TENSOR_CORES_SINCE, _BFLOAT16_SINCE = (7, 0), (8, 0)


def known_devices() -> list[Device] | None:
    """Return the devices if they are known without importing TensorFlow, because there is no sign of a GPU."""
    return None if _may_have_gpu() else [_cpu()]


def list_devices() -> list[Device]:
    """Return the GPUs that TensorFlow can use, then the CPU.

    TensorFlow is imported only where a GPU may be.
    """
    if not _may_have_gpu():
        return [_cpu()]
    tf = runtime.load_tensorflow()
    gpus = [
        _gpu(index, tf.config.experimental.get_device_details(gpu))
        for index, gpu in enumerate(tf.config.list_physical_devices("GPU"))
    ]
    return [*gpus, _cpu()]


def select_device(name: str = "auto", precision: Precision = "float32") -> Device:
    """Return the device of that name; `auto` is the first GPU, or the CPU where there is none.

    Parameters
    ----------
    name
        As in `PredictSpec`.
    precision
        What a prediction on it is computed in.

    Raises
    ------
    DeviceError
        If there is no such device, or it does not gain by that precision. The message says what there is.
    """
    devices = list_devices()
    wanted = "gpu:0" if name == "gpu" else name
    for device in devices:
        if wanted in ("auto", device.name):
            return device.in_precision(precision)
    there = ", ".join(f"{device.name} ({device.label})" for device in devices)
    raise DeviceError(f"Device {name!r} is not available. Available: {there}.")


def free_memory(device: Device) -> int:
    """Return the free memory of a device in bytes; of the host within the limit of its control group."""
    free = _free_gpu_memory(device.index) if device.is_gpu else None
    return _free_host_memory() if free is None else free


def usable_memory(device: Device, *, worker: int | None = None) -> int:
    """Return how much of the free memory a run takes when nobody says how much, in bytes.

    Parameters
    ----------
    device
        Where it runs.
    worker
        The process that will compute, if it is another than this one; what it holds of earlier runs can be used again.
        0 is a process that has not been started.
    """
    free = free_memory(device)
    if device.is_gpu:
        return int(USABLE_SHARE * (free + _held_on_gpu(device.index, worker or 0)))
    if worker is None:
        free -= max(0, PROGRAM_BYTES - psutil.Process().memory_info().rss)
    else:
        free -= PROGRAM_BYTES - _resident_bytes(worker)
    return max(0, int(USABLE_SHARE * free))


def _resident_bytes(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss) if pid else 0
    except psutil.Error:
        return 0


def _cpu() -> Device:
    return Device("cpu", f"CPU, {_counted_threads()}", has_bfloat16=_has_bfloat16())


def _has_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 numbers itself; where the system does not say, False.

    Also False where oneDNN, which does it, is off or kept to older instructions.
    """
    kept_to = {os.environ.get(name, "").upper() for name in _ISA_SETTINGS}
    if os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0" or kept_to & _ISAS_WITHOUT:
        return False
    try:
        with _CPU_FACTS.open() as facts:
            # The first processor stands for all: of many, the whole file takes a while to come.
            flags = next((line for line in facts if line.startswith("flags")), "")
    except OSError:
        return False
    return not _BFLOAT16_FLAGS.isdisjoint(flags.split())


def _gpu(index: int, details: dict[str, Any]) -> Device:
    capability = tuple(details.get("compute_capability") or (0, 0))
    return Device(
        f"gpu:{index}",
        str(details.get("device_name", "GPU")),
        mixed_precision=capability >= _TENSOR_CORES_SINCE,
        has_bfloat16=capability >= _BFLOAT16_SINCE,
    )


def _may_have_gpu() -> bool:
    nodes = (Path("/dev/nvidia0"), Path("/dev/kfd"), Path("/dev/dxg"))
    return (
        shutil.which("nvidia-smi") is not None
        or any(node.exists() for node in nodes)
        or importlib.util.find_spec("tensorflow-plugins") is not None
    )


def _counted_threads() -> str:
    try:
        n = len(psutil.Process().cpu_affinity())
    except AttributeError:  # macOS
        n = psutil.cpu_count() or 1
    return f"{n} thread" if n == 1 else f"{n} threads"


def _free_host_memory() -> int:
    free = int(psutil.virtual_memory().available)
    for group in _own_cgroups():
        for limit, used, reclaimable in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            try:
                total, in_use = int((group / limit).read_text()), int((group / used).read_text())
                statistics = (group / "memory.stat").read_text().split()
            except (OSError, ValueError):  # no such control group, or "max": no limit
                continue
            cache = dict(zip(statistics[::2], statistics[1::2], strict=False)).get(reclaimable, "0")
            free = min(free, total - in_use + int(cache))
    return max(0, free)


def _own_cgroups() -> list[Path]:
    """Return the control groups that may limit this process: its own and those above it, both versions."""
    try:
        lines = _OWN_CGROUP.read_text().splitlines()
    except OSError:
        lines = []
    groups = {_CGROUPS, _CGROUPS / "memory"}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            own = _CGROUPS / controllers / path.strip("/")
            groups |= {own, *(parent for parent in own.parents if parent.is_relative_to(_CGROUPS))}
    return sorted(groups)


def _free_gpu_memory(index: int) -> int | None:
    """Return what `nvidia-smi` says, or None without it."""
    lines = _nvidia_smi(index, "--query-gpu=memory.free")
    return None if not lines else int(lines[0].split()[0]) << 20


def _held_on_gpu(index: int, pid: int) -> int:
    """Return the bytes that a process holds on a GPU, as far as `nvidia-smi` knows."""
    rows = [line.split(",") for line in _nvidia_smi(index, "--query-compute-apps=pid,used_memory") if pid]
    return sum(int(used) << 20 for owner, used in rows if int(owner) == pid)


def _nvidia_smi(index: int, query: str) -> list[str]:
    """Return the lines that `nvidia-smi` answers; none without it, or where it answers with other than numbers."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    words = [program, f"--id={index}", query, "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    lines = [line for line in answer.splitlines() if line.strip()]
    return lines if all(part.strip().isdigit() for line in lines for part in line.split(",")) else []
