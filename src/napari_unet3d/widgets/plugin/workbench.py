"""The dock widget, "Workbench (3D U-Net)": a strip that shows the engine, and below it a tab for each step."""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer
from qtpy.QtWidgets import QHBoxLayout, QMainWindow, QPushButton, QScrollArea, QTabWidget, QVBoxLayout, QWidget

from napari_unet3d.errors import visible
from napari_unet3d.widgets.bricks import panel
from napari_unet3d.widgets.bricks.captions import align_captions, name_controls
from napari_unet3d.widgets.bricks.panel import MIN_WIDTH, PANEL_WIDTH, is_alive
from napari_unet3d.widgets.host.notices import notify
from napari_unet3d.widgets.host.plain import disable_markup, plain_label
from napari_unet3d.widgets.layers.warming import warm_labels
from napari_unet3d.widgets.panels.augment.tab import AugmentPanel
from napari_unet3d.widgets.panels.data.tab import DataPanel
from napari_unet3d.widgets.panels.segment.tab import SegmentPanel
from napari_unet3d.widgets.panels.sizes.tab import SizesPanel
from napari_unet3d.widgets.panels.train.tab import TrainPanel
from napari_unet3d.widgets.plugin.remembered import Remembered
from napari_unet3d.widgets.plugin.shortcuts import listen_to_keys
from napari_unet3d.widgets.runs.project_opening import GoneOn
from napari_unet3d.widgets.runs.session import Session, end_session, session_of
from napari_unet3d.words import amount

_STRIP_MS = 500
_DOTS = {"off": "#797e87", "starting": "#d58512", "ready": "#2fa84f", "busy": "#1f6fd0"}
_SAYS = {"off": "not started", "starting": "starting", "ready": "ready", "busy": "computing"}


class Workbench(QWidget):
    """The 3D U-Net workbench in napari.

    Parameters
    ----------
    napari_viewer
        The viewer. It must have this name: napari does not recognise the annotation, quoted as it is here.

    Attributes
    ----------
    data, train, segment, sizes, augment
        The panels.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.session = session = session_of(napari_viewer)
        self.strip = EngineStrip(session, self)
        self.data, self.sizes = DataPanel(session), SizesPanel(session)
        self.augment, self.segment = AugmentPanel(session), SegmentPanel(session)
        self.train = TrainPanel(session, lambda: self.show_tab("Segment"))
        self._tabs = QTabWidget()
        # As the work goes; the last two are tools.
        tabs = {"Data": self.data, "Train": self.train, "Segment": self.segment}
        tabs |= {"Sizes": self.sizes, "Augment": self.augment}
        for name, tab in tabs.items():
            self._tabs.addTab(_scrolling(tab.native), name)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2, 2, 2, 2)
        layout.addWidget(self.strip)
        layout.addWidget(self._tabs)
        # What was painted meanwhile is looked at when it is turned to.
        self._tabs.currentChanged.connect(lambda index: self._on_tab(self._tabs.tabText(index)))
        self.remembered = Remembered(session, self._tabs, self.train.form, self.segment.form)
        panel.listen(self.data, session.project.gone_on, self._on_gone_on)
        panel.listen(self.data, session.project.flushing, self.remembered.keep)
        panel.listen(self.data, session.going_on, self._on_going_on)
        session.look_for_unfinished()
        if session.preferences.problem:
            notify(session.preferences.problem)
        listen_to_keys(self)
        # Less cuts off what the tabs say.
        self.setMinimumWidth(MIN_WIDTH)
        QTimer.singleShot(0, warm_labels)
        if session.preferences.warm_start:
            # After the widget is on the screen: starting a process takes a moment.
            QTimer.singleShot(0, session.warm)

    def sizeHint(self) -> QSize:
        """Return a width that leaves most of a small screen to the image."""
        return QSize(PANEL_WIDTH, 640)

    @property
    def tab(self) -> str:
        """Return the tab in front."""
        return str(self._tabs.tabText(self._tabs.currentIndex()))

    def show_tab(self, name: str) -> None:
        """Bring a tab to the front: "Data", "Train", "Segment", "Sizes" or "Augment"."""
        for index in range(self._tabs.count()):
            if self._tabs.tabText(index) == name:
                self._tabs.setCurrentIndex(index)

    def _on_gone_on(self, found: GoneOn) -> None:
        self.remembered.restore(found.settings)
        self.train.earlier.show_unfinished()

    def _on_going_on(self, _: Any) -> None:
        self.show_tab("Segment")

    def _on_tab(self, name: str) -> None:
        if name in ("Train", "Augment"):
            self.train.look()
        if name == "Augment":
            self.augment.follow_training(self.train.spec)

    def _finish_look(self) -> None:
        if not is_alive(self):
            return
        for tab in (self.data, self.sizes, self.augment, self.train, self.segment):
            align_captions(tab.native)
            name_controls(tab.native)

    def showEvent(self, event: Any) -> None:
        """Learn which window this is in, to end with it."""
        super().showEvent(event)
        window = self.window()
        # Once the theme has said how large the letters are.
        QTimer.singleShot(0, self._finish_look)
        if isinstance(window, QMainWindow):
            _CloseWatch.install(window, self.session.viewer)

    def changeEvent(self, event: Any) -> None:
        """End with the dock: napari takes this out of a dock that is closed, and makes another when it is wanted again.

        Python alone would not free it with PySide6, where it cannot see what the slots of a widget refer to.
        """
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.remembered.keep()
            self.data.help.release()
            self.deleteLater()


class EngineStrip(QWidget):
    """Says what the worker does, on which device, with how much memory; looks twice per second.

    Parameters
    ----------
    session
        What the panels of this window share.
    parent
        The workbench.
    """

    def __init__(self, session: Session, parent: QWidget) -> None:
        super().__init__(parent)
        self._session = session
        self._dot, self._text = plain_label("●"), plain_label()
        self._text.setMinimumWidth(1)
        self.free = QPushButton("Free memory")
        self.free.clicked.connect(self._on_free)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(4, 2, 4, 2)
        layout.setSpacing(4)
        layout.addWidget(self._dot)
        layout.addWidget(self._text, stretch=1)
        layout.addWidget(self.free)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.update_text)
        self._timer.start(_STRIP_MS)
        self.update_text()

    @property
    def text(self) -> str:
        """Return what it says."""
        return str(self._text.text())

    def update_text(self) -> None:
        """Look at the engine and say what it does."""
        session, engine = self._session, self._session.engine
        session.poll()
        state = engine.state
        self._dot.setStyleSheet(f"color: {_DOTS[state]};")
        waiting = f", {len(engine.queue)} waiting" if engine.queue and state == "busy" else ""
        parts = [f"{_SAYS[state]}{waiting}"]
        device = session.device()
        if device is not None:
            parts.append(device.label)
            if (memory := session.memory(device)) is not None:
                parts.append(f"{amount(memory.free)} free")
        self._text.setText(visible(session.problem or " | ".join(parts)))
        used = amount(engine.used_bytes)
        told = f"The worker computes in a process of its own. It uses {used} of memory; its log is {engine.log}"
        self._text.setToolTip(disable_markup(told))
        is_computing = state in ("busy", "starting")
        self.free.setEnabled(state == "ready")
        self.free.setToolTip(
            "The worker is busy. Cancel the run first."
            if is_computing
            else "End the worker and give its memory back; the next Start makes a new one."
        )

    def _on_free(self) -> None:
        self._session.engine.end()
        self._session.forget_memory()
        self.update_text()


class _CloseWatch(QObject):
    """Ends the session of a window when it is closed; the dock widget alone may close without that."""

    def __init__(self, window: QMainWindow, viewer: Any) -> None:
        super().__init__(window)
        self.setObjectName(_CloseWatch.__name__)
        self._viewer = viewer
        window.installEventFilter(self)

    @classmethod
    def install(cls, window: QMainWindow, viewer: Any) -> None:
        """Watch a window, once."""
        if window.findChild(QObject, cls.__name__) is None:
            cls(window, viewer)

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Look once the window has decided: it may ask, and stay open."""
        if event.type() == QEvent.Type.Close:
            session_of(self._viewer).project.flush(waits=False)
            # Not a method of this object, which goes with the window.
            window, viewer = weakref.ref(watched), weakref.ref(self._viewer)
            QTimer.singleShot(0, partial(_end_if_closed, window, viewer))
        return False


def _end_if_closed(window_ref: weakref.ref[QMainWindow], viewer_ref: weakref.ref[Any]) -> None:
    window, viewer = window_ref(), viewer_ref()
    is_open = window is not None and is_alive(window) and window.isVisible()
    if viewer is not None and not is_open:
        end_session(viewer)


def _scrolling(widget: QWidget) -> QScrollArea:
    area = QScrollArea()
    area.setWidget(widget)
    area.setWidgetResizable(True)
    area.setFrameShape(QScrollArea.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    return area
