"""Jobs: what runs, as data that can be sent to a worker or kept in a file."""
