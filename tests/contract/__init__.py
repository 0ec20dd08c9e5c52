"""Contract runs: real requests, through gunicorn, to servers that check them against the vendors' own documents.

`make contract` runs them; they need npm and the network, so they are no part of `make test`. Nothing here is collected
by pytest.
"""
