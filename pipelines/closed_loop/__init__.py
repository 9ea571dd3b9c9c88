"""Closed loop over served traffic: export, monitoring, drift, off-policy evaluation, retraining."""
