"""Augmentation of the frames of a clip: what is drawn is drawn once for all its frames."""
