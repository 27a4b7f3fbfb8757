"""Trials that were run: where they are kept, with what provenance, what they cost, and whether they come out again."""
