"""The unified event: its columns, and the attributes that feed them."""

from colonnade.unified_schema.columns import Column, OtelAttribute, arrow_schema, columns, otel_attributes

__all__ = ["Column", "OtelAttribute", "arrow_schema", "columns", "otel_attributes"]
