"""Bytes to values and back, pure: no module here opens, waits or asks the system.

Whatever comes from outside is checked length by length; what breaks its protocol raises `PeerViolation` with a short,
stable `fault`.
"""
