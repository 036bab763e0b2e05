"""Rules of who may talk to whom: parse, decide, explain. Pure values; nothing here opens, waits or asks the system."""
