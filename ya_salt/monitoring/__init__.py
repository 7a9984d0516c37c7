"""Tell those who watch the host how its daemons stand. Nothing here can fail or delay a pass."""
