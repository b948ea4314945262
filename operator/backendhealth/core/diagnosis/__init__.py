"""From what is believed of each component to causes, what they explain, and what users notice. Pure."""
