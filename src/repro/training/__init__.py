"""How a trial is trained: its data, its model, its optimizer, and the only training loop."""
