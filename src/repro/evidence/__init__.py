"""What runs say: intervals, tables over seeds, tuned learning rates, and what a claim and its verdict are. No torch."""
