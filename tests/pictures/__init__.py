"""Pictures of every page of the panel, of a gateway that somebody might have: `make pictures`."""
