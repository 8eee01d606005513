"""Heads: what the channels of a network's last layer mean, how they are learnt, scored and turned into labels."""
