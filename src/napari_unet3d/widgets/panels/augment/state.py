"""What the tab Augment shows, derived from facts: no Qt, no napari."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_unet3d.widgets.runs.preview import Preview


@dataclass(frozen=True)
class Made:
    """What is known of the last patch that was asked for.

    Attributes
    ----------
    error
        Why there is none, or nothing.
    is_active
        It is being made.
    folded
        Which share of each patch the displacement folds over itself; None before there is a patch.
    seconds, preparing_seconds
        What it took.
    notes
        What the user should know.
    """

    error: str = ""
    is_active: bool = False
    folded: Sequence[float] | None = None
    seconds: float = 0.0
    preparing_seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, preview: Preview) -> Made:
        """Return what is known of the patch of a preview."""
        error, result = "" if preview.error is None else str(preview.error), preview.result
        if result is None:
            return cls(error, preview.is_active)
        notes = tuple(preview.notes)
        return cls(error, preview.is_active, result.folded, result.seconds, result.preparing_seconds, notes)


@dataclass(frozen=True)
class AugmentState:
    """All that the tab says, and whether a patch can be shown."""

    problem: str = ""
    sentence: str = ""
    is_warning: bool = False
    folded: str = ""

    @property
    def can_show(self) -> bool:
        """Return whether a patch can be shown."""
        return not self.problem


def resolve(problem: str, made: Made | None, *, is_preset: bool = False) -> AugmentState:
    """Return what is shown.

    Parameters
    ----------
    problem
        Why no patch can be shown, or nothing.
    made
        The last patch; None before one was asked for.
    is_preset
        Whether the choices are as they come: then little folds are meant, and are no reason for a warning.
    """
    if made is None:
        return AugmentState(problem)
    if made.error:
        return AugmentState(problem, made.error, is_warning=True)
    if made.is_active:
        return AugmentState(problem, "Making the patch ..")
    if made.folded is None:
        return AugmentState(problem)
    seconds = made.preparing_seconds
    prepared = f", after {seconds:.1f} s to prepare" if seconds > 0.5 else ""
    share = max(made.folded)
    said = " ".join([f"Made in {1000 * made.seconds:.0f} ms{prepared}; {share:.1%} folded.", *made.notes])
    folded = f"Bending folds {share:.1%} of the patch over itself. Make it less strong, or wider."
    return AugmentState(problem, said, folded=folded if share and not is_preset else "")
