"""The numbers: sizes, tiles, intensities, components. No files, no Keras, no Qt."""
