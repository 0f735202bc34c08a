"""The way out: one durable queue, the courier that empties it, and the relay that takes the mails."""
