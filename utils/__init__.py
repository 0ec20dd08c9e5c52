"""Leaves: small modules that know nothing of the product."""
