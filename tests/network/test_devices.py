from __future__ import annotations

import os
import stat
import subprocess
import sys

import numpy as np
import pytest

from napari_unet3d.errors import DeviceError, OutOfMemoryError, SizeError
from napari_unet3d.network.machine import devices, runtime
from napari_unet3d.network.machine.devices import (
    Device,
    free_memory,
    known_devices,
    list_devices,
    select_device,
    usable_memory,
)
from napari_unet3d.network.predictor import Predictor
from tests.support.models import logits_of, random_model


def test_the_environment_is_right_before_tensorflow_is_imported():
    code = (
        "from napari_unet3d.network.machine.runtime import load_tensorflow; import os\n"
        "tf = load_tensorflow()\n"
        "from tensorflow.python.util import _pywrap_util_port as port\n"
        "print(os.environ['TF_ENABLE_ONEDNN_OPTS'], port.IsMklEnabled())"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean, check=True)
    assert done.stdout.split() == ["1", "True"]
    assert done.stderr == ""


def test_a_variable_that_the_user_has_set_stands():
    code = "from napari_unet3d.network.machine.runtime import *; load_tensorflow(); print(one_dnn_note())"
    own = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=own, check=True)
    assert "oneDNN is off" in done.stdout


def test_a_tensorflow_that_cannot_be_imported_is_said_with_what_its_libraries_printed(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os; os.write(2, b'libfoo.so is missing'); raise ImportError('broken')"
    )
    code = "from napari_unet3d.network.machine.runtime import *\nload_tensorflow()"
    broken = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=broken, check=False)
    assert done.returncode != 0
    assert "libfoo.so is missing" in done.stderr
    assert "TensorFlow cannot be imported (broken)" in done.stderr


def test_the_cpu_is_always_there_and_never_in_half_precision():
    cpu = list_devices()[-1]
    assert (cpu.name, cpu.is_gpu, cpu.mixed_precision, cpu.bytes_per_value) == ("cpu", False, False, 4)
    assert select_device("cpu") == cpu
    assert 0 < usable_memory(cpu) < free_memory(cpu)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx2", False),
        ("fpu avx512_bf16 vnni", True),
        ("amx_bf16", True),
        ("my_avx512_bf16x", False),
        (None, False),
    ],
)
def test_a_cpu_that_multiplies_bfloat16_trains_in_it(monkeypatch, tmp_path, flags, expected):
    facts = tmp_path / "cpuinfo"
    if flags is not None:
        facts.write_text(f"processor : 0\nflags\t\t: {flags}\nbugs : avx512_bf16\nflags : amx_bf16\n")
    monkeypatch.setattr(devices, "_CPU_FACTS", facts)
    cpu = list_devices()[-1]
    assert cpu.trains_in_bfloat16 == expected
    assert cpu.training_policy == ("mixed_bfloat16" if expected else "float32")
    assert (cpu.mixed_precision, cpu.bytes_per_value) == (False, 4)
    if expected:
        fast = select_device("cpu", "bfloat16")
        assert (fast.computes_in, fast.bytes_per_value, fast.label) == ("bfloat16", 2, f"{cpu.label}, bfloat16")
    else:
        with pytest.raises(DeviceError, match="has no instructions for bfloat16"):
            select_device("cpu", "bfloat16")


@pytest.mark.parametrize(
    "setting", [("TF_ENABLE_ONEDNN_OPTS", "0"), ("ONEDNN_MAX_CPU_ISA", "AVX2"), ("DNNL_MAX_CPU_ISA", "avx512_core")]
)
def test_a_cpu_kept_from_its_instructions_has_no_bfloat16(monkeypatch, tmp_path, setting):
    (tmp_path / "cpuinfo").write_text("flags : avx512_bf16\n")
    monkeypatch.setattr(devices, "_CPU_FACTS", tmp_path / "cpuinfo")
    assert list_devices()[-1].has_bfloat16
    monkeypatch.setenv(*setting)
    assert not list_devices()[-1].has_bfloat16
    with pytest.raises(DeviceError, match=r"Choose exact \(float32\), or a CPU with AVX512_BF16"):
        select_device("cpu", "bfloat16")


def test_a_device_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(DeviceError, match=r"Device 'gpu:9' is not available\. Available: .*cpu \(CPU"):
        select_device("gpu:9")


class FakeTensorFlow:
    """What TensorFlow says on a machine with three GPUs, two with tensor cores and one of them with bfloat16."""

    class config:
        @staticmethod
        def list_physical_devices(kind):
            return ["old", "volta", "new"] if kind == "GPU" else []

        class experimental:
            @staticmethod
            def get_device_details(gpu):
                capability = {"old": (6, 1), "volta": (7, 0), "new": (8, 0)}[gpu]
                return {"device_name": f"{gpu} card", "compute_capability": capability}


def test_half_precision_is_for_gpus_with_tensor_cores(monkeypatch):
    monkeypatch.setattr(devices, "_may_have_gpu", lambda: True)
    monkeypatch.setattr(runtime, "load_tensorflow", lambda: FakeTensorFlow)
    old, volta, new, cpu = list_devices()
    assert (old.mixed_precision, new.mixed_precision, cpu.mixed_precision) == (False, True, False)
    assert (new.bytes_per_value, new.tensorflow_name) == (2, "/GPU:2")
    assert [gpu.computes_in for gpu in (old, volta, new)] == ["float32", "float16", "float16"]
    assert (volta.has_bfloat16, new.has_bfloat16, new.trains_in_bfloat16) == (False, True, False)
    fast = select_device("gpu:2", "bfloat16")
    assert (fast.computes_in, fast.bytes_per_value, fast.label) == ("bfloat16", 2, "new card, bfloat16")
    assert fast.training_policy == "mixed_float16"
    for name in ("gpu:0", "gpu:1"):
        with pytest.raises(DeviceError, match=r"NVIDIA GPU from compute capability 8\.0"):
            select_device(name, "bfloat16")
    assert select_device("auto") == select_device("gpu") == old
    assert select_device("gpu:2") == new
    assert select_device("cpu").name == "cpu"


@pytest.mark.skipif(sys.platform == "win32", reason="the fake program is a shell script")
@pytest.mark.parametrize(("says", "expected"), [("81000", 81000 << 20), ("[N/A]", None), ("", None)])
def test_the_free_memory_of_a_gpu_is_what_its_driver_says(monkeypatch, tmp_path, says, expected):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ntest \"$1\" = --id=1 && echo '{says}'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    gpu = Device("gpu:1", "card", True)
    assert free_memory(gpu) == (expected or pytest.approx(free_memory(select_device("cpu")), rel=0.2))


SMI = """#!/bin/sh
case "$2" in
    --query-gpu=memory.free) echo 1000 ;;
    --query-compute-apps=pid,used_memory) echo '77, 3000'; echo '78, 500' ;;
esac
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the fake program is a shell script")
@pytest.mark.parametrize(("worker", "mebibytes"), [(None, 1000), (0, 1000), (77, 4000), (79, 1000)])
def test_what_the_worker_holds_on_the_gpu_from_earlier_runs_can_be_used_again(monkeypatch, tmp_path, worker, mebibytes):
    program = tmp_path / "nvidia-smi"
    program.write_text(SMI)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    expected = int(devices.USABLE_SHARE * (mebibytes << 20))
    assert usable_memory(Device("gpu:0", "card"), worker=worker) == expected


def test_what_a_worker_holds_of_the_memory_can_be_used_again_and_one_that_is_not_there_needs_room_for_itself():
    cpu = Device("cpu", "CPU")
    with subprocess.Popen(
        [sys.executable, "-c", "x = bytearray(b'1') * (1200 << 20); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as worker:
        worker.stdout.readline()
        with_worker, without = usable_memory(cpu, worker=worker.pid), usable_memory(cpu, worker=0)
        worker.communicate(b"\n")
    # 1,200 MiB are held; what else this machine does meanwhile is less than a quarter of that.
    assert with_worker - without == pytest.approx(devices.USABLE_SHARE * (1200 << 20), rel=0.25)


def test_without_a_sign_of_a_gpu_the_devices_are_known_at_once(monkeypatch):
    monkeypatch.setattr(devices, "_may_have_gpu", lambda: False)
    (cpu,) = known_devices()
    assert cpu == list_devices()[-1]
    monkeypatch.setattr(devices, "_may_have_gpu", lambda: True)
    assert known_devices() is None


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": "1000000", "memory.current": "700000", "memory.stat": "anon 5\ninactive_file 100000"}, 400_000),
        ({"job/memory.max": "9000", "job/memory.current": "4000", "job/memory.stat": "anon 5"}, 5000),
        ({"memory.max": "max", "memory.current": "700000", "memory.stat": ""}, None),
        (
            {
                "memory/memory.limit_in_bytes": "500000",
                "memory/memory.usage_in_bytes": "600000",
                "memory/memory.stat": "cache 1",
            },
            0,
        ),
    ],
)
def test_the_limit_of_the_control_group_counts(monkeypatch, tmp_path, files, expected):
    monkeypatch.setattr(devices, "_CGROUPS", tmp_path)
    monkeypatch.setattr(devices, "_OWN_CGROUP", tmp_path / "own")
    (tmp_path / "own").write_text("1:cpu:/x\n0::/job/step\n")
    for folder in ("memory", "job/step"):
        (tmp_path / folder).mkdir(parents=True)
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    free = free_memory(Device("cpu", "CPU"))
    assert free == expected if expected is not None else free > 1 << 20


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("ResourceExhaustedError", "OOM when allocating tensor"),
        ("InternalError", "CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        ("UnknownError", "Out of memory while trying to allocate"),
        ("NotFoundError", "No algorithm worked! Error messages:"),
    ],
)
def test_every_way_to_run_out_of_memory_has_one_name(error, text):
    tf = runtime.load_tensorflow()
    with (
        pytest.raises(OutOfMemoryError, match="card has no memory left"),
        runtime.out_of_memory_named(tf, Device("gpu:0", "card")),
    ):
        raise getattr(tf.errors, error)(None, None, text)


def test_other_errors_of_the_device_keep_their_name():
    tf = runtime.load_tensorflow()
    with pytest.raises(tf.errors.InternalError), runtime.out_of_memory_named(tf, Device("gpu:0", "card")):
        raise tf.errors.InternalError(None, None, "illegal instruction")


def test_real_memory_that_cannot_be_had_is_out_of_memory():
    # 6 TiB for one tensor: more than the address space of the control group, refused by the allocator.
    model = random_model(blocks=0, filters=64)
    forward = Predictor(model, select_device("cpu"))
    tf = runtime.load_tensorflow()
    with pytest.raises(OutOfMemoryError), runtime.out_of_memory_named(tf, select_device("cpu")):
        tf.raw_ops.Empty(shape=[1 << 21, 1 << 20, 3], dtype=tf.uint8, init=False)
    assert forward(np.zeros((18, 18, 18, 1), np.float32), "logits").shape == (2, 2, 2, 2)


@pytest.mark.parametrize("shape", [(43, 44, 44), (20, 44, 44)])
def test_logits_refuse_an_image_that_does_not_fit(shape):
    with pytest.raises(SizeError, match="along z"):
        logits_of(random_model(), np.zeros(shape, np.float32))


def test_logits_refuse_an_image_that_is_not_three_dimensional():
    with pytest.raises(SizeError, match="not"):
        logits_of(random_model(), np.zeros((44, 44), np.float32))
