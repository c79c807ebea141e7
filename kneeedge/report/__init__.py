"""What commands print, and the model card."""
