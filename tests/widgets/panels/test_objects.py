"""Numbered objects are listed, and a click on a row goes there."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.objects.clean_up import Cleanup
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.widgets.panels.segment.tab import SegmentPanel

LONG_MS = 120_000
VOLUME = np.random.default_rng(0).integers(0, 3000, (40, 61, 92)).astype(np.uint16)
PLACE = {"scale": (0.3, 0.2, 0.1), "translate": (5, 6, 7), "units": ("um",) * 3}
SPEC = PredictSpec(
    region=Box((4, 40), (3, 60), (2, 90)),
    device="cpu",
    cleanup=Cleanup(high=0.62, low=0.62, min_voxels=4, instances=True, connectivity=6),
)


@pytest.fixture(params=["memory", ".zarr", ".tif"])
def panel(qtbot, session, viewer, models_folder, tmp_path, request):
    panel = SegmentPanel(session)
    qtbot.addWidget(panel.native)
    session.image = viewer.add_image(VOLUME, **PLACE)
    session.choose_model(models_folder / "small.unet3d")
    panel.form.spec = SPEC
    if request.param != "memory":
        panel.form.place.value = tmp_path / f"result{request.param}"
    panel.update_plan()
    assert panel.objects.native.isHidden()
    panel.start.native.click()
    qtbot.waitUntil(lambda: not session.segmentation.is_active, timeout=LONG_MS)
    assert session.segmentation.state == "done", session.segmentation.error
    return panel


def test_every_object_has_a_row_and_a_click_goes_there(panel, session, viewer, tmp_path, monkeypatch):
    run = session.segmentation
    labels = np.asarray(run.layer.data[:, :, :])
    numbers, counts = np.unique(labels[labels > 0], return_counts=True)
    table = panel.objects.list
    assert not panel.objects.native.isHidden()
    assert panel.objects._text.value == f"{len(numbers):,} objects"
    model = table.model()
    assert model.rowCount() == len(numbers) > 3

    def cell(row, column):
        return model.data(model.index(row, column), Qt.ItemDataRole.DisplayRole)

    shown = {int(cell(row, 0).replace(",", "")): int(cell(row, 2).replace(",", "")) for row in range(len(numbers))}
    assert shown == dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    # The largest comes first, and another title sorts again.
    assert int(cell(0, 2).replace(",", "")) == counts.max()
    assert float(cell(0, 3)) == pytest.approx(counts.max() * 0.3 * 0.2 * 0.1, rel=1e-3)
    table.sortByColumn(0, Qt.SortOrder.AscendingOrder)
    assert cell(0, 0) == "1"
    table.selectRow(2)
    assert run.layer.selected_label == 3
    centre = np.argwhere(labels == 3).mean(axis=0)
    np.testing.assert_allclose(viewer.dims.point, run.layer.data_to_world(centre), atol=0.16)
    np.testing.assert_allclose(viewer.scene.camera.center[1:], run.layer.data_to_world(centre)[1:], atol=1e-3)
    # Sorted otherwise, the same object is the selected one.
    table.sortByColumn(2, Qt.SortOrder.DescendingOrder)
    (row,) = {index.row() for index in table.selectionModel().selectedRows()}
    assert cell(row, 0) == "3"
    # What napari shows of the label under the mouse.
    features = run.layer.features.set_index("index")
    assert features.loc[3, "voxels"] == shown[3]
    saved = tmp_path / "objects.csv"
    monkeypatch.setattr("qtpy.QtWidgets.QFileDialog.getSaveFileName", lambda *_, **__: (str(saved), "Table (*.csv)"))
    panel.objects.save.native.click()
    with saved.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {int(row["id"]): int(row["voxels"]) for row in rows} == shown
    assert float(rows[2]["centroid_x_um"]) == pytest.approx(7 + (2 + centre[2]) * 0.1, abs=1e-3)
    # With its layer the list goes.
    viewer.layers.remove(run.layer)
    panel.update_state()
    assert panel.objects.native.isHidden()
