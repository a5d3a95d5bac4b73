"""Short links that carry a click to its landing page, and pay it out once when it has sold."""
