"""Who may call, which routes there are, and how much each caller may ask for."""
