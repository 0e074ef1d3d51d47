"""A proof by planting: a user's own graph with texts in every input and answer, and all that was stored searched."""
