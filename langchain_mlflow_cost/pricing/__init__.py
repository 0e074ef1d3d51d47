"""What a model call used and what it costs: pure, values in, values out."""
