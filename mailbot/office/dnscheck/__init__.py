"""Does the world's DNS say what our mail needs? The records each domain should have, and what is there instead."""
