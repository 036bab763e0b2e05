"""Answering the questions of others: a cache of answers as bytes, whom to ask, and what is on its way.

Nothing here opens a socket, reads a clock or knows of a policy: messages and seconds in, messages out. What drives it
is `towpath.hosting`; the client that asks for itself is `towpath.names`.
"""
