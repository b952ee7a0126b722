"""The settings of heads: eight each, so that none gains by having been tried more often."""

# at features of one length; lower rates end before ten epochs have taught a head what they can
RATES_AND_DECAYS = [
    {"lr": lr, "weight_decay": wd} for lr in (0.1, 0.4) for wd in (5e-4, 2e-3, 8e-3, 3e-2)
]


def strengths(values) -> list[dict]:
    """Four strengths by two weight decays."""
    return [{"strength": s, "weight_decay": wd, "lr": 0.4} for s in values for wd in (5e-4, 2e-3)]


def after_probe(name: str, values) -> list[dict]:
    """Four values of what a head does to a linear probe, by two weight decays of the probe."""
    decays = (5e-4, 8e-3)
    return [{name: v, "probe_weight_decay": wd, "probe_lr": 0.4} for v in values for wd in decays]


RATIOS = strengths((0.15, 0.3, 0.45, 0.6))  # of heads that swap channels
