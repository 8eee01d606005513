"""The operations of `heads.base.Ops` on arrays whose voxels are parted into blocks: sums are those of each block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.heads import numpy_ops


@dataclass(frozen=True, eq=False)
class BlockOps:
    """Operations on (voxels, ..) arrays, whose sums over voxels are (blocks, ..).

    Parameters
    ----------
    block
        (voxels,) integers from 0 on: the block of each voxel.
    n_blocks
        How many blocks there are.

    Examples
    --------
    >>> BlockOps(np.array([0, 1, 1]), 2).sum(np.array([[1.0], [2.0], [3.0]]), (0,)).tolist()
    [[1.0], [5.0]]
    """

    block: npt.NDArray[np.integer[Any]]
    n_blocks: int

    cast = staticmethod(numpy_ops.cast)
    equal = staticmethod(numpy_ops.equal)
    where = staticmethod(numpy_ops.where)
    one_hot = staticmethod(numpy_ops.one_hot)
    log_softmax = staticmethod(numpy_ops.log_softmax)
    exp = staticmethod(numpy_ops.exp)
    argmax = staticmethod(numpy_ops.argmax)
    maximum = staticmethod(numpy_ops.maximum)
    mean = staticmethod(numpy_ops.mean)
    convert_to_tensor = staticmethod(numpy_ops.convert_to_tensor)

    def sum(self, x: Any, axis: tuple[int, ...] | None = None) -> Any:
        """Return the sums over the voxels of each block, in float64.

        Raises
        ------
        ValueError
            If it shall sum along anything but the voxels.
        """
        if axis != (0,):
            raise ValueError(f"sums of blocks are over voxels, axis 0, not {axis}")
        x = np.asarray(x)
        columns = x.reshape(len(x), -1).T
        sums = [np.bincount(self.block, weights=column, minlength=self.n_blocks) for column in columns]
        return np.stack(sums, axis=-1).reshape(self.n_blocks, *x.shape[1:])
