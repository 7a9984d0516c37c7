"""From the text of a spec file to a checked spec, with a place for every problem."""
