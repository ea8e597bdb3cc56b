"""Configuration, graph, start and stop, reload, own telemetry, command line."""
