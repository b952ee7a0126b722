"""Losses, one idea per file: functions of (logits, labels, counts). A new one is a file and an entry here."""

from h2t.losses.cross_entropy import cross_entropy

LOSSES = {"ce": cross_entropy}
