"""What is owed to whom, why, since when, and whether it was paid."""
