"""What the reference pages are made with."""
