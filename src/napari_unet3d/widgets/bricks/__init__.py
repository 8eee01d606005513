"""Parts that panels are built of; none knows a session."""
