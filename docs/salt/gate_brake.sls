# /srv/salt/gate_brake.sls: fails on a host where the rollout gate holds something up that does not pass by itself.
# Whose turn has not come (Full, RateLimited, Busy, OutsideWindow, Frozen) is no reason to stop anybody.
{% set stops = ('Halted', 'Paused', 'RuleMissing', 'RuleUnreadable', 'GateUnreachable', 'GateRefused') %}
{% set told = salt['porto_daemon.gate_status']() %}
{% for name, standing in told['daemons'].items() if standing['reason'] in stops %}
gate_of_{{ name }}:
  test.fail_without_changes:
    - name: {{ (name ~ ' waits: ' ~ standing['reason'] ~ ': ' ~ standing['message']) | yaml_dquote }}
{% else %}
gate:
  test.succeed_without_changes:
    - name: the gate stops nothing here
{% endfor %}
