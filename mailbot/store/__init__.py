"""Tables, engine set-up for both databases, migrations. Bytes stay bytes: this room seals and opens nothing."""

from mailbot.store.engine import Store, new_id, open_store

__all__ = ["Store", "new_id", "open_store"]
