"""Images → predictions, rows and reports; labelled folders → figures."""
