"""Noughts and crosses between two machines on one link: found by Bonjour, kept private by a shared key."""
