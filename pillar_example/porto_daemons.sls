# What ya-salt does on a host, as pillar. Every key but `daemons` is a setting of
# /etc/hostman/ya-salt.yaml (docs/settings.md) and goes over it.
porto_daemons:
  # Daemons whose containers are worked on side by side.
  parallel: 4
  # Seconds to wait for another apt or dpkg.
  lock_timeout_s: 300

  monitoring:
    # Who is not there is not told; docs/settings.md has all sinks.
    yasm:
      enabled: true
      tags:
        itype: hostman
    juggler:
      enabled: true
    prometheus:
      enabled: true

  # Whom to ask before a running daemon is disturbed: docs/rollout.md. With `type: orly` it also wants
  # `endpoints`, the URLs of etcd.
  gate:
    type: none
    facts:
      stage: canary

  # Laid down as /etc/hostman/porto-daemons.d/pillar-NAME.yml. To remove a daemon say
  # `delete_requested: true`; taking it out of here leaves it running.
  daemons:
    heartbeat:
      version: "1.0"
      properties:
        cmd: [sh, -c, 'while sleep 10; do date; done']
        isolate: false
        memory_limit: 64Mb
        cpu_limit: 0.1c
      min_ready_s: 1
      # As in a file: docs/lifecycle.md.
      readiness:
        exec: ["true"]
        period_s: 60
      update:
        max_failures: 2
      watch:
        - path: /etc/heartbeat.conf
    old-heartbeat:
      delete_requested: true

# Converge every 15 minutes, not all hosts at once, and never twice at the same time.
schedule:
  porto_daemons:
    function: state.apply
    args:
      - porto_daemons
    minutes: 15
    splay: 300
    maxrunning: 1
    jid_include: true
    return_job: false

# `salt '*' mine.get '*' porto_daemons` then shows the fleet.
mine_functions:
  porto_daemons:
    - mine_function: porto_daemon.status
    - summary: true

# Tell the master what happens to daemons between passes.
beacons:
  porto_daemon:
    - interval: 30
    - events:
      - not_ready
      - ready
      - respawned
      - changed
