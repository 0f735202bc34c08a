"""`mailbot demo`: the whole robot on one machine with invented members, its mail kept in a built-in mailbox.

Nothing leaves the machine, and everything is gone at the end. The tour goes through the same doors as people do.
"""

from mailbot.demo.run import run

__all__ = ["run"]
