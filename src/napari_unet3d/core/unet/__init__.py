"""The network as a description: its layers, sizes and costs."""
