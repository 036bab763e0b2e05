"""The main job in a little internet of its own: `make demo`."""
