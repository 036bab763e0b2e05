"""The framers that come with Towpath, one a module."""
