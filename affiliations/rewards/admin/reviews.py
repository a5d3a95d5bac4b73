"""Reviews: what is held until somebody has decided on it."""
