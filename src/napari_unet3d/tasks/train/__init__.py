"""Training: what is learnt from, the loop, and the folder that keeps it."""
