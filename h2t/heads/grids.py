"""The settings of heads: eight each, so that none gains by having been tried more often."""

BUDGET = 8
# at features of one length; lower ones end before ten epochs have taught a head what they can
RATES = (0.1, 0.4)
DECAYS = (5e-4, 2e-3, 8e-3, 3e-2)
RATES_AND_DECAYS = [{"lr": lr, "weight_decay": wd} for lr in RATES for wd in DECAYS]
RATIOS = (0.15, 0.3, 0.45, 0.6)


def strengths(values, decays=(5e-4, 2e-3), lr: float = 0.4) -> list[dict]:
    """Four strengths by two weight decays."""
    return [{"strength": s, "weight_decay": wd, "lr": lr} for s in values for wd in decays]


def after_probe(name: str, values, decays=(5e-4, 8e-3)) -> list[dict]:
    """Four values of what a head does to a linear probe, by two weight decays of the probe."""
    return [{name: v, "probe_weight_decay": wd, "probe_lr": 0.4} for v in values for wd in decays]
