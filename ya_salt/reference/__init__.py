"""What may stand in spec files, rules and settings, told to people and to editors. See `fields`."""
