from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from napari_unet3d import errors
from napari_unet3d.core.boxes import Box
from napari_unet3d.engine.local import wire
from napari_unet3d.tasks.events import Note, Progress, Started, TileDone

counts = st.integers(0, 10**9)
intervals = st.tuples(counts, counts)
shapes = st.tuples(counts, counts, counts)
events = st.one_of(
    st.builds(Started, counts, shapes, st.text(), counts),
    st.builds(TileDone, st.builds(Box, intervals, intervals, intervals), counts, counts, st.floats(0, 1e9)),
    st.builds(Progress, st.text(), counts, counts),
    st.builds(Note, st.text()),
)


@given(events)
def test_an_event_arrives_as_it_was_sent(event):
    assert wire.event_from_wire(json.loads(json.dumps(wire.event_to_wire(event)))) == event


@given(st.text())
def test_an_error_keeps_its_kind_and_its_words(words):
    arrived = wire.error_from_wire(json.loads(json.dumps(wire.error_to_wire(errors.VolumeError(words)))))
    assert type(arrived) is errors.VolumeError
    assert str(arrived) == words


@given(st.integers(0, 99), st.integers(1, 99), st.integers(1, 1 << 24))
def test_pieces_cover_a_box_once_and_fit(start, depth, bytes_per_plane):
    box = (slice(start, start + depth), slice(2, 5))
    found = list(wire.pieces(box, bytes_per_plane))
    planes = [z for piece, _ in found for z in range(piece.start, piece.stop)]
    assert planes == list(range(start, start + depth))
    assert all(rest == slice(2, 5) for _, rest in found)
    # A plane is not cut, however large.
    assert all(
        (piece.stop - piece.start) * bytes_per_plane <= max(wire.PIECE_BYTES, bytes_per_plane) for piece, _ in found
    )
