"""The fleet-wide gate: who may disturb a running daemon, where, and how many at once."""
