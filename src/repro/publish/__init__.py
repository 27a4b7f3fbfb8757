"""What a reader sees: figures, the pieces of a page, and the site that is built of them."""
