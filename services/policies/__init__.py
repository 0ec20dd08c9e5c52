"""What policies look for in texts, and how texts are rewritten. Pure: no database, no sockets, no settings, no web.

`kinds` says what can be found, `scan` finds it, `rewrite` takes it out, whole or in pieces, and puts it back.
"""
