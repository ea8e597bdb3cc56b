"""Connectors: the end of some pipelines and the start of others; one room per component, named as in YAML."""
