"""Projects: what belongs to one image, kept on disk while a person works on it."""
