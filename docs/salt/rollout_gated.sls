# /srv/salt/orch/rollout_gated.sls:
#     salt-run state.orchestrate orch.rollout_gated pillar='{"batches": ["canary*", "dc1-*", "*"]}'
# Batch after batch. The gate says how many hosts of a batch change at once; where it halts, is paused or cannot be
# asked, or a host of the batch fails, no further batch is begun.
{% set batches = salt['pillar.get']('batches', ['*']) %}
{% for batch in batches %}
converge_{{ loop.index }}:
  salt.state:
    - tgt: {{ batch | yaml_dquote }}
    - sls:
      - porto_daemons
{% if not loop.first %}
    - require:
      - salt: brake_{{ loop.index0 }}
{% endif %}

brake_{{ loop.index }}:
  salt.state:
    - tgt: {{ batch | yaml_dquote }}
    - sls:
      - gate_brake
    - require:
      - salt: converge_{{ loop.index }}
{% endfor %}
