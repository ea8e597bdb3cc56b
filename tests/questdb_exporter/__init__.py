"""The `questdb` exporter, against a real server."""
