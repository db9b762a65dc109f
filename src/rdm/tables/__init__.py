"""Our scores beside the paper's numbers. No torch here."""
