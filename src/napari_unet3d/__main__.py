"""`python -m napari_unet3d` is the command line."""

from napari_unet3d.cli import main

main()
