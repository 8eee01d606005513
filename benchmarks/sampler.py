"""Which share of its time does training wait for augmented patches?

    python benchmarks/sampler.py [--steps 40]

The steps are simulated: asleep, as while a GPU works, or busy on both cores, as without one. The first patches, which
every training waits for, are not counted. A patch is a cube with the labels of the box that the network gives,
augmented as "isotropic light microscopy" does, with every part always applied for "everything".
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable

import numpy as np

from napari_unet3d.core.augment.choices import AugmentSpec
from napari_unet3d.core.augment.draw import PatchFrame
from napari_unet3d.core.augment.presets import preset
from napari_unet3d.core.augment.sampler import PatchSampler, PatchSource

HALO, AHEAD, AT_MOST = 44, 4, 0.02


def asleep(seconds: float) -> None:
    """Leave the cores alone."""
    time.sleep(seconds)


def busy(seconds: float) -> None:
    """Multiply matrices on both cores for as many processor seconds."""
    a = np.random.default_rng(0).random((384, 384), np.float32)

    def work() -> None:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            a @ a

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def everything(spec: AugmentSpec) -> AugmentSpec:
    """Return a spec whose parts that may happen always happen."""
    parts = {name: getattr(spec, name) for name in type(spec).model_fields}
    always = {
        name: part.model_copy(update={"probability": 1.0})
        for name, part in parts.items()
        if getattr(part, "probability", 0) > 0
    }
    return spec.model_copy(update=always)


def share(spec: AugmentSpec, size: int, threads: int, step: Callable[[float], None], seconds: float, n: int) -> str:
    """Return one line: the share of the time of n steps that was waited."""
    image = np.random.default_rng(0).integers(0, 4096, (256,) * 3, np.uint16)
    labels = (image > 2048).astype(np.uint8)
    frame = PatchFrame(shape=(size,) * 3, halo=HALO)
    source = PatchSource(image, labels, spec, frame)
    with PatchSampler(source, threads=threads, ahead=AHEAD) as patches:
        for _ in range(AHEAD):
            next(patches)
            step(seconds)
        waited, begun = patches.waited, time.perf_counter()
        for _ in range(n):
            next(patches)
            step(seconds)
        lasted = time.perf_counter() - begun
        part = (patches.waited - waited) / lasted
    verdict = "reached" if part < AT_MOST else "NOT REACHED"
    return f"waits {part:.2%} (a step {lasted / n:.2f} s); below {AT_MOST:.0%}: {verdict}"


def main() -> None:
    """Print a line a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    steps = parser.parse_args().steps
    gentle = preset("isotropic light microscopy")
    for name, spec in (("isotropic light microscopy", gentle), ("everything", everything(gentle))):
        for size, threads, step, seconds in (
            (132, 1, asleep, 0.15),
            (132, 1, asleep, 1.5),
            (132, 1, busy, 0.15),
            (132, 1, busy, 1.5),
            (220, 2, asleep, 0.15),
            (220, 2, asleep, 1.5),
            (220, 1, busy, 1.5),
        ):
            n = steps if seconds < 1 else max(steps // 4, 4)
            print(
                f"{name}, {size} cube, {threads} thread{'s' * (threads > 1)}, {step.__name__} for {seconds} s: "
                f"{share(spec, size, threads, step, seconds, n)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
