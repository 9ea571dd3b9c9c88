"""Offline evaluation: requests and ground truth (`protocol`), metrics (`metrics`), confidence intervals and tests
(`bootstrap`), baselines (`baselines`), and an HTML report (`report`).
"""
