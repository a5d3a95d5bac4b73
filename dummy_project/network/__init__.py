"""An affiliate network, as it would run elsewhere: HasOffers/TUNE in miniature.

Publishers take links from it, it counts the clicks on them, and advertisers report to it what came
of a click. It knows of the shop only what the shop's staff would enter there: an offer's address.
Nothing in here touches the tables of the suite.
"""
