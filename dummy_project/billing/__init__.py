"""A billing system, as it would run elsewhere: it keeps what customers have to their credit.

It knows of the shop only what it is told by the shop's calls, and of customers only their hashes.
Nothing in here touches the tables of the suite.
"""
