"""Each receiver's own form of the metrics. Pure."""
