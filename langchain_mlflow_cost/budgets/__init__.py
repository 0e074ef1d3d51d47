"""Budgets: what may still be spent, here and in a Redis that processes share."""
