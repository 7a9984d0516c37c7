"""The commands `ya-salt …`: arguments, tables, exit codes; no decisions."""
