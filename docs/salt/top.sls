# /srv/salt/top.sls
base:
  '*':
    - porto_daemons
