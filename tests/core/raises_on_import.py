"""A module of a site that is broken."""

raise RuntimeError("this module is broken")
