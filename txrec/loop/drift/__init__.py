"""Drift: days of a log and live traffic compared with earlier days, with alarms and data checks."""
