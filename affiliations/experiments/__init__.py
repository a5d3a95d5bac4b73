"""Experiments: who sees which variation of a campaign, and what comes of it."""
