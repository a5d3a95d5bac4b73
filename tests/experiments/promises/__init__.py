"""What the experiments promise."""
