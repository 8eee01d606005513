"""What was painted: what its values mean, what is held out, and where patches are cut."""
