# Every minion gets the daemons; give them to fewer with another target.
base:
  '*':
    - porto_daemons
