"""What this machine computes with: devices, their memory, and how TensorFlow is set up on them."""
