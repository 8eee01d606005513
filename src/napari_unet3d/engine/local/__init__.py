"""The worker process on this machine, and what passes between it and the program."""
