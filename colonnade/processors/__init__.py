"""One room per processor."""
