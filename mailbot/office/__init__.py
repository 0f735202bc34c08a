"""Staff work: roster import, exports, policy in words, key changes."""
