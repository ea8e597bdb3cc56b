"""Colonnade: an OpenTelemetry Collector-compatible telemetry daemon whose rows are columns."""

__version__ = "0.1.0"
