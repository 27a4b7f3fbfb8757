"""What is measured of a trial's network while it trains and at its end: measures applied to a trial."""
