"""DNSSEC: is an answer what the owner of its zone signed (RFC 4033 to 4035, RFC 5155, RFC 6840, RFC 9276)?

`Validator.validate` is a generator without input or output: it asks for the keys and delegations that it misses, and
comes back with an `Outcome`. Signatures and records are dnspython's; which of them prove what is decided here. Nothing
of this is imported before somebody wants names validated.
"""
