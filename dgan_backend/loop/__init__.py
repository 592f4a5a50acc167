"""The loop: corrections in, versions trained, predictions and synthetic tasks out."""
