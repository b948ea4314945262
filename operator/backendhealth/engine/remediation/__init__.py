"""From rulings to Remediations, and each through its phases. Every port is handed in."""
