"""How long until the program answers, and does it load what it does not need?

    python benchmarks/startup.py

Whole processes: the help of the program, and importing the package. Then which heavy libraries are loaded.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from contest import clean_environment

ROUNDS = 10
TARGET = 0.5
HEAVY = ("keras", "tensorflow", "napari", "qtpy")
PROGRAM = str(Path(sysconfig.get_path("scripts")) / "napari-unet3d")
COMMANDS = {
    "napari-unet3d --help": [PROGRAM, "--help"],
    "import napari_unet3d": [sys.executable, "-c", "import napari_unet3d"],
}
# The program ends with SystemExit; what it has loaded is known only afterwards.
LOADED = {
    "napari-unet3d --help": "import sys; sys.argv = ['napari-unet3d', '--help']\n"
    "from napari_unet3d.cli import main\n"
    "try: main()\n"
    "except SystemExit: pass\n",
    "import napari_unet3d": "import sys, napari_unet3d\n",
}


def seconds(command: list[str]) -> float:
    """Return the time of a whole process."""
    begun = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=clean_environment())
    return time.perf_counter() - begun


def loaded(program: str) -> list[str]:
    """Return the heavy libraries that are loaded after a program has run."""
    program += f"print('loaded:', *(name for name in {HEAVY!r} if name in sys.modules))"
    answer = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True).stdout
    return answer.splitlines()[-1].split()[1:]


def main() -> int:
    """Print one line a command."""
    failed = False
    for name, command in COMMANDS.items():
        seconds(command)
        times = [seconds(command) for _ in range(ROUNDS)]
        heavy = loaded(LOADED[name])
        reached = statistics.median(times) < TARGET and not heavy
        failed = failed or not reached
        print(
            f"startup, {name}: {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f} over {ROUNDS} "
            f"runs), below {TARGET} s and nothing heavy loaded: {'reached' if reached else 'NOT REACHED'} "
            f"(loaded: {', '.join(heavy) or 'none'})",
            flush=True,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
