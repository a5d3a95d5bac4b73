"""Payouts: to make, to send, and to note what became of them."""
