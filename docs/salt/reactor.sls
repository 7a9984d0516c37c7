# /srv/reactor/porto_daemon.sls
# A daemon is not ready: let that minion converge that daemon now, instead of with the schedule.
{% set minion = data.get('id', '') %}
{% set daemon = data.get('name', '') %}
{% if minion and daemon %}
converge_{{ daemon | yaml_encode }}:
  local.porto_daemon.apply:
    - tgt: {{ minion | yaml_dquote }}
    - args:
      - name: {{ daemon | yaml_dquote }}
{% endif %}
