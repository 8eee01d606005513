"""The project of an image is found again, beside it or at home, and belongs to that image alone."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime

import numpy as np
import pytest
import tifffile

from napari_unet3d.errors import OutputError, ProjectError
from napari_unet3d.tasks.projects.folder import Project, begin_project, find_projects
from napari_unet3d.tasks.projects.recent import recent_projects, remember_project
from napari_unet3d.tasks.projects.record import AnnotationRecord, ImageRecord, ProjectRecord
from napari_unet3d.volumes.paths import image_file

VOXELS = np.arange(40 * 50 * 60, dtype=np.uint16).reshape(40, 50, 60)


def find_project(image, homes):
    return next(iter(find_projects(image, homes)), None)


def record(path="", voxels=VOXELS, name="cells") -> ImageRecord:
    return ImageRecord.of(voxels, path=str(path), name=name)


def annotation(file="a.ome.zarr", day=1) -> AnnotationRecord:
    return AnnotationRecord(file=file, name="a", saved=datetime(2026, 11, day, tzinfo=UTC), voxels_painted=3)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "data" / "cells.tif"
    path.parent.mkdir()
    tifffile.imwrite(path, VOXELS)
    return path


def test_it_lies_beside_the_image_and_is_found_there(image, tmp_path):
    made = begin_project(record(image), [tmp_path / "home"])
    assert made.path == image.parent / "cells.tif.unet3d-project"
    made.update(lambda old: old.with_annotation(annotation()))
    found = find_project(record(image), [tmp_path / "home"])
    assert found is not None
    assert found.record == made.record
    # Another image of the same name is another image.
    assert find_project(record(image, VOXELS + 1), [tmp_path / "home"]) is None


def test_a_folder_that_was_moved_with_its_image_is_found(image, tmp_path):
    begin_project(record(image), []).release()
    moved = tmp_path / "moved"
    shutil.move(image.parent, moved)
    found = find_project(record(moved / "cells.tif"), [])
    assert found is not None
    assert found.path.parent == moved


def test_an_image_in_no_file_has_its_project_at_home(tmp_path):
    made = begin_project(record(), [tmp_path / "home"])
    assert made.path == tmp_path / "home" / "cells.unet3d-project"
    assert find_project(record(), [tmp_path / "home"]) is not None


@pytest.mark.skipif(not os.path.exists("/proc/version"), reason="every folder can be written to")
def test_where_the_folder_of_the_image_cannot_be_written_to_it_lies_at_home(tmp_path):
    assert begin_project(record("/proc/version"), [tmp_path]).path == tmp_path / "version.unet3d-project"


def test_where_nothing_can_be_written_that_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        begin_project(record(), [tmp_path / "file"])


def test_two_images_of_one_name_have_two_projects(tmp_path):
    first = begin_project(record(), [tmp_path])
    second = begin_project(record(voxels=VOXELS + 1), [tmp_path])
    assert first.path != second.path
    found = find_project(record(voxels=VOXELS + 1), [tmp_path])
    assert found is not None
    assert found.path == second.path


def test_one_window_at_a_time_has_it(tmp_path):
    made = begin_project(record(), [tmp_path])
    other = Project.open(made.path)
    assert not other.take()
    made.release()
    assert other.take()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "may be damaged"),
        (b"[]", "may be damaged"),
        (b'{"format_version": 99}', "format version 99; this program reads up to 1"),
        (b'{"image": 3}', "may be damaged"),
    ],
)
def test_what_cannot_be_read_is_refused_and_left_alone(tmp_path, content, reason):
    made = begin_project(record(), [tmp_path])
    made.release()
    (made.path / "project.json").write_bytes(content)
    with pytest.raises(ProjectError, match=reason):
        Project.open(made.path)
    assert find_project(record(), [tmp_path]) is None
    assert begin_project(record(), [tmp_path]).path != made.path
    assert (made.path / "project.json").read_bytes() == content


def test_no_file_of_a_record_leads_out_of_the_project():
    with pytest.raises(ValueError, match="pattern"):
        annotation(file="../../x.ome.zarr")


def test_the_record_knows_what_was_painted_last():
    both = ProjectRecord(image=record()).with_annotation(annotation("a.ome.zarr", 3))
    both = both.with_annotation(annotation("b.ome.zarr", 2))
    assert both.latest is not None
    assert both.latest.file == "a.ome.zarr"
    assert len(both.with_annotation(annotation("b.ome.zarr", 4)).annotations) == 2


def test_files_of_annotation_have_names_that_are_free(tmp_path):
    made = begin_project(record(), [tmp_path])
    first = made.new_annotation_file("a/b: <img>")
    first.mkdir()
    second = made.new_annotation_file("a/b: <img>")
    assert first.parent == second.parent == made.annotations
    assert first != second


def test_the_file_of_an_image_is_found_without_what_chooses_an_array(tmp_path):
    file = tmp_path / "a.h5"
    file.write_bytes(b"")
    assert image_file(f"{file}:/raw/c0") == file
    assert image_file(str(file)) == file
    assert image_file("") is None
    assert image_file(str(tmp_path / "b.tif")) is None
    assert begin_project(record(f"{file}:/raw/c0"), []).path.parent == tmp_path


def test_within_a_zarr_nothing_is_written(tmp_path):
    inner = tmp_path / "a.zarr" / "0"
    inner.mkdir(parents=True)
    for folder in (inner, inner.parent):
        (folder / "zarr.json").write_text("{}")
    assert begin_project(record(inner), []).path.parent == tmp_path


def test_recent_projects_are_listed_newest_first_as_long_as_they_are_there(tmp_path):
    file = tmp_path / "own" / "recent.json"
    made = [begin_project(record(voxels=VOXELS + n), [tmp_path]) for n in range(3)]
    for project in (*made, made[0]):
        remember_project(file, project)
    assert [project.path for project in recent_projects(file)] == [made[0].path, made[2].path, made[1].path]
    shutil.rmtree(made[2].path)
    assert [project.path for project in recent_projects(file)] == [made[0].path, made[1].path]
    file.write_text("{")
    assert recent_projects(file) == []


def test_of_several_projects_of_an_image_that_comes_first_in_which_was_painted_last(tmp_path):
    made = [begin_project(record(), [tmp_path]) for _ in range(3)]
    for project, day in zip(made, (2, 3, 1), strict=True):
        project.update(lambda old, day=day: old.with_annotation(annotation(day=day)))
    assert [project.path for project in find_projects(record(), [tmp_path])] == [made[n].path for n in (1, 0, 2)]


def test_a_renamed_image_finds_its_project_after_one_that_is_called_after_it(image, tmp_path):
    made = begin_project(record(image), [tmp_path / "home"])
    made.update(lambda old: old.with_annotation(annotation(day=9)))
    made.release()
    other = record(image.with_name("other.tif"), voxels=VOXELS + 1, name="other")
    begin_project(other, [tmp_path / "home"]).release()
    renamed = image.with_name("brain.tif")
    image.rename(renamed)
    assert [project.path.name for project in find_projects(record(renamed), [])] == ["cells.tif.unet3d-project"]
    named = begin_project(record(renamed), [tmp_path / "home"])
    named.release()
    names = [project.path.name for project in find_projects(record(renamed), [])]
    assert names == ["brain.tif.unet3d-project", "cells.tif.unet3d-project"]


def test_projects_that_are_kept_elsewhere_are_found_after_a_renaming_too(image, tmp_path):
    home = tmp_path / "home"
    made = begin_project(record(image), [home], is_beside=False)
    made.release()
    image.rename(image.with_name("brain.tif"))
    assert find_project(record(image.with_name("brain.tif")), [home]).path == made.path


def test_a_stray_file_makes_no_zarr_of_the_folder_of_an_image(image, tmp_path):
    for folder in (tmp_path, image.parent):
        (folder / "zarr.json").write_text("{}")
    made = begin_project(record(image), [tmp_path / "home"])
    made.release()
    assert made.path == image.parent / "cells.tif.unet3d-project"
