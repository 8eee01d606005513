"""Appose's private places are looked at again with every new version."""

from __future__ import annotations

import io
from importlib.metadata import version
from pathlib import Path

from appose import python_worker
from appose.service import Service
from packaging.version import Version

from napari_unet3d.engine.local import appose_patches


def test_this_version_of_appose_was_looked_at():
    installed = version("appose")
    first, below = map(Version, appose_patches.TESTED)
    assert first <= Version(installed) < below, (
        f"Appose {installed} is not among the versions that were tried. Look in its python_worker at how `print`, "
        "`ast.parse`, `Worker._process_input` and `Worker._cleanup_threads` are used, and in its service at "
        "`Service._process` and `Service._stdout_thread`; compare with engine/local/appose_patches.py, run "
        "tests/engine, and raise TESTED there."
    )


def test_what_is_changed_is_there():
    assert callable(python_worker.Worker._process_input)
    assert callable(python_worker.Worker._cleanup_threads)
    source = Path(python_worker.__file__).read_text(encoding="utf-8")
    assert "print(message.encode(response), flush=True)" in source
    assert "ast.parse(" in source
    service = Service(".", None, "python")
    assert appose_patches.process_of(service) is None
    assert appose_patches.is_heard(service)


def test_a_message_is_one_write():
    written = []

    class Pipe(io.StringIO):
        def write(self, text):
            written.append(text)
            return len(text)

    appose_patches.whole_lines(Pipe())("said", flush=True)
    assert written == ["said\n"]


def test_the_thread_that_forgets_tasks_goes_on_after_a_change_under_its_hands():
    class Worker:
        running, n = True, 0

    def clean(worker):
        worker.n += 1
        worker.running = worker.n < 3
        raise RuntimeError("dictionary changed size during iteration")

    worker = Worker()
    appose_patches.never_tired(clean)(worker)
    assert worker.n == 3
