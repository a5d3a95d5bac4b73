"""A partner's own site, as it would run elsewhere: a blog, and what the shop calls back.

It knows of the shop only what the shop's staff would tell a partner: an address, a uid and a
signing secret. Nothing in here touches the tables of the suite.
"""
