"""What labels cost beside the picture alone, and beside the original's way of making them."""
