"""The files of a run that keeps its work: what its tiles write to, with a record of each in the ledger."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.core.objects.table import ObjectTable
from napari_unet3d.tasks.segment.output_place import evidence_of, has_numbers
from napari_unet3d.tasks.segment.predict import Sinks
from napari_unet3d.tasks.segment.work.ledger import Ledger
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.volumes.outputs.base import Output, OutputSpec
from napari_unet3d.volumes.outputs.creating import open_output


@dataclass
class KeptOutputs:
    """What a run writes to.

    Clean-up makes the result only when the number of objects is known, so that it has the smallest type that holds
    their numbers; until then the tiles write evidence alone.

    Attributes
    ----------
    ledger
        Of the run.
    found
        What the result is.
    numbered
        Whether it numbers objects.
    described, store
        What the tiles write, and where it lies.
    tiles
        The same, open.
    objects
        What takes note of the objects; None where nobody asks.
    """

    ledger: Ledger
    found: OutputSpec
    numbered: bool
    described: OutputSpec
    store: Path
    tiles: Output
    objects: ObjectTable | None
    _stack: ExitStack
    _result: Output | None = None

    @property
    def sinks(self) -> Sinks:
        """Return the same for `predict`."""
        is_evidence = self._result is None
        return Sinks(
            self.tiles, cleaned=self._open_cleaned if is_evidence else None, table=self.objects, keep=self._keep
        )

    @property
    def result(self) -> Output:
        """Return the result, once all its voxels are written."""
        if self._result is None:
            raise ValueError("there is no result yet")
        return self._result

    def commit(self) -> None:
        """Put the result in its place, and forget the run."""
        try:
            self.result.commit()
        finally:
            # Also where a target has appeared meanwhile, and the result was put beside it.
            if not os.path.lexists(self.ledger.result):
                self.ledger.clear()

    def keep_written(self, input_shape: Shape, box: Box) -> None:
        """Record a tile that another process has brought onto the disk."""
        self.tiles.expect(box.slices)
        self.ledger.record(input_shape, box)

    def _keep(self, input_shape: Shape, box: Box) -> None:
        self.tiles.sync()
        self.ledger.record(input_shape, box)

    def _open_cleaned(self, n_objects: int) -> Output:
        found = replace(self.found, dtype=smallest_dtype(n_objects)) if self.numbered else self.found
        self._result = self._stack.enter_context(open_output(found, self.ledger.result))
        return self._result


@contextmanager
def open_kept(
    ledger: Ledger, found: OutputSpec, spec: PredictSpec, objects: ObjectTable | None = None
) -> Iterator[KeptOutputs]:
    """Open what a run writes to, or what it has written before; what is there at the end of the block stays.

    Parameters
    ----------
    ledger
        Of the run.
    found
        What the result is.
    spec
        The choices for the run.
    objects
        What takes note of the objects; None where nobody asks.

    Raises
    ------
    OutputError
        If it cannot be written, or something that was done is not there any more.
    """
    has_evidence = spec.cleanup is not None
    described = evidence_of(found) if has_evidence else found
    where = ledger.evidence if has_evidence else ledger.result
    with ExitStack() as stack:
        tiles = stack.enter_context(open_output(described, where, goes_on=bool(len(ledger))))
        for box in (box for done in ledger.done for box in done.boxes):
            tiles.expect(box.slices)
        result = None if has_evidence else tiles
        yield KeptOutputs(ledger, found, has_numbers(spec), described, where, tiles, objects, stack, result)


def smallest_dtype(n_objects: int) -> np.dtype[np.unsignedinteger]:
    """Return the smallest type of labels that numbers so many objects.

    Examples
    --------
    >>> smallest_dtype(255), smallest_dtype(256)
    (dtype('uint8'), dtype('uint16'))
    """
    return np.dtype(np.min_scalar_type(min(n_objects, np.iinfo(np.uint32).max)))
