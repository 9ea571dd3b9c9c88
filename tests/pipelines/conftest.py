"""Credentials that the S3 server of the tests takes; Ray's workers see what is set before the cluster starts."""

import os

os.environ.setdefault("AWS_ACCESS_KEY_ID", "testing")
os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "testing")
