"""What a run has done, kept beside its result until that is complete."""
