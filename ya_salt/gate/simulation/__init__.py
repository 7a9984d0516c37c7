"""A rollout played on a fleet and a clock that are not there. Pure."""
