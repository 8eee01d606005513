"""What goes through the pipe between window and worker: events and errors as JSON, voxels as shared memory.

Large boxes go in pieces, so that shared memory stays small: containers often have 64 MiB of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import TypeAdapter

from napari_unet3d import errors
from napari_unet3d.tasks.events import Event

PIECE_BYTES = 8 << 20
_EVENTS = {kind.__name__: TypeAdapter(kind) for kind in get_args(Event)}

# Kinds of messages from the worker.
EVENT, READ, WRITE, WRITTEN = "event", "read", "write", "written"


def event_to_wire(event: Event) -> dict[str, Any]:
    """Return an event as numbers, texts and lists."""
    return {"kind": EVENT, "type": type(event).__name__, "fields": dataclasses.asdict(event)}


def event_from_wire(message: dict[str, Any]) -> Event:
    """Return the event that `event_to_wire` was given."""
    event: Event = _EVENTS[message["type"]].validate_python(message["fields"])
    return event


def error_to_wire(error: errors.Unet3dError) -> dict[str, str]:
    """Return an error that a user can act on."""
    return {"type": type(error).__name__, "text": str(error)}


def error_from_wire(message: dict[str, str]) -> errors.Unet3dError:
    """Return the error that `error_to_wire` was given."""
    kind = getattr(errors, message["type"], errors.Unet3dError)
    error: errors.Unet3dError = kind(message["text"])
    return error


def pieces(box: tuple[slice, ...], bytes_per_plane: int) -> Iterator[tuple[slice, ...]]:
    """Cut a box along its first axis into pieces that fit into shared memory.

    Examples
    --------
    >>> [piece[0] for piece in pieces((slice(2, 7), slice(0, 9)), PIECE_BYTES // 2)]
    [slice(2, 4, None), slice(4, 6, None), slice(6, 7, None)]
    """
    first, *others = box
    depth = max(1, PIECE_BYTES // max(1, bytes_per_plane))
    for start in range(first.start, first.stop, depth):
        yield (slice(start, min(start + depth, first.stop)), *others)
