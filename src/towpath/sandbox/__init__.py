"""One `towpath run`: a sandbox for one command, and the relay that gives it the network it was allowed."""
