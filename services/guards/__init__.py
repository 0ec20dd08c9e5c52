"""Policies at work: what is found in requests and answers is decided about here, see services/guards/guard.py."""
