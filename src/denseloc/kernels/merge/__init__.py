"""See naive.py for the definition."""
