"""The agent: somebody who makes the passes, when something has changed and once in a while."""
