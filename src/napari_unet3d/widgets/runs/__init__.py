"""What a window keeps: its session, and the runs it follows."""
