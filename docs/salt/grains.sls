# /srv/salt/grains.sls: the daemons, and grains that tell them as they are now.
include:
  - porto_daemons

porto-daemons-grains:
  module.run:
    - saltutil.refresh_grains: []
    - onchanges:
      - sls: porto_daemons
