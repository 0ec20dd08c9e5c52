"""The books: the only statements that move money. One transaction admits a call, one settles it.

Statements are hand-written for the database's own driver: the same pair costs 15 times more through the ORM.
"""
