"""Files and folders are there whole, under their name, whatever interrupts whoever writes them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from napari_unet3d import atomic, processes, renames, small_files, stopping
from napari_unet3d.errors import OutputError, visible

_REPLACES = """
import os, signal, sys
from pathlib import Path
from napari_unet3d import atomic
folder, number, fails = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
if fails:
    atomic.exchange = lambda *_: False
target = folder / "target"
partial = atomic.claim_partial(target)
partial.mkdir()
(partial / "new").write_text("")
calls = 0
def seen(event, arguments):
    global calls
    if event in ("os.rename", "os.rmdir", "shutil.rmtree", "os.remove"):
        calls += 1
        if calls == int(sys.argv[4]):
            os.kill(os.getpid(), number)
sys.addaudithook(seen)
try:
    atomic.put_in_place(partial, target, overwrite=True)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
@pytest.mark.parametrize("at", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
@pytest.mark.parametrize("has_exchange", [True, False])
def test_a_folder_that_is_replaced_is_old_or_new_whenever_a_signal_comes(tmp_path, has_exchange, name, at):
    target = tmp_path / "target"
    target.mkdir()
    (target / "old").write_text("")
    number = getattr(signal, name)
    words = [sys.executable, "-c", _REPLACES, tmp_path, str(int(number)), str(not has_exchange), str(at)]
    ended = subprocess.run(
        words, check=False, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler)
    )
    if has_exchange or name == "SIGINT":
        assert os.listdir(target) in (["old"], ["new"])
    if name == "SIGINT":
        assert ended.returncode in (0, 130)
        assert os.listdir(tmp_path) == ["target"]
    atomic.tidy(target)
    assert os.listdir(tmp_path) == ["target"]
    assert os.listdir(target) in (["old"], ["new"])


def test_where_folders_cannot_swap_their_names_the_old_one_comes_back_after_a_failure(tmp_path, monkeypatch):
    target, partial = tmp_path / "target", tmp_path / "partial"
    for folder in (target, partial):
        folder.mkdir()
        (folder / folder.name).write_text("")
    rename = os.rename

    def fails_once(source, name):
        if source == partial:
            raise OSError(5, "Input/output error")
        rename(source, name)

    monkeypatch.setattr(atomic, "exchange", lambda *_: False)
    monkeypatch.setattr(os, "rename", fails_once)
    with pytest.raises(OSError, match="Input/output"):
        atomic.put_in_place(partial, target, overwrite=True)
    assert os.listdir(target) == ["target"]


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_folder_that_cannot_be_synced_is_no_failure_of_what_lies_in_it(tmp_path, monkeypatch, overwrite, is_there):
    def fails(folder):
        raise OSError(5, "Input/output error")

    target = tmp_path / "a.txt"
    partial = atomic.claim_partial(target)
    partial.write_text("new")
    if is_there:
        target.write_text("old")
    monkeypatch.setattr(atomic, "sync_folder", fails)
    if is_there and not overwrite:
        with pytest.raises(OutputError, match=r"The finished result is .*a-1\.txt"):
            atomic.put_in_place(partial, target, overwrite=False)
        target = tmp_path / "a-1.txt"
    else:
        atomic.put_in_place(partial, target, overwrite=overwrite)
    assert target.read_text() == "new"
    assert atomic.claim_partial(tmp_path / "a.txt") == partial
    atomic.release_partial(partial)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows shows all processes")
def test_a_process_that_is_not_shown_is_running_and_one_that_has_ended_is_not(tmp_path, monkeypatch):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        (tmp_path / "self").mkdir()
        with monkeypatch.context() as patch:
            # As Linux does with hidepid=2: of others there is not even a folder.
            patch.setattr(processes, "_PROCESSES", tmp_path)
            patch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
            assert all(processes.is_running(pid, start) for pid in (1, other.pid) for start in (None, 5))
        assert processes.is_running(other.pid, None)
        assert not processes.is_running(other.pid, 5)
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        # A zombie: its number is still taken.
        assert not processes.is_running(other.pid, None)
    assert not any(processes.is_running(pid, None) for pid in (other.pid, 0, -1, 1 << 40, 10**30))


def test_names_are_swapped_and_nothing_is_replaced_by_a_new_name(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.write_text("a file")
    if renames.exchange(one, other):
        assert one.is_file()
        assert other.is_dir()
    with pytest.raises(FileExistsError):
        renames.rename_new(one, other)
    renames.rename_new(one, tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["new", "other"]


def test_a_signal_waits_for_the_end_of_what_must_not_be_interrupted():
    done = []

    def work():
        with stopping.defer_signals():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            done.append("kept")
        done.append("not reached")

    with stopping.answer_signals(signal.default_int_handler), pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["kept"]


def test_a_file_that_is_nearly_all_hole_or_a_pipe_is_not_read(tmp_path):
    sparse, pipe = tmp_path / "sparse.json", tmp_path / "pipe.json"
    with open(sparse, "wb") as file:
        file.truncate(2 << 30)
    with pytest.raises(OSError, match="larger than"):
        small_files.read_small(sparse)
    if hasattr(os, "mkfifo"):
        os.mkfifo(pipe)
        with pytest.raises(OSError, match="a pipe, a device or a folder, not a file"):
            small_files.read_small(pipe)


def test_json_that_is_nested_too_deep_or_no_json_is_one_kind_of_error(tmp_path):
    for content in (b"[" * 200_000, b"\xff{}", b"", b'{"a": '):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(ValueError):  # noqa: PT011 - its words are those of the library
            small_files.read_json(tmp_path / "a.json")


def test_a_file_that_is_there_is_not_written_a_second_time_beside_itself(tmp_path):
    atomic.write_text(tmp_path / "a.txt", "old")
    with pytest.raises(OutputError, match="exists already"):
        atomic.write_text(tmp_path / "a.txt", "new")
    assert os.listdir(tmp_path) == ["a.txt"]


def test_what_steers_a_terminal_or_the_order_of_letters_is_spelled_out_and_the_rest_is_kept():
    kept = "µm, \u00a0größer, 日本, नमस्ते\u200d, 👩\u200d🔬\n\tnext"
    assert visible(kept) == kept
    hostile = [*map(chr, (*range(9), *range(11, 32), *range(127, 160)))]
    hostile += [*"\u200e\u200f\u202a\u202e\u2066\u2069\u2028\ufeff\udc80"]
    for character in hostile:
        assert visible(f"a{character}b").isprintable()
