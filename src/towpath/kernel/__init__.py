"""What Towpath asks of an operating system: plain values, typed protocols, and the one place that chooses an answer.

`towpath.kernel.system` is that place.
"""
