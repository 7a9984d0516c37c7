# /srv/salt/agent.sls: a daemon that a team of its own keeps in Salt, with what belongs to it.
include:
  - porto_daemons

/etc/agent.conf:
  file.managed:
    - contents: |
        interval = 10
    - mode: '0644'

agent:
  porto_daemon.managed:
    - version: '1.0'
    - properties:
        cmd: [sleep, '1000']
        isolate: false
        memory_limit: 64Mb
    - min_ready_s: 1
    - watch:
      - file: /etc/agent.conf
