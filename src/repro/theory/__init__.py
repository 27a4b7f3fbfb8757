"""What theory says, in closed form: a library of its own, of numpy and scipy alone."""
