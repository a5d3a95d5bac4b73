"""Accounts, and what came into them and why."""
