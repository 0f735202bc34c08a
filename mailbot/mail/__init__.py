"""The words of mail: addresses, envelopes, reply codes, header facts, signing. No I/O, no clock, no configuration."""
