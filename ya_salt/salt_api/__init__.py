"""What Salt's adapters need of the core, in plain data; imports nothing of Salt.

The adapters in `_modules`, `_states` and `_beacons` may be copies that `saltutil.sync_all` made
long ago, so each checks `API` against its own number before it does anything.
"""

API = 1
"""Goes up whenever an adapter and the core of different ages would misunderstand each other."""
