"""Facts of others that change: written by `scripts/update_data.py`, which names their sources, and not by hand."""
