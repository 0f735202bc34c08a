"""The words of mail: addresses, envelopes, reply codes, header facts, signing. Pure: no I/O, no clock, no configuration."""
