"""What a run leaves on disk: its folder, checkpoints and history, and how a run goes on from them."""
