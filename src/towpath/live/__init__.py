"""The live view of a run: what its manager tells, as a board of flows, and as a picture in a terminal."""
