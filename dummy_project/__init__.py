"""A shop with one affiliate partner, to see the suite at work: `python -m dummy_project`."""
