"""What is called later is let go of with whoever asked for it, whichever binding of Qt there is."""

from __future__ import annotations

import gc
import weakref
from threading import Event

import pytest
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication, QWidget

from napari_unet3d.widgets.host.aside import Aside, Every, Later

LONG_MS = 60_000


class Asker:
    """Holds what calls it back, as parts of the window do."""

    def __init__(self, parent: QWidget | None) -> None:
        self.n_calls = 0
        self.later = Later(lambda: self.called(), 1, parent)
        self.aside = Aside(parent)
        self.every = None if parent is None else Every(self.called, 1, parent)

    def called(self, *_: object) -> None:
        self.n_calls += 1


def wait_for_calls(qtbot, asker: Asker) -> None:
    qtbot.waitUntil(lambda: asker.n_calls >= 2, timeout=LONG_MS)


@pytest.mark.parametrize("has_parent", [True, False])
def test_who_asked_is_freed_with_the_timers_and_hears_nothing_after(qtbot, has_parent):
    parent = QWidget() if has_parent else None
    asker = Asker(parent)
    asker.later()
    asker.aside(int, take=asker.called)
    wait_for_calls(qtbot, asker)
    freed = weakref.ref(asker)
    if parent is not None:
        parent.deleteLater()
        del parent
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    del asker
    gc.collect()
    assert freed() is None


def test_again_and_again_is_as_long_as_somebody_holds_it(qtbot):
    parent, calls, others = QWidget(), [], []
    qtbot.addWidget(parent)
    every, other = Every(lambda: calls.append(1), 1, parent), Every(lambda: others.append(1), 1, parent)
    qtbot.waitUntil(lambda: len(calls) > 2, timeout=LONG_MS)
    del every
    gc.collect()
    n, until = len(calls), len(others) + 20
    qtbot.waitUntil(lambda: len(others) > until, timeout=LONG_MS)
    assert len(calls) == n
    del other


def test_one_that_is_let_go_of_while_its_thread_works_is_not_called_back(qtbot):
    goes_on, ended, taken = Event(), Event(), []

    def work() -> int:
        goes_on.wait(60)
        ended.set()
        return 1

    aside = Aside()
    freed = weakref.ref(aside)
    aside(work, take=taken.append)
    del aside
    gc.collect()
    # Not in the thread: a timer that ends there takes the program with it.
    assert freed() is None
    goes_on.set()
    qtbot.waitUntil(ended.is_set, timeout=LONG_MS)
    other = Aside()
    other(int, take=lambda _: taken.append("other"))
    qtbot.waitUntil(lambda: bool(taken), timeout=LONG_MS)
    assert taken == ["other"]
