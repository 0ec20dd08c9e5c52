"""How callers speak. A dialect parses and checks a request; it opens nothing."""
