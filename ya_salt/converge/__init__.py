"""One pass over the host: look, decide, act, say how it stands."""
