# /srv/salt/orch/rollout.sls: salt-run state.orchestrate orch.rollout
# Hosts one after another; the first that fails stops the rest. For fleets without the gate.
converge_daemons:
  salt.state:
    - tgt: '*'
    - sls:
      - porto_daemons
    - batch: 1
    - failhard: true
