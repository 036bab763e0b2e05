"""The Linux answer to `towpath.kernel`: one module a facility, mechanism and never policy.

The modules that a run needs before its command is executed import little, because `towpath run` must start fast.
"""
