"""Experiments in served slates: their lifecycle, participation, interleaving and exploration."""
