"""Exporters: one room per component, named as in YAML."""
