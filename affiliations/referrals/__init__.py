"""Users who bring users, and the credits that both get for it."""
