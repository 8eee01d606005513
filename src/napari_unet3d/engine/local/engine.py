"""The local engine: one worker process on this machine, and the jobs that wait for it.

The process starts with the first job, stays warm, and ends when nothing has come for a while, on `end`, and with this
program. A thread of this process talks to it; no method here waits for the worker.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal

import psutil
from appose.service import ResponseType, Service, TaskEvent
from platformdirs import user_log_path

from napari_unet3d.engine.base import Engine, Run
from napari_unet3d.engine.local import wire
from napari_unet3d.engine.local.appose_patches import is_heard, process_of
from napari_unet3d.engine.local.loans import Loans
from napari_unet3d.engine.local.run import LocalRun
from napari_unet3d.engine.local.worker import KEEPS_PRIORITY
from napari_unet3d.errors import EngineError, OutputError, Unet3dError, VolumeError, shown
from napari_unet3d.logs import log_file, new_log
from napari_unet3d.network.machine.devices import Device
from napari_unet3d.tasks.jobs.kinds import AnyJob, result_from_json
from napari_unet3d.tasks.jobs.warm import WarmResult

IDLE_SECONDS = 900.0
_RUN_SCRIPT = "from napari_unet3d.engine.local import remote\nremote.run(task, job, arrays)"
_DELIVER_SCRIPT = "from napari_unet3d.engine.local import remote\nremote.deliver(number, block, error)"
_SECONDS_BETWEEN_LOOKS = 0.5

EngineState = Literal["off", "starting", "ready", "busy"]


class LocalEngine(Engine):
    """Runs jobs in a worker process, one at a time, in the order in which they come.

    Parameters
    ----------
    idle_seconds
        The worker ends after this time without a job.
    log
        Log file of the worker; None is a file in the user's log folder. Where it cannot be
        written, it is another one once the worker has started.
    gives_way
        The worker takes what other programs leave of the processor, rather than its share.

    Attributes
    ----------
    queue
        The runs that have not begun, the next one first.
    running
        The run that is being carried out.
    devices
        What the worker has found when it was warmed, or None.
    """

    def __init__(self, *, idle_seconds: float = IDLE_SECONDS, log: Path | None = None, gives_way: bool = True) -> None:
        self.idle_seconds = idle_seconds
        self.log = (log or user_log_path("napari-unet3d", appauthor=False) / f"worker-{os.getpid()}.log").absolute()
        self._gives_way = gives_way
        self.queue: list[LocalRun] = []
        self.running: LocalRun | None = None
        self.devices: list[Device] | None = None
        self.loans = Loans()
        self._service: Service | None = None
        self._is_ready = False
        self._lock = threading.RLock()
        self._wake = threading.Condition(self._lock)
        self._messages: SimpleQueue[TaskEvent | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._leaving: threading.Thread | None = None

    @property
    def state(self) -> EngineState:
        """Return what the worker does: `off`, `starting`, `ready`, `busy`."""
        with self._lock:
            if self._service is None or not self._service.is_alive():
                return "starting" if self.queue or self.running is not None else "off"
            if not self._is_ready:
                return "starting"
            return "busy" if self.running is not None else "ready"

    @property
    def pid(self) -> int | None:
        """Return the number of the worker process, or None."""
        with self._lock:
            process = None if self._service is None else process_of(self._service)
            return None if process is None else int(process.pid)

    @property
    def used_bytes(self) -> int:
        """Return the memory that the worker holds, in bytes."""
        try:
            return 0 if (pid := self.pid) is None else int(psutil.Process(pid).memory_info().rss)
        except psutil.Error:
            return 0

    def submit(self, job: AnyJob, arrays: Mapping[str, Any] | None = None) -> LocalRun:
        """Queue a job and return at once.

        Parameters
        ----------
        job
            What is to be done.
        arrays
            What it reads and writes, by name; see `LocalRun`.
        """
        run = LocalRun(job, arrays or {}, self._cancel)
        with self._wake:
            self.queue.append(run)
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="unet3d-engine", daemon=True)
                self._thread.start()
                # Appose's threads keep Python alive while the worker lives; this one outlasts the main thread.
                threading.Thread(target=self._end_with_program, name="unet3d-exit", daemon=True).start()
            self._wake.notify()
        return run

    def end(self) -> None:
        """End the worker, which gives its memory back; a run under way is stopped, the queue is emptied."""
        with self._lock:
            waiting, self.queue = self.queue, []
            for run in waiting:
                run.end("stopped")
            if self.running is not None:
                self.running.is_given_up = True
            if self._service is not None and self._service.is_alive():
                self._service.kill()
            if self.running is None:
                self._forget_service()

    def end_softly(self, seconds: float) -> None:
        """End the worker when the run under way has stopped and kept what it has, or after so long. Returns at once.

        Python does not exit before that. Where there is other work by then, the worker stays.
        """
        run = self.running
        if run is None:
            self.end()
            return
        run.cancel()

        def leave() -> None:
            if not run.has_ended.wait(seconds):
                self.stop_now(run)
            with self._lock:
                if self.running in (None, run) and not self.queue:
                    self.end()

        self._leaving = threading.Thread(target=leave, name="unet3d-leave")
        self._leaving.start()

    def stop_now(self, run: Run) -> None:
        """Stop a run at once: withdraw it if it waits, end the worker if it is carried out. Others go on after it."""
        with self._lock:
            if run is not self.running:
                self._cancel(run)
            elif self._service is not None and self._service.is_alive():
                run.is_given_up = True
                self._service.kill()

    def n_before(self, run: Run) -> int:
        """Return how many jobs the worker does before this one."""
        with self._lock:
            return self.queue.index(run) + (self.running is not None) if run in self.queue else 0

    def _cancel(self, run: Run) -> None:
        with self._lock:
            if run in self.queue:
                self.queue.remove(run)
                run.end("stopped")
            elif run is self.running:
                # The pipe is written by one thread only.
                self._messages.put(None)

    def _end_with_program(self) -> None:
        threading.main_thread().join()
        if self._leaving is not None:
            self._leaving.join()
        self.end()

    def _loop(self) -> None:
        while True:
            with self._wake:
                if not self.queue and not self._wake.wait_for(lambda: bool(self.queue), self.idle_seconds):
                    self.end()
                    continue
                run = self.running = self.queue.pop(0)
            try:
                self._carry_out(run)
                if run.state == "queued":
                    # The worker had died just before: with a new one.
                    self._carry_out(run, is_last_try=True)
            except Unet3dError as error:
                run.end("failed", error=error)
            except BaseException as error:  # noqa: BLE001 - a run that never ends would leave its button disabled
                run.end("failed", error=EngineError(f"The worker could not be used: {error}", traceback.format_exc()))
                # It may wait for an answer that does not come any more.
                self._kill()
            finally:
                self.loans.free_all()
                with self._lock:
                    self.running = None
                    if self._service is None or not self._service.is_alive():
                        self._forget_service()

    def _kill(self) -> None:
        with self._lock:
            if self._service is not None and self._service.is_alive():
                self._service.kill()
                self._service.wait_for()

    def _forget_service(self) -> None:
        service, self._service, self._is_ready = self._service, None, False
        process = None if service is None else process_of(service)
        if service is not None and process is not None:
            # Its threads end with the process; the pipes are left to us.
            service.wait_for()
            for pipe in (process.stdin, process.stdout, process.stderr):
                with contextlib.suppress(OSError):
                    pipe.close()

    def _carry_out(self, run: LocalRun, *, is_last_try: bool = False) -> None:
        """Run one job to its end, or leave it queued if the worker is gone before the job has reached it."""
        messages: SimpleQueue[TaskEvent | None] = SimpleQueue()
        self._messages = messages
        service = self._start_service()
        if run.wants_stop.is_set() or run.is_given_up:
            return run.end("stopped")
        inputs = {"job": run.job.model_dump_json(), "arrays": _described(run.arrays)}
        task = service.task(_RUN_SCRIPT, inputs).listen(messages.put)
        refused: Unet3dError | None = None
        try:
            task.start()
        except (OSError, ValueError):
            return self._end_of(run, service, is_last_try=is_last_try)
        while True:
            try:
                message = messages.get(timeout=_SECONDS_BETWEEN_LOOKS)
            except Empty:
                # A task that was given to a process just as it died is never told of it.
                if service.is_alive():
                    self._check_heard(service)
                    continue
                return self._end_of(run, service, is_last_try=is_last_try)
            if message is None:
                self._ask(service, task.cancel)
                continue
            match message.response_type:
                case ResponseType.LAUNCH:
                    self._is_ready = True
                    run.state = "running"
                case ResponseType.UPDATE:
                    try:
                        self._take(service, run, message.info or {})
                    except OutputError as error:
                        refused = error
                        self._ask(service, task.cancel)
                case ResponseType.COMPLETION:
                    return self._finish(run, task.outputs, refused)
                case ResponseType.FAILURE:
                    if message.task is not task:
                        # A box was not taken, and whoever waits for it would wait for ever.
                        self._kill()
                    raise EngineError(
                        f"The worker hit an unexpected error. Its log is {shown(self.log)}",
                        message.task.error or "",
                    )
                case ResponseType.CRASH:
                    return self._end_of(run, service, is_last_try=is_last_try)

    def _check_heard(self, service: Service) -> None:
        """Give a worker up that nobody listens to any more: what it said could not be read."""
        if is_heard(service):
            return
        self._kill()
        raise EngineError(
            "The worker process sent a message that cannot be read, and was ended. Start begins a new one. "
            f"Its log is {shown(self.log)}",
            self._read_log(),
        )

    def _read_log(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-4000:] if os.path.isfile(self.log) else ""

    def _start_service(self) -> Service:
        with self._lock:
            if self._service is not None and self._service.is_alive():
                if is_heard(self._service):
                    return self._service
                self._service.kill()
            self._forget_service()
            try:
                new_log(self.log)
            except OSError:
                with contextlib.suppress(OSError):  # then there is none
                    self.log = log_file(self.log.name)
            # -P: a file numpy.py in the current folder is not imported.
            words = [sys.executable, "-P", "-m", "napari_unet3d.engine.local.worker", str(self.log), str(os.getpid())]
            if not self._gives_way:
                words.append(KEEPS_PRIORITY)
            # Not in the current folder, which may be gone.
            folder = self.log.parent if self.log.parent.is_dir() else Path(sys.prefix)
            self._service = Service(folder, None, *words).start()
            return self._service

    def _take(self, service: Service, run: LocalRun, info: dict[str, Any]) -> None:
        """Do what a message from the worker asks for."""
        match info["kind"]:
            case wire.EVENT:
                run.put(wire.event_from_wire(info))
            case wire.WRITTEN:
                try:
                    self.loans.empty(info["number"])
                except BaseException as failure:
                    raise _name_failure(failure, "result", OutputError) from failure
            case wire.READ | wire.WRITE:
                number, block, error = info["number"], None, None
                box = tuple(slice(start, stop) for start, stop in info["box"])
                try:
                    block = self.loans.lend(number, run.arrays[info["array"]], box, fill=info["kind"] == wire.READ)
                except BaseException as failure:  # noqa: BLE001 - arrays of other plugins raise what they like
                    error = wire.error_to_wire(_name_failure(failure, info["array"], VolumeError))
                inputs = {"number": number, "block": block, "error": error}
                delivery = service.task(_DELIVER_SCRIPT, inputs)
                is_read, messages = info["kind"] == wire.READ, self._messages
                delivery.listen(lambda event: self._on_block_taken(event, number, is_read, messages))
                self._ask(service, delivery.start)

    def _on_block_taken(
        self, event: TaskEvent, number: int, is_read: bool, messages: SimpleQueue[TaskEvent | None]
    ) -> None:
        """Free the block that was read; in a thread of Appose."""
        if is_read and event.response_type.is_terminal():
            self.loans.free(number)
        if event.response_type is ResponseType.FAILURE:
            messages.put(event)

    def _ask(self, service: Service, request: Any) -> None:
        try:
            request()
        except (OSError, ValueError) as error:
            raise self._explain_end(service) from error

    def _finish(self, run: LocalRun, outputs: dict[str, Any], refused: Unet3dError | None) -> None:
        if refused is not None:
            run.end("failed", error=refused)
        elif "error" in outputs:
            run.end("failed", error=wire.error_from_wire(outputs["error"]))
        elif "stopped" in outputs:
            run.end("stopped")
        else:
            result = result_from_json(outputs["result"])
            if isinstance(result, WarmResult):
                self.devices = list(result.devices)
            run.end("done", result=result)

    def _end_of(self, run: LocalRun, service: Service, *, is_last_try: bool) -> None:
        if run.is_given_up:
            run.end("stopped")
        elif run.state == "running" or is_last_try:
            run.end("failed", error=self._explain_end(service))

    def _explain_end(self, service: Service) -> EngineError:
        process = process_of(service)
        code = None if process is None else process.wait()
        return EngineError(
            f"The worker process ended: {_why(code)}. What was done is kept, and Start begins a new one. "
            f"Its log is {self.log}",
            self._read_log() or "\n".join(service.error_lines()),
        )


def _why(code: int | None) -> str:
    if code is not None and code < 0:
        if -code == 9:
            return "it was killed, as the system does when memory runs out"
        return f"it was ended by signal {-code}"
    return f"exit status {code}"


def _name_failure(failure: BaseException, array: str, kind: type[Unet3dError]) -> Unet3dError:
    if isinstance(failure, Unet3dError):
        return failure
    try:
        said = str(failure)
    except Exception:  # noqa: BLE001 - an error of another plugin, which may have one itself
        said = "it does not say why"
    return kind(f"The {array} cannot be reached: {type(failure).__name__}: {said}")


def _described(arrays: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return shape and type of arrays; those of other plugins raise what they like."""
    found: dict[str, list[Any]] = {}
    for name, array in arrays.items():
        try:
            found[name] = [[int(n) for n in array.shape], array.dtype.str]
        except Exception as failure:
            raise _name_failure(failure, name, VolumeError) from failure
    return found
