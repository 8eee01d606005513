"""What napari shows: the only room that knows napari, magicgui and Qt."""
