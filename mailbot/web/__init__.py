"""Members' pages and, beside them, the door for operators. Knows HTTP and nothing of mail."""
